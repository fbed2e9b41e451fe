/* quantize_block.h - one block of each of GGUF's types, in portable C (contract: vb_quantize_fn).
 *
 * - The steps and their order are those of gguf's numpy code (interop.md): every operation is in
 *   f32 and rounded for itself. Multiplying by the rounded 1 / scale is part of the definition.
 * - Loops over a block are without branches and of constant length: compilers vectorise them.
 * - block_T(out, in): write the block of 32 elements; false if its scale or minimum is not finite.
 */
#ifndef VB_QUANTIZE_BLOCK_H
#define VB_QUANTIZE_BLOCK_H

#include "arith_scalar.h"

enum { QUANTIZE_NAN = 0x7E00 };

static inline void quantize_load(vb_f32 *x, const uint8_t *in) {
  for (size_t i = 0; i < VB_BLOCK; i++) x[i] = vb_load_f32(in, i);
}

/* A value as an integer of the same order, -0 and +0 both as 0. */
static inline int32_t quantize_order(vb_f32 v) {
  const int32_t magnitude = (int32_t)(v & 0x7FFFFFFFu);
  return v & 0x80000000u ? -magnitude : magnitude;
}

/* The first value of the block that has this place in the order. */
static inline float quantize_value(const vb_f32 *x, int32_t order) {
  if (order > 0) return vb_float((vb_f32)order);
  if (order < 0) return vb_float((vb_f32)-order | 0x80000000u);
  size_t i = 0;
  while (x[i] & 0x7FFFFFFFu) i++;
  return vb_float(x[i]);
}

static inline vb_f16 quantize_f16(float v) { return vb_narrow_f32_f16(vb_float_bits(v)); }

/* 1 / scale, or 0. */
static inline float quantize_inverse(float scale) { return scale == 0 ? 0 : 1 / scale; }

/* Whether all quants are 0 because there is no number to multiply by. */
static inline bool quantize_degenerate(float scale, float inverse) {
  return vb_nonfinite_f32(vb_float_bits(scale)) || vb_nonfinite_f32(vb_float_bits(inverse));
}

/* A block that stands for nothing: elements that are not finite. */
static inline bool quantize_refuse(uint8_t *out, size_t size) {
  memset(out, 0, size);
  vb_store16(out, QUANTIZE_NAN);
  return false;
}

/* ---- the largest magnitude ---- */
static inline vb_f32 quantize_largest(const vb_f32 *x) {
  int32_t largest = 0;
  for (int i = 0; i < VB_BLOCK; i++) {
    const int32_t magnitude = (int32_t)(x[i] & 0x7FFFFFFFu);
    largest = magnitude > largest ? magnitude : largest;
  }
  return (vb_f32)largest;
}

/* The first value of that magnitude, with its sign. */
static inline float quantize_signed(const vb_f32 *x, vb_f32 magnitude) {
  int at = VB_BLOCK;
  for (int i = 0; i < VB_BLOCK; i++) {
    const int here = (x[i] & 0x7FFFFFFFu) == magnitude ? i : VB_BLOCK;
    at = here < at ? here : at;
  }
  return vb_float(x[at]);
}

/* ---- quants into bytes: the low four bits of element i and i + 16, then the fifth bits ---- */
static inline void quantize_pack4(uint8_t *out, const uint8_t *q) {
  for (int i = 0; i < VB_BLOCK / 2; i++) out[i] = (q[i] & 15) | (uint8_t)(q[i + VB_BLOCK / 2] << 4);
}
static inline void quantize_pack5(uint8_t *out, const uint8_t *q) {
  uint32_t fifth = 0;
  for (int i = 0; i < VB_BLOCK; i++) fifth |= (uint32_t)(q[i] >> 4) << i;
  vb_store32(out, fifth);
  quantize_pack4(out + 4, q);
}

/* q[i] = x[i] * inverse + offset, cut off, at most `top`. */
static inline void quantize_symmetric(uint8_t *q, const vb_f32 *x, float inverse, float offset,
                                      int top) {
  for (int i = 0; i < VB_BLOCK; i++) {
    const int v = (int)(vb_float(x[i]) * inverse + offset);
    q[i] = (uint8_t)(v < top ? v : top);
  }
}
static inline void quantize_affine(uint8_t *q, const vb_f32 *x, float smallest, float inverse,
                                   int top) {
  for (int i = 0; i < VB_BLOCK; i++) {
    const int v = (int)((vb_float(x[i]) - smallest) * inverse + 0.5f);
    q[i] = (uint8_t)(v < top ? v : top);
  }
}

/* ---- the types ---- */
static inline bool block_q8_0(uint8_t *out, const uint8_t *in) {
  vb_f32 x[VB_BLOCK];
  quantize_load(x, in);
  const vb_f32 largest = quantize_largest(x);
  if (vb_nonfinite_f32(largest)) return quantize_refuse(out, 34);
  const float scale = vb_float(largest) / 127, inverse = quantize_inverse(scale);
  const vb_f16 stored = quantize_f16(scale);
  vb_store16(out, stored);
  if (quantize_degenerate(scale, inverse)) {
    memset(out + 2, 0, VB_BLOCK);
    return true;
  }
  for (int i = 0; i < VB_BLOCK; i++) {
    const float v = vb_float(x[i]) * inverse;
    const int whole = (int)v;
    const float rest = v - (float)whole; /* exact: halves go away from zero */
    out[2 + i] = (uint8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
  }
  return !vb_nonfinite_f16(stored);
}

#define QUANTIZE_SYMMETRIC(NAME, BITS)                                                     \
  static inline bool block_##NAME(uint8_t *out, const uint8_t *in) {                       \
    vb_f32 x[VB_BLOCK];                                                                    \
    quantize_load(x, in);                                                                  \
    enum { HALF = 1 << (BITS - 1), QUANTS = 2 + (BITS == 5 ? 4 : 0), SIZE = QUANTS + 16 }; \
    const vb_f32 largest = quantize_largest(x);                                            \
    if (vb_nonfinite_f32(largest)) return quantize_refuse(out, SIZE);                      \
    const float scale = quantize_signed(x, largest) / -HALF;                               \
    const float inverse = quantize_inverse(scale);                                         \
    const vb_f16 stored = quantize_f16(scale);                                             \
    uint8_t q[VB_BLOCK] = {0};                                                             \
    if (!quantize_degenerate(scale, inverse))                                              \
      quantize_symmetric(q, x, inverse, HALF + 0.5f, 2 * HALF - 1);                        \
    vb_store16(out, stored);                                                               \
    quantize_pack##BITS(out + 2, q);                                                       \
    return !vb_nonfinite_f16(stored);                                                      \
  }
QUANTIZE_SYMMETRIC(q4_0, 4)
QUANTIZE_SYMMETRIC(q5_0, 5)

#define QUANTIZE_AFFINE(NAME, BITS)                                                  \
  static inline bool block_##NAME(uint8_t *out, const uint8_t *in) {                 \
    vb_f32 x[VB_BLOCK];                                                              \
    quantize_load(x, in);                                                            \
    enum { TOP = (1 << BITS) - 1, SIZE = 4 + (BITS == 5 ? 4 : 0) + 16 };             \
    int32_t high = INT32_MIN, low = INT32_MAX;                                       \
    for (int i = 0; i < VB_BLOCK; i++) {                                             \
      const int32_t order = quantize_order(x[i]);                                    \
      high = order > high ? order : high;                                            \
      low = order < low ? order : low;                                               \
    }                                                                                \
    if (high >= 0x7F800000 || low <= -0x7F800000) return quantize_refuse(out, SIZE); \
    const float smallest = quantize_value(x, low);                                   \
    const float scale = (quantize_value(x, high) - smallest) / TOP;                  \
    const float inverse = quantize_inverse(scale);                                   \
    const vb_f16 stored = quantize_f16(scale), offset = quantize_f16(smallest);      \
    uint8_t q[VB_BLOCK] = {0};                                                       \
    if (!quantize_degenerate(scale, inverse))                                        \
      quantize_affine(q, x, smallest, inverse, TOP);                                 \
    vb_store16(out, stored);                                                         \
    vb_store16(out + 2, offset);                                                     \
    quantize_pack##BITS(out + 4, q);                                                 \
    return !vb_nonfinite_f16(stored) && !vb_nonfinite_f16(offset);                   \
  }
QUANTIZE_AFFINE(q4_1, 4)
QUANTIZE_AFFINE(q5_1, 5)

/* ---- kernels ---- */
#define QUANTIZE_TYPE_q4_0 VB_Q4_0
#define QUANTIZE_TYPE_q4_1 VB_Q4_1
#define QUANTIZE_TYPE_q5_0 VB_Q5_0
#define QUANTIZE_TYPE_q5_1 VB_Q5_1
#define QUANTIZE_TYPE_q8_0 VB_Q8_0
#define QUANTIZE_COMMON(X, isa) X(q4_0, isa) X(q8_0, isa)
#define QUANTIZE_OTHERS(X, isa) X(q4_1, isa) X(q5_0, isa) X(q5_1, isa)

/* vb_quantize_fn, from write_block(out, in). */
#define QUANTIZE_KERNEL(NAME, isa, write_block)                                      \
  static size_t quantize_##NAME##_##isa(void *out, const void *in, size_t nblocks) { \
    const vb_fp_env env = vb_fp_begin();                                             \
    const size_t size = vb_block_bytes(QUANTIZE_TYPE_##NAME);                        \
    const size_t none = nblocks * VB_BLOCK;                                          \
    size_t first = none;                                                             \
    for (size_t b = 0; b < nblocks; b++) {                                           \
      const uint8_t *block = VB_AT(in, f32, b * VB_BLOCK);                           \
      if (!write_block((uint8_t *)out + b * size, block) && first == none)           \
        first = b * VB_BLOCK + vb_find_nonfinite_f32(block, VB_BLOCK) % VB_BLOCK;    \
    }                                                                                \
    vb_fp_end(env);                                                                  \
    return first;                                                                    \
  }
#define QUANTIZE_DEFINE(NAME, isa) QUANTIZE_KERNEL(NAME, isa, block_##NAME)
#define QUANTIZE_USE(NAME, isa) k->quantize[QUANTIZE_TYPE_##NAME - VB_BLOCK_FIRST] = \
    quantize_##NAME##_##isa;

#endif
