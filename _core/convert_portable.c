/* convert_portable.c - rounding to another element type, portable C: the definition (contract:
 * vb_convert_fn). */
#include "arith_scalar.h"

#define DEFINE_CONVERT(F, T, W)                                                          \
  size_t vb_convert_##F##_##T##_portable(void *out, const void *in, size_t n) {          \
    const vb_fp_env env = vb_fp_begin();                                                 \
    size_t first = n;                                                                    \
    for (size_t at = 0; at < n; at += VB_STRIP) {                                        \
      const size_t count = n - at < VB_STRIP ? n - at : VB_STRIP;                        \
      vb_##T strip[VB_STRIP];                                                            \
      unsigned seen = 0;                                                                 \
      for (size_t i = 0; i < count; i++) {                                               \
        const vb_##F x = vb_load_##F(in, at + i);                                        \
        strip[i] = vb_narrow_##W##_##T(vb_widen_##F##_##W(x));                           \
        seen |= (unsigned)vb_nonfinite_##T(strip[i]) & (unsigned)!vb_nonfinite_##F(x);   \
      }                                                                                  \
      if (seen && first == n) {                                                          \
        first = at;                                                                      \
        while (!vb_nonfinite_##T(strip[first - at]) ||                                   \
               vb_nonfinite_##F(vb_load_##F(in, first)))                                 \
          first++;                                                                       \
      }                                                                                  \
      VB_STORE_STRIP(T, out, at, strip, count);                                          \
    }                                                                                    \
    vb_fp_end(env);                                                                      \
    return first;                                                                        \
  }
#define DEFINE_COPY(T)                                                             \
  size_t vb_convert_##T##_##T##_portable(void *out, const void *in, size_t n) {    \
    if (n != 0 && out != in) memcpy(out, in, n * sizeof(vb_##T));                  \
    return n;                                                                      \
  }

/* The pairs of different types, with the wider one: X(F, T, W). */
#define CONVERSIONS(X)                                       \
  X(f16, bf16, f32) X(f16, f32, f32) X(f16, f64, f64)        \
  X(bf16, f16, f32) X(bf16, f32, f32) X(bf16, f64, f64)      \
  X(f32, f16, f32) X(f32, bf16, f32) X(f32, f64, f64)        \
  X(f64, f16, f64) X(f64, bf16, f64) X(f64, f32, f64)

CONVERSIONS(DEFINE_CONVERT)
DEFINE_COPY(f16)
DEFINE_COPY(bf16)
DEFINE_COPY(f32)
DEFINE_COPY(f64)

void vb_convert_portable(vb_kernels *k) {
#define USE_CONVERT(F, T, W) \
  k->convert[VB_INDEX_##F][VB_INDEX_##T] = vb_convert_##F##_##T##_portable;
  VB_PAIRS(USE_CONVERT)
}
