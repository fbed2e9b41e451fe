/* product_avx512.c - low-rank products with AVX-512 (contract: vb_product_fn). */
#include "vec_avx512.h"

enum { PRODUCT_ROWS = 6, PRODUCT_VECTORS = 4, PRODUCT_DEPTH = 128 };

static inline vec_f32 vec_set_f32(float x) { return _mm512_set1_ps(x); }
static inline vec_f32 vec_mul_f32(vec_f32 x, vec_f32 y) { return _mm512_mul_ps(x, y); }
static inline vec_f32 vec_fma_f32(vec_f32 x, vec_f32 y, vec_f32 z) {
  return _mm512_fmadd_ps(x, y, z);
}
static inline vec_f32 vec_one_nan_f32(vec_f32 v) {
  const __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7FC00000));
  return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), nan);
}

#include "product_simd.h"

void vb_product_avx512(vb_kernels *k) { k->product = product_simd; }
