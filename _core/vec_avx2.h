/* vec_avx2.h - vectors of AVX2, F16C: 8 lanes of f32, 4 of f64 (the terms are in arith_simd.h). */
#ifndef VB_VEC_AVX2_H
#define VB_VEC_AVX2_H

#include "arith.h"

#define VEC_ISA avx2
enum { VEC_LANES_f32 = 8, VEC_LANES_f64 = 4 };
typedef __m256 vec_f32;
typedef __m256d vec_f64;
typedef __m128i vec_bits_f16;
typedef __m128i vec_bits_bf16;
typedef __m256i vec_bits_f32;
typedef __m256i vec_bits_f64;

/* ---- loads ---- */
static inline vec_f32 vec_load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
static inline vec_f32 vec_load_bf16(const void *p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline vec_f32 vec_load_f32(const void *p) { return _mm256_loadu_ps(p); }
static inline vec_f64 vec_load_f64(const void *p) { return _mm256_loadu_pd(p); }

/* ---- stores ---- */
static inline vec_bits_f16 vec_store_f16(void *p, vec_f32 v) {
  const __m128i bits = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
  _mm_storeu_si128(p, bits);
  return bits;
}
static inline vec_bits_bf16 vec_store_bf16(void *p, vec_f32 v) {
  const __m256i u = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7FFF)), odd), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i wide = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FC0), nan);
  const __m128i bits =
      _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  _mm_storeu_si128(p, bits);
  return bits;
}
static inline vec_bits_f32 vec_store_f32(void *p, vec_f32 v) {
  _mm256_storeu_ps(p, v);
  return _mm256_castps_si256(v);
}
static inline vec_bits_f64 vec_store_f64(void *p, vec_f64 v) {
  _mm256_storeu_pd(p, v);
  return _mm256_castpd_si256(v);
}

/* ---- non-finite results: the largest magnitude seen, shifted left by one to drop the sign ---- */
static inline __m128i vec_seen_f16(__m128i seen, __m128i bits) {
  return _mm_max_epu16(seen, _mm_add_epi16(bits, bits));
}
static inline __m128i vec_seen_bf16(__m128i seen, __m128i bits) { return vec_seen_f16(seen, bits); }
static inline __m256i vec_seen_f32(__m256i seen, __m256i bits) {
  return _mm256_max_epu32(seen, _mm256_add_epi32(bits, bits));
}
static inline __m256i vec_seen_f64(__m256i seen, __m256i bits) {
  /* The upper halves decide: infinity's lower half is zero, and there is no epu64 maximum. */
  return _mm256_max_epu32(seen, _mm256_srli_epi64(_mm256_add_epi64(bits, bits), 32));
}
static inline bool vec_reaches_16(__m128i seen, int limit) {
  const __m128i top = _mm_max_epu16(seen, _mm_set1_epi16((short)limit));
  return _mm_movemask_epi8(_mm_cmpeq_epi16(top, seen)) != 0;
}
static inline bool vec_reaches_32(__m256i seen, unsigned limit) {
  const __m256i top = _mm256_max_epu32(seen, _mm256_set1_epi32((int)limit));
  return _mm256_movemask_epi8(_mm256_cmpeq_epi32(top, seen)) != 0;
}
static inline bool vec_any_nonfinite_f16(__m128i seen) { return vec_reaches_16(seen, 0xF800); }
static inline bool vec_any_nonfinite_bf16(__m128i seen) { return vec_reaches_16(seen, 0xFF00); }
static inline bool vec_any_nonfinite_f32(__m256i seen) { return vec_reaches_32(seen, 0xFF000000u); }
static inline bool vec_any_nonfinite_f64(__m256i seen) { return vec_reaches_32(seen, 0xFFE00000u); }

/* ---- operations ---- */
static inline vec_f32 vec_add_f32(vec_f32 x, vec_f32 y) { return _mm256_add_ps(x, y); }
static inline vec_f32 vec_sub_f32(vec_f32 x, vec_f32 y) { return _mm256_sub_ps(x, y); }
static inline vec_f64 vec_add_f64(vec_f64 x, vec_f64 y) { return _mm256_add_pd(x, y); }
static inline vec_f64 vec_sub_f64(vec_f64 x, vec_f64 y) { return _mm256_sub_pd(x, y); }

static inline vec_f32 vec_quiet_f32(vec_f32 v) {
  const __m256 quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x00400000));
  return _mm256_or_ps(v, _mm256_and_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q), quiet));
}
static inline vec_f32 vec_rule_b_f32(vec_f32 x, vec_f32 y, vec_f32 v) {
  const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  if (__builtin_expect(_mm256_movemask_ps(nan) == 0, 1)) return v;
  const __m256 quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x00400000));
  const __m256 standard = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xFFC00000u));
  v = _mm256_blendv_ps(v, standard, nan);
  v = _mm256_blendv_ps(v, _mm256_or_ps(x, quiet), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_ps(v, _mm256_or_ps(y, quiet), _mm256_cmp_ps(y, y, _CMP_UNORD_Q));
}
static inline vec_f64 vec_rule_b_f64(vec_f64 x, vec_f64 y, vec_f64 v) {
  const __m256d nan = _mm256_cmp_pd(v, v, _CMP_UNORD_Q);
  if (__builtin_expect(_mm256_movemask_pd(nan) == 0, 1)) return v;
  const __m256d quiet = _mm256_castsi256_pd(_mm256_set1_epi64x(0x0008000000000000));
  const __m256d standard = _mm256_castsi256_pd(_mm256_set1_epi64x((long long)0xFFF8000000000000u));
  v = _mm256_blendv_pd(v, standard, nan);
  v = _mm256_blendv_pd(v, _mm256_or_pd(x, quiet), _mm256_cmp_pd(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_pd(v, _mm256_or_pd(y, quiet), _mm256_cmp_pd(y, y, _CMP_UNORD_Q));
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
  const __m256i u = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7FFFFFFF));
  const __m256i above = _mm256_cmpgt_epi32(u, _mm256_set1_epi32(limit - 1));
  const __m256i finite = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x7F800000), u);
  return !_mm256_testz_si256(above, finite);
}
static inline bool vec_overflows_f16(vec_f32 v) { return vec_overflows_from(v, 0x477FF000); }
static inline bool vec_overflows_bf16(vec_f32 v) { return vec_overflows_from(v, 0x7F7F8000); }
static inline bool vec_overflows_f32(vec_f32 v) {
  (void)v;
  return false;
}

#endif
