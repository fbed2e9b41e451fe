/* vec_avx512.h - vectors of AVX-512 F+BW+VL+DQ: 16 lanes of f32, 8 of f64 (the terms are in
 * arith_simd.h). AVX512_BF16 is of no use here: its conversion flushes subnormals. */
#ifndef VB_VEC_AVX512_H
#define VB_VEC_AVX512_H

#include "arith.h"

#define VEC_ISA avx512
enum { VEC_LANES_f32 = 16, VEC_LANES_f64 = 8 };
typedef __m512 vec_f32;
typedef __m512d vec_f64;
typedef __m256i vec_bits_f16;
typedef __m256i vec_bits_bf16;
typedef __m512i vec_bits_f32;
typedef __m512i vec_bits_f64;

/* ---- loads ---- */
static inline vec_f32 vec_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
static inline vec_f32 vec_load_bf16(const void *p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline vec_f32 vec_load_f32(const void *p) { return _mm512_loadu_ps(p); }
static inline vec_f64 vec_load_f64(const void *p) { return _mm512_loadu_pd(p); }

/* ---- stores ---- */
static inline vec_bits_f16 vec_store_f16(void *p, vec_f32 v) {
  const __m256i bits = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(p, bits);
  return bits;
}
static inline vec_bits_bf16 vec_store_bf16(void *p, vec_f32 v) {
  const __m512i u = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF)), odd), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m256i bits =
      _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7FC0)));
  _mm256_storeu_si256(p, bits);
  return bits;
}
static inline vec_bits_f32 vec_store_f32(void *p, vec_f32 v) {
  _mm512_storeu_ps(p, v);
  return _mm512_castps_si512(v);
}
static inline vec_bits_f64 vec_store_f64(void *p, vec_f64 v) {
  _mm512_storeu_pd(p, v);
  return _mm512_castpd_si512(v);
}

/* ---- non-finite results: the largest magnitude seen, shifted left by one to drop the sign ---- */
static inline __m256i vec_seen_f16(__m256i seen, __m256i bits) {
  return _mm256_max_epu16(seen, _mm256_add_epi16(bits, bits));
}
static inline __m256i vec_seen_bf16(__m256i seen, __m256i bits) { return vec_seen_f16(seen, bits); }
static inline __m512i vec_seen_f32(__m512i seen, __m512i bits) {
  return _mm512_max_epu32(seen, _mm512_add_epi32(bits, bits));
}
static inline __m512i vec_seen_f64(__m512i seen, __m512i bits) {
  return _mm512_max_epu64(seen, _mm512_add_epi64(bits, bits));
}
static inline bool vec_any_nonfinite_f16(__m256i seen) {
  return _mm256_cmpge_epu16_mask(seen, _mm256_set1_epi16((short)0xF800)) != 0;
}
static inline bool vec_any_nonfinite_bf16(__m256i seen) {
  return _mm256_cmpge_epu16_mask(seen, _mm256_set1_epi16((short)0xFF00)) != 0;
}
static inline bool vec_any_nonfinite_f32(__m512i seen) {
  return _mm512_cmpge_epu32_mask(seen, _mm512_set1_epi32((int)0xFF000000u)) != 0;
}
static inline bool vec_any_nonfinite_f64(__m512i seen) {
  return _mm512_cmpge_epu64_mask(seen, _mm512_set1_epi64((long long)0xFFE0000000000000u)) != 0;
}

/* ---- operations ---- */
static inline vec_f32 vec_add_f32(vec_f32 x, vec_f32 y) { return _mm512_add_ps(x, y); }
static inline vec_f32 vec_sub_f32(vec_f32 x, vec_f32 y) { return _mm512_sub_ps(x, y); }
static inline vec_f64 vec_add_f64(vec_f64 x, vec_f64 y) { return _mm512_add_pd(x, y); }
static inline vec_f64 vec_sub_f64(vec_f64 x, vec_f64 y) { return _mm512_sub_pd(x, y); }

static inline vec_f32 vec_quiet_f32(vec_f32 v) {
  const __m512 quiet = _mm512_castsi512_ps(_mm512_set1_epi32(0x00400000));
  return _mm512_mask_or_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), v, quiet);
}
static inline vec_f32 vec_rule_b_f32(vec_f32 x, vec_f32 y, vec_f32 v) {
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  if (__builtin_expect(nan == 0, 1)) return v;
  const __m512 quiet = _mm512_castsi512_ps(_mm512_set1_epi32(0x00400000));
  const __m512 standard = _mm512_castsi512_ps(_mm512_set1_epi32((int)0xFFC00000u));
  v = _mm512_mask_mov_ps(v, nan, standard);
  v = _mm512_mask_or_ps(v, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x, quiet);
  return _mm512_mask_or_ps(v, _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q), y, quiet);
}
static inline vec_f64 vec_rule_b_f64(vec_f64 x, vec_f64 y, vec_f64 v) {
  const __mmask8 nan = _mm512_cmp_pd_mask(v, v, _CMP_UNORD_Q);
  if (__builtin_expect(nan == 0, 1)) return v;
  const __m512d quiet = _mm512_castsi512_pd(_mm512_set1_epi64(0x0008000000000000));
  const __m512d standard = _mm512_castsi512_pd(_mm512_set1_epi64((long long)0xFFF8000000000000u));
  v = _mm512_mask_mov_pd(v, nan, standard);
  v = _mm512_mask_or_pd(v, _mm512_cmp_pd_mask(x, x, _CMP_UNORD_Q), x, quiet);
  return _mm512_mask_or_pd(v, _mm512_cmp_pd_mask(y, y, _CMP_UNORD_Q), y, quiet);
}
static inline vec_f32 vec_rule_b_f16(vec_f32 x, vec_f32 y, vec_f32 v) {
  return vec_rule_b_f32(x, y, v);
}
static inline vec_f32 vec_rule_b_bf16(vec_f32 x, vec_f32 y, vec_f32 v) {
  (void)x, (void)y; /* vec_store_bf16 gives every NaN the one pattern */
  return v;
}

/* ---- overflow: from the first magnitude that rounds to infinity, up to infinity itself ---- */
static inline bool vec_overflows_from(vec_f32 v, int limit) {
  const __m512i u = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7FFFFFFF));
  const __m512i above = _mm512_sub_epi32(u, _mm512_set1_epi32(limit));
  return _mm512_cmplt_epu32_mask(above, _mm512_set1_epi32(0x7F800000 - limit)) != 0;
}
static inline bool vec_overflows_f16(vec_f32 v) { return vec_overflows_from(v, 0x477FF000); }
static inline bool vec_overflows_bf16(vec_f32 v) { return vec_overflows_from(v, 0x7F7F8000); }
static inline bool vec_overflows_f32(vec_f32 v) {
  (void)v;
  return false;
}

#endif
