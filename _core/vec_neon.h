/* vec_neon.h - vectors of base ARMv8-A: 4 lanes of f32, 2 of f64 (the terms are in arith_simd.h).
 * Conversions between f16 and f32 are in the base; f16 arithmetic is not, and is not needed. */
#ifndef VB_VEC_NEON_H
#define VB_VEC_NEON_H

#include <arm_neon.h>

#include "arith.h"

#define VEC_ISA neon
enum { VEC_LANES_f32 = 4, VEC_LANES_f64 = 2 };
typedef float32x4_t vec_f32;
typedef float64x2_t vec_f64;
typedef uint16x4_t vec_bits_f16;
typedef uint16x4_t vec_bits_bf16;
typedef uint32x4_t vec_bits_f32;
typedef uint32x4_t vec_bits_f64; /* of each lane the upper half, see vec_seen_f64 */

/* ---- loads: bytes, as no alignment is assumed ---- */
static inline uint16x4_t vec_load_16(const void *p) { return vreinterpret_u16_u8(vld1_u8(p)); }
static inline vec_f32 vec_load_f16(const void *p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vec_load_16(p)));
}
static inline vec_f32 vec_load_bf16(const void *p) {
  return vreinterpretq_f32_u32(vshll_n_u16(vec_load_16(p), 16));
}
static inline vec_f32 vec_load_f32(const void *p) { return vreinterpretq_f32_u8(vld1q_u8(p)); }
static inline vec_f64 vec_load_f64(const void *p) { return vreinterpretq_f64_u8(vld1q_u8(p)); }

/* ---- stores ---- */
static inline vec_bits_f16 vec_store_f16(void *p, vec_f32 v) {
  const uint16x4_t bits = vreinterpret_u16_f16(vcvt_f16_f32(v));
  vst1_u8(p, vreinterpret_u8_u16(bits));
  return bits;
}
static inline vec_bits_bf16 vec_store_bf16(void *p, vec_f32 v) {
  const uint32x4_t u = vreinterpretq_u32_f32(v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7FFF)), odd);
  const uint32x4_t number = vceqq_f32(v, v);
  const uint16x4_t bits = vshrn_n_u32(vbslq_u32(number, rounded, vdupq_n_u32(0x7FC00000)), 16);
  vst1_u8(p, vreinterpret_u8_u16(bits));
  return bits;
}
static inline vec_bits_f32 vec_store_f32(void *p, vec_f32 v) {
  vst1q_u8(p, vreinterpretq_u8_f32(v));
  return vreinterpretq_u32_f32(v);
}
static inline vec_bits_f64 vec_store_f64(void *p, vec_f64 v) {
  vst1q_u8(p, vreinterpretq_u8_f64(v));
  return vreinterpretq_u32_f64(v);
}

/* ---- non-finite results: the largest magnitude seen, shifted left by one to drop the sign ---- */
static inline uint16x4_t vec_seen_f16(uint16x4_t seen, uint16x4_t bits) {
  return vmax_u16(seen, vadd_u16(bits, bits));
}
static inline uint16x4_t vec_seen_bf16(uint16x4_t seen, uint16x4_t bits) {
  return vec_seen_f16(seen, bits);
}
static inline uint32x4_t vec_seen_f32(uint32x4_t seen, uint32x4_t bits) {
  return vmaxq_u32(seen, vaddq_u32(bits, bits));
}
static inline uint32x4_t vec_seen_f64(uint32x4_t seen, uint32x4_t bits) {
  /* The upper halves decide: infinity's lower half is zero, and there is no u64 maximum. */
  const uint64x2_t upper = vshrq_n_u64(vreinterpretq_u64_u32(bits), 32);
  return vec_seen_f32(seen, vreinterpretq_u32_u64(upper));
}
static inline bool vec_any_nonfinite_f16(uint16x4_t seen) { return vmaxv_u16(seen) >= 0xF800u; }
static inline bool vec_any_nonfinite_bf16(uint16x4_t seen) { return vmaxv_u16(seen) >= 0xFF00u; }
static inline bool vec_any_nonfinite_f32(uint32x4_t seen) {
  return vmaxvq_u32(seen) >= 0xFF000000u;
}
static inline bool vec_any_nonfinite_f64(uint32x4_t seen) {
  return vmaxvq_u32(seen) >= 0xFFE00000u;
}

/* ---- operations ---- */
static inline vec_f32 vec_add_f32(vec_f32 x, vec_f32 y) { return vaddq_f32(x, y); }
static inline vec_f32 vec_sub_f32(vec_f32 x, vec_f32 y) { return vsubq_f32(x, y); }
static inline vec_f64 vec_add_f64(vec_f64 x, vec_f64 y) { return vaddq_f64(x, y); }
static inline vec_f64 vec_sub_f64(vec_f64 x, vec_f64 y) { return vsubq_f64(x, y); }

/* Without a branch: a comparison gives all ones for lanes that are numbers. */
static inline vec_f32 vec_quiet_f32(vec_f32 v) {
  const uint32x4_t bits = vreinterpretq_u32_f32(v);
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x00400000u));
  return vreinterpretq_f32_u32(vbslq_u32(vceqq_f32(v, v), bits, quiet));
}
static inline vec_f32 vec_rule_b_f32(vec_f32 x, vec_f32 y, vec_f32 v) {
  const uint32x4_t quiet = vdupq_n_u32(0x00400000u);
  const uint32x4_t p = vreinterpretq_u32_f32(x), q = vreinterpretq_u32_f32(y);
  uint32x4_t r = vreinterpretq_u32_f32(v);
  r = vbslq_u32(vceqq_f32(v, v), r, vdupq_n_u32(0xFFC00000u));
  r = vbslq_u32(vceqq_f32(x, x), r, vorrq_u32(p, quiet));
  r = vbslq_u32(vceqq_f32(y, y), r, vorrq_u32(q, quiet));
  return vreinterpretq_f32_u32(r);
}
static inline vec_f64 vec_rule_b_f64(vec_f64 x, vec_f64 y, vec_f64 v) {
  const uint64x2_t quiet = vdupq_n_u64(0x0008000000000000u);
  const uint64x2_t p = vreinterpretq_u64_f64(x), q = vreinterpretq_u64_f64(y);
  uint64x2_t r = vreinterpretq_u64_f64(v);
  r = vbslq_u64(vceqq_f64(v, v), r, vdupq_n_u64(0xFFF8000000000000u));
  r = vbslq_u64(vceqq_f64(x, x), r, vorrq_u64(p, quiet));
  r = vbslq_u64(vceqq_f64(y, y), r, vorrq_u64(q, quiet));
  return vreinterpretq_f64_u64(r);
}
static inline vec_f32 vec_rule_b_f16(vec_f32 x, vec_f32 y, vec_f32 v) {
  return vec_rule_b_f32(x, y, v);
}
static inline vec_f32 vec_rule_b_bf16(vec_f32 x, vec_f32 y, vec_f32 v) {
  (void)x, (void)y; /* vec_store_bf16 gives every NaN the one pattern */
  return v;
}

/* ---- overflow: from the first magnitude that rounds to infinity, up to infinity itself ---- */
static inline bool vec_overflows_from(vec_f32 v, uint32_t limit) {
  const uint32x4_t magnitude = vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(0x7FFFFFFFu));
  const uint32x4_t above = vsubq_u32(magnitude, vdupq_n_u32(limit));
  return vminvq_u32(above) < 0x7F800000u - limit;
}
static inline bool vec_overflows_f16(vec_f32 v) { return vec_overflows_from(v, 0x477FF000u); }
static inline bool vec_overflows_bf16(vec_f32 v) { return vec_overflows_from(v, 0x7F7F8000u); }
static inline bool vec_overflows_f32(vec_f32 v) {
  (void)v;
  return false;
}

#endif
