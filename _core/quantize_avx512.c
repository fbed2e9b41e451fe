/* quantize_avx512.c - blocks of GGUF with AVX-512 F+BW+VL+DQ (contract: vb_quantize_fn). Q4_1, Q5_0
 * and Q5_1 are the portable code, compiled for it. */
#include "quantize_block.h"

/* Magnitudes, as integers. */
static inline __m512i magnitudes(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF));
}

/* Halves go away from zero; the rest after the point is exact. */
static inline __m128i rounded_bytes(__m512 v) {
  const __m512i one = _mm512_set1_epi32(1), whole = _mm512_cvttps_epi32(v);
  const __m512 rest = _mm512_sub_ps(v, _mm512_cvtepi32_ps(whole));
  const __mmask16 up = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(0.5f), _CMP_GE_OQ);
  const __mmask16 down = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(-0.5f), _CMP_LE_OQ);
  const __m512i q = _mm512_mask_add_epi32(whole, up, whole, one);
  return _mm512_cvtepi32_epi8(_mm512_mask_sub_epi32(q, down, q, one));
}

static inline bool block_q8_0_avx512(uint8_t *out, const uint8_t *in) {
  const __m512 x0 = _mm512_loadu_ps(in), x1 = _mm512_loadu_ps(in + 64);
  const __m512i larger = _mm512_max_epi32(magnitudes(x0), magnitudes(x1));
  const vb_f32 largest = (vb_f32)_mm512_reduce_max_epi32(larger);
  const float scale = vb_float(largest) / 127, inverse = quantize_inverse(scale);
  if (quantize_degenerate(scale, inverse)) return block_q8_0(out, in);
  const __m512 factor = _mm512_set1_ps(inverse);
  const vb_f16 stored = quantize_f16(scale);
  vb_store16(out, stored);
  _mm_storeu_si128((__m128i_u *)(out + 2), rounded_bytes(_mm512_mul_ps(x0, factor)));
  _mm_storeu_si128((__m128i_u *)(out + 18), rounded_bytes(_mm512_mul_ps(x1, factor)));
  return !vb_nonfinite_f16(stored);
}

static inline __m512i quants4(__m512 x, __m512 factor) {
  const __m512 v = _mm512_add_ps(_mm512_mul_ps(x, factor), _mm512_set1_ps(8.5f));
  return _mm512_min_epi32(_mm512_cvttps_epi32(v), _mm512_set1_epi32(15));
}

static inline bool block_q4_0_avx512(uint8_t *out, const uint8_t *in) {
  const __m512 x0 = _mm512_loadu_ps(in), x1 = _mm512_loadu_ps(in + 64);
  const __m512i m0 = magnitudes(x0), m1 = magnitudes(x1);
  const __m512i largest = _mm512_set1_epi32(_mm512_reduce_max_epi32(_mm512_max_epi32(m0, m1)));
  const unsigned where = _mm512_cmpeq_epi32_mask(m0, largest) |
                         (unsigned)_mm512_cmpeq_epi32_mask(m1, largest) << 16;
  const float scale = vb_float(vb_load_f32(in, (size_t)__builtin_ctz(where))) / -8;
  const float inverse = quantize_inverse(scale);
  if (quantize_degenerate(scale, inverse)) return block_q4_0(out, in);
  const __m512 factor = _mm512_set1_ps(inverse);
  const __m512i low = quants4(x0, factor), high = quants4(x1, factor);
  const vb_f16 stored = quantize_f16(scale);
  vb_store16(out, stored);
  _mm_storeu_si128((__m128i_u *)(out + 2),
                   _mm512_cvtepi32_epi8(_mm512_or_si512(low, _mm512_slli_epi32(high, 4))));
  return !vb_nonfinite_f16(stored);
}

QUANTIZE_KERNEL(q4_0, avx512, block_q4_0_avx512)
QUANTIZE_KERNEL(q8_0, avx512, block_q8_0_avx512)
QUANTIZE_OTHERS(QUANTIZE_DEFINE, avx512)

void vb_quantize_avx512(vb_kernels *k) {
  QUANTIZE_COMMON(QUANTIZE_USE, avx512)
  QUANTIZE_OTHERS(QUANTIZE_USE, avx512)
}
