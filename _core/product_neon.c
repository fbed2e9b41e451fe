/* product_neon.c - low-rank products with base ARMv8-A (contract: vb_product_fn). */
#include "vec_neon.h"

enum { PRODUCT_ROWS = 6, PRODUCT_VECTORS = 4, PRODUCT_DEPTH = 256 };

static inline vec_f32 vec_set_f32(float x) { return vdupq_n_f32(x); }
static inline vec_f32 vec_mul_f32(vec_f32 x, vec_f32 y) { return vmulq_f32(x, y); }
static inline vec_f32 vec_fma_f32(vec_f32 x, vec_f32 y, vec_f32 z) { return vfmaq_f32(z, x, y); }
static inline vec_f32 vec_one_nan_f32(vec_f32 v) {
  const uint32x4_t nan = vdupq_n_u32(0x7FC00000u);
  return vreinterpretq_f32_u32(vbslq_u32(vceqq_f32(v, v), vreinterpretq_u32_f32(v), nan));
}

#include "product_simd.h"

void vb_product_neon(vb_kernels *k) { k->product = product_simd; }
