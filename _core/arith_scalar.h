/* arith_scalar.h - the definition of the arithmetic on one element, in portable C.
 *
 * - vb_widen_T_W is exact. vb_narrow_W_T rounds once, to nearest even, keeping subnormals.
 * - Either way a NaN is made quiet and keeps its sign and the leading bits of its payload; narrowed
 *   to bf16 every NaN is 0x7FC0.
 * - vb_add_W and vb_sub_W round once and follow rule B (numerics.md); b is the delta.
 * - No branches on values: compilers can vectorise every one of these.
 */
#ifndef VB_ARITH_SCALAR_H
#define VB_ARITH_SCALAR_H

#include "arith.h"

static inline float vb_float(vb_f32 v) {
  float f;
  memcpy(&f, &v, sizeof f);
  return f;
}
static inline vb_f32 vb_float_bits(float f) {
  vb_f32 v;
  memcpy(&v, &f, sizeof v);
  return v;
}
static inline double vb_double(vb_f64 v) {
  double d;
  memcpy(&d, &v, sizeof d);
  return d;
}
static inline vb_f64 vb_double_bits(double d) {
  vb_f64 v;
  memcpy(&v, &d, sizeof v);
  return v;
}

#define VB_QUIET_F32 0x00400000u
#define VB_QUIET_F64 0x0008000000000000u

static inline bool vb_nan_f32(vb_f32 v) { return (v & 0x7FFFFFFFu) > 0x7F800000u; }
static inline bool vb_nan_f64(vb_f64 v) {
  return (v & 0x7FFFFFFFFFFFFFFFu) > 0x7FF0000000000000u;
}

/* ---- widening ---- */
static inline vb_f32 vb_widen_f16_f32(vb_f16 v) {
  const uint32_t sign = (uint32_t)(v & 0x8000u) << 16, magnitude = v & 0x7FFFu;
  /* The fields moved into place, the exponent is short by the difference of the biases; for a
   * subnormal the multiplication normalises as well. */
  const uint32_t finite = vb_float_bits(vb_float(magnitude << 13) * 0x1p112f);
  const uint32_t special = 0x7F800000u | magnitude << 13 | (magnitude > 0x7C00u ? VB_QUIET_F32 : 0);
  return sign | (magnitude < 0x7C00u ? finite : special);
}
static inline vb_f32 vb_widen_bf16_f32(vb_bf16 v) {
  const vb_f32 wide = (vb_f32)v << 16;
  return wide | (vb_nan_f32(wide) ? VB_QUIET_F32 : 0);
}
static inline vb_f32 vb_widen_f32_f32(vb_f32 v) { return v; }
static inline vb_f64 vb_widen_f32_f64(vb_f32 v) {
  const vb_f64 nan =
      (vb_f64)(v & 0x80000000u) << 32 | 0x7FF8000000000000u | (vb_f64)(v & 0x007FFFFFu) << 29;
  const vb_f64 wide = vb_double_bits((double)vb_float(v));
  return vb_nan_f32(v) ? nan : wide;
}
static inline vb_f64 vb_widen_f16_f64(vb_f16 v) { return vb_widen_f32_f64(vb_widen_f16_f32(v)); }
static inline vb_f64 vb_widen_bf16_f64(vb_bf16 v) { return vb_widen_f32_f64(vb_widen_bf16_f32(v)); }
static inline vb_f64 vb_widen_f64_f64(vb_f64 v) { return v; }

/* ---- narrowing ---- */
static inline vb_f16 vb_narrow_f32_f16(vb_f32 v) {
  const uint32_t sign = v >> 16 & 0x8000u, magnitude = v & 0x7FFFFFFFu;
  const uint32_t odd = magnitude >> 13 & 1u;
  const uint32_t normal = (magnitude - 0x38000000u + 0x0FFFu + odd) >> 13;
  /* Below 2^-14 results are multiples of 2^-24, which is the unit in the last place of [0.5, 1):
   * the addition rounds, and leaves the multiple in the low bits. */
  const uint32_t subnormal = vb_float_bits(vb_float(magnitude) + 0.5f) - 0x3F000000u;
  const uint32_t nan = 0x7E00u | (magnitude >> 13 & 0x03FFu);
  uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude >= 0x477FF000u ? 0x7C00u : result; /* 65520 and above */
  result = magnitude > 0x7F800000u ? nan : result;
  return (vb_f16)(sign | result);
}
static inline vb_bf16 vb_narrow_f32_bf16(vb_f32 v) {
  const uint32_t rounded = (v + 0x7FFFu + (v >> 16 & 1u)) >> 16;
  return (vb_bf16)(vb_nan_f32(v) ? 0x7FC0u : rounded);
}
static inline vb_f32 vb_narrow_f32_f32(vb_f32 v) { return v; }
static inline vb_f32 vb_narrow_f64_f32(vb_f64 v) {
  const vb_f32 nan =
      ((vb_f32)(v >> 32) & 0x80000000u) | 0x7FC00000u | (vb_f32)(v >> 29 & 0x007FFFFFu);
  const vb_f32 rounded = vb_float_bits((float)vb_double(v));
  return vb_nan_f64(v) ? nan : rounded;
}
static inline vb_f64 vb_narrow_f64_f64(vb_f64 v) { return v; }

/* To f32 by rounding to odd: toward zero, and if that was inexact the last bit is set. What is then
 * rounded to a type shorter by two bits or more is rounded as if directly from f64. */
static inline vb_f32 vb_narrow_f64_odd(vb_f64 v) {
  const vb_f32 nearest = vb_narrow_f64_f32(v);
  const vb_f64 back = vb_widen_f32_f64(nearest) & 0x7FFFFFFFFFFFFFFFu;
  const vb_f64 magnitude = v & 0x7FFFFFFFFFFFFFFFu;
  const vb_f32 odd = (nearest - (back > magnitude ? 1u : 0u)) | 1u;
  return back == magnitude || vb_nan_f64(v) ? nearest : odd;
}
static inline vb_f16 vb_narrow_f64_f16(vb_f64 v) { return vb_narrow_f32_f16(vb_narrow_f64_odd(v)); }
static inline vb_bf16 vb_narrow_f64_bf16(vb_f64 v) {
  return vb_narrow_f32_bf16(vb_narrow_f64_odd(v));
}

/* ---- operations ---- */
static inline vb_f32 vb_rule_b_f32(vb_f32 a, vb_f32 b, vb_f32 result) {
  result = vb_nan_f32(result) ? 0xFFC00000u : result;
  result = vb_nan_f32(a) ? a | VB_QUIET_F32 : result;
  return vb_nan_f32(b) ? b | VB_QUIET_F32 : result;
}
static inline vb_f64 vb_rule_b_f64(vb_f64 a, vb_f64 b, vb_f64 result) {
  result = vb_nan_f64(result) ? 0xFFF8000000000000u : result;
  result = vb_nan_f64(a) ? a | VB_QUIET_F64 : result;
  return vb_nan_f64(b) ? b | VB_QUIET_F64 : result;
}
static inline vb_f32 vb_add_f32(vb_f32 a, vb_f32 b) {
  return vb_rule_b_f32(a, b, vb_float_bits(vb_float(a) + vb_float(b)));
}
static inline vb_f32 vb_sub_f32(vb_f32 a, vb_f32 b) {
  return vb_rule_b_f32(a, b, vb_float_bits(vb_float(a) - vb_float(b)));
}
static inline vb_f64 vb_add_f64(vb_f64 a, vb_f64 b) {
  return vb_rule_b_f64(a, b, vb_double_bits(vb_double(a) + vb_double(b)));
}
static inline vb_f64 vb_sub_f64(vb_f64 a, vb_f64 b) {
  return vb_rule_b_f64(a, b, vb_double_bits(vb_double(a) - vb_double(b)));
}

/* ---- strips: results gather locally, so that out may be an operand and loops vectorise ---- */
enum { VB_STRIP = 256 };

/* Write a strip of n elements to out[at...]. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define VB_STORE_STRIP(T, out, at, strip, n) \
  memcpy(VB_AT_OUT(out, T, at), strip, (n) * sizeof(vb_##T))
#else
#define VB_STORE_STRIP(T, out, at, strip, n)        \
  for (size_t vb_i = 0; vb_i < (n); vb_i++)         \
    vb_store_##T(VB_AT_OUT(out, T, (at) + vb_i), (strip)[vb_i])
static inline void vb_store_f16(void *p, vb_f16 v) { vb_store16(p, v); }
static inline void vb_store_bf16(void *p, vb_bf16 v) { vb_store16(p, v); }
static inline void vb_store_f32(void *p, vb_f32 v) { vb_store32(p, v); }
static inline void vb_store_f64(void *p, vb_f64 v) { vb_store64(p, v); }
#endif

#endif
