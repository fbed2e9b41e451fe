/* product_avx2.c - low-rank products with AVX2 and FMA (contract: vb_product_fn). */
#include "vec_avx2.h"

enum { PRODUCT_ROWS = 6, PRODUCT_VECTORS = 2, PRODUCT_DEPTH = 256 };

static inline vec_f32 vec_set_f32(float x) { return _mm256_set1_ps(x); }
static inline vec_f32 vec_mul_f32(vec_f32 x, vec_f32 y) { return _mm256_mul_ps(x, y); }
static inline vec_f32 vec_fma_f32(vec_f32 x, vec_f32 y, vec_f32 z) {
  return _mm256_fmadd_ps(x, y, z);
}
static inline vec_f32 vec_one_nan_f32(vec_f32 v) {
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FC00000));
  return _mm256_blendv_ps(v, nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
}

#include "product_simd.h"

void vb_product_avx2(vb_kernels *k) { k->product = product_simd; }
