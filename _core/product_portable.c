/* product_portable.c - low-rank products, portable C: the definition (contract: vb_product_fn). */
#include "arith_scalar.h"

/* a * b + c, rounded once to nearest even. In double the product is exact. The sum is rounded there
 * to odd (toward zero, and if that was inexact the last bit is set), by way of the error of the
 * rounded sum, which is exact as well. Double has more than two bits beyond those of float, and its
 * range: what was rounded to odd rounds to float as if directly. (fmaf of a C library without the
 * instruction goes through the floating-point environment, ten times as slowly.) */
static inline float fused(float a, float b, float c) {
  const double product = (double)a * (double)b, addend = c, sum = product + addend;
  const double back = sum - product;
  const double error = (product - (sum - back)) + (addend - back);
  const vb_f64 bits = vb_double_bits(sum);
  const vb_f64 inexact = (error > 0) | (error < 0); /* not where the sum is not finite */
  const vb_f64 toward_zero = (bits ^ vb_double_bits(error)) >> 63;
  const vb_f64 step = (1 - 2 * toward_zero) & (0 - (inexact & ~bits & 1));
  return (float)vb_double(bits + step);
}

static void product_portable(void *out, const void *left, const void *right, size_t rows,
                             size_t rank, size_t cols, float scale) {
  const vb_fp_env env = vb_fp_begin();
  for (size_t i = 0; i < rows; i++) {
    for (size_t at = 0; at < cols; at += VB_STRIP) {
      const size_t count = cols - at < VB_STRIP ? cols - at : VB_STRIP;
      float sum[VB_STRIP] = {0};
      for (size_t k = 0; k < rank; k++) {
        const float a = vb_float(vb_load_f32(left, i * rank + k));
        const uint8_t *b = VB_AT(right, f32, k * cols + at);
        for (size_t j = 0; j < count; j++) sum[j] = fused(a, vb_float(vb_load_f32(b, j)), sum[j]);
      }
      for (size_t j = 0; j < count; j++) {
        const vb_f32 v = vb_float_bits(sum[j] * scale);
        vb_store32(VB_AT_OUT(out, f32, i * cols + at + j), vb_nan_f32(v) ? 0x7FC00000u : v);
      }
    }
  }
  vb_fp_end(env);
}

void vb_product_portable(vb_kernels *k) { k->product = product_portable; }
