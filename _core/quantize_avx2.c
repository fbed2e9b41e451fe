/* quantize_avx2.c - blocks of GGUF with AVX2 (contract: vb_quantize_fn). Q4_1, Q5_0 and Q5_1 are
 * left to the portable code: wider vectors gain nothing there. */
#include "quantize_block.h"

enum { PARTS = 4 }; /* of a block, each a vector */

static inline __m256 part(const uint8_t *in, int i) {
  return _mm256_castsi256_ps(_mm256_loadu_si256((const __m256i_u *)(in + 32 * i)));
}

/* Magnitudes, as integers. */
static inline __m256i magnitudes(__m256 x) {
  return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7FFFFFFF));
}

/* The largest magnitude of the block, in every lane. */
static inline __m256i largest_of(const uint8_t *in) {
  __m256i m = magnitudes(part(in, 0));
  for (int i = 1; i < PARTS; i++) m = _mm256_max_epi32(m, magnitudes(part(in, i)));
  m = _mm256_max_epi32(m, _mm256_permute2x128_si256(m, m, 1));
  m = _mm256_max_epi32(m, _mm256_shuffle_epi32(m, 0x4E));
  return _mm256_max_epi32(m, _mm256_shuffle_epi32(m, 0xB1));
}

static inline vb_f32 lane0(__m256i v) { return (vb_f32)_mm256_cvtsi256_si32(v); }

/* 32 integers as bytes, saturated, in their order. */
static inline __m256i bytes_of(const __m256i q[PARTS]) {
  const __m256i words0 = _mm256_packs_epi32(q[0], q[1]), words1 = _mm256_packs_epi32(q[2], q[3]);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packing goes by halves */
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words0, words1), order);
}

/* Halves go away from zero; the rest after the point is exact. */
static inline __m256i rounded(__m256 v) {
  const __m256i whole = _mm256_cvttps_epi32(v);
  const __m256 rest = _mm256_sub_ps(v, _mm256_cvtepi32_ps(whole));
  const __m256 up = _mm256_cmp_ps(rest, _mm256_set1_ps(0.5f), _CMP_GE_OQ);
  const __m256 down = _mm256_cmp_ps(rest, _mm256_set1_ps(-0.5f), _CMP_LE_OQ);
  const __m256i q = _mm256_sub_epi32(whole, _mm256_castps_si256(up)); /* a true lane is -1 */
  return _mm256_add_epi32(q, _mm256_castps_si256(down));
}

static inline bool block_q8_0_avx2(uint8_t *out, const uint8_t *in) {
  const float scale = vb_float(lane0(largest_of(in))) / 127, inverse = quantize_inverse(scale);
  if (quantize_degenerate(scale, inverse)) return block_q8_0(out, in);
  const __m256 factor = _mm256_set1_ps(inverse);
  __m256i q[PARTS];
  for (int i = 0; i < PARTS; i++) q[i] = rounded(_mm256_mul_ps(part(in, i), factor));
  const vb_f16 stored = quantize_f16(scale);
  vb_store16(out, stored);
  _mm256_storeu_si256((__m256i_u *)(out + 2), bytes_of(q));
  return !vb_nonfinite_f16(stored);
}

static inline bool block_q4_0_avx2(uint8_t *out, const uint8_t *in) {
  const __m256i largest = largest_of(in), top = _mm256_set1_epi32(15);
  __m256i q[PARTS];
  for (int i = 0; i < PARTS; i++) q[i] = _mm256_cmpeq_epi32(magnitudes(part(in, i)), largest);
  const unsigned where = (unsigned)_mm256_movemask_epi8(bytes_of(q));
  const float scale = vb_float(vb_load_f32(in, (size_t)__builtin_ctz(where))) / -8;
  const float inverse = quantize_inverse(scale);
  if (quantize_degenerate(scale, inverse)) return block_q4_0(out, in);
  const __m256 factor = _mm256_set1_ps(inverse), offset = _mm256_set1_ps(8.5f);
  for (int i = 0; i < PARTS; i++) {
    const __m256 v = _mm256_add_ps(_mm256_mul_ps(part(in, i), factor), offset);
    q[i] = _mm256_min_epi32(_mm256_cvttps_epi32(v), top);
  }
  const __m256i bytes = bytes_of(q);
  const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
  const vb_f16 stored = quantize_f16(scale);
  vb_store16(out, stored);
  _mm_storeu_si128((__m128i_u *)(out + 2), _mm_or_si128(low, _mm_slli_epi16(high, 4)));
  return !vb_nonfinite_f16(stored);
}

QUANTIZE_KERNEL(q4_0, avx2, block_q4_0_avx2)
QUANTIZE_KERNEL(q8_0, avx2, block_q8_0_avx2)

void vb_quantize_avx2(vb_kernels *k) { QUANTIZE_COMMON(QUANTIZE_USE, avx2) }
