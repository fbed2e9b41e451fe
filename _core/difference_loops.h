/* difference_loops.h - the loops that compare elements, the same for every instruction set
 * (contract: vb_difference_fn).
 *
 * - A strip that is equal costs a memcmp. Any other is taken in by loops without branches, which
 *   the compiler vectorises for the instruction set of the file that includes this; where the
 *   first or largest difference stands is looked up only if the strip has a new one.
 * - Distances are unsigned: of values in the order of the numbers, as steps; in f64, as the bits of
 *   a number that is not negative, which have the same order.
 */
#ifndef VB_DIFFERENCE_LOOPS_H
#define VB_DIFFERENCE_LOOPS_H

#include "arith_scalar.h"

enum { DIFFERENCE_STRIP = 1024 };

typedef uint8_t vb_raw1;
typedef uint16_t vb_raw2;
typedef uint32_t vb_raw4;
typedef uint64_t vb_raw8;
static inline vb_raw1 vb_load_raw1(const void *p, size_t i) { return ((const uint8_t *)p)[i]; }
static inline vb_raw2 vb_load_raw2(const void *p, size_t i) { return vb_load16(VB_AT(p, raw2, i)); }
static inline vb_raw4 vb_load_raw4(const void *p, size_t i) { return vb_load32(VB_AT(p, raw4, i)); }
static inline vb_raw8 vb_load_raw8(const void *p, size_t i) { return vb_load64(VB_AT(p, raw8, i)); }

/* ---- bits that differ ---- */

/* Take in a strip; COUNT is a type that holds DIFFERENCE_STRIP. */
#define DIFFERENCE_BITS(T, COUNT)                                                             \
  static void difference_bits_##T(vb_difference *d, const vb_##T *x, const vb_##T *y,         \
                                  size_t n, uint64_t at) {                                    \
    COUNT count = 0;                                                                          \
    for (size_t i = 0; i < n; i++) count += x[i] != y[i];                                     \
    if (d->count == 0 && count != 0) {                                                        \
      size_t i = 0;                                                                           \
      while (x[i] == y[i]) i++;                                                               \
      d->first = at + i;                                                                      \
      d->first_bits[0] = x[i];                                                                \
      d->first_bits[1] = y[i];                                                                \
    }                                                                                         \
    d->count += count;                                                                        \
  }

/* ---- distances ---- */

/* A largest distance and where it stands, if it is larger than that of any strip before. */
#define DIFFERENCE_MAXIMUM(now, at_now, largest, at, distance) \
  if ((largest) > (now)) {                                     \
    size_t i = 0;                                              \
    while ((distance) != (largest)) i++;                       \
    (now) = (largest);                                         \
    (at_now) = (at) + i;                                       \
  }

/* For T, signed as S, widened to W. SIGN and INFINITE are patterns of T. */
#define DIFFERENCE_DISTANCES(T, S, W, SIGN, INFINITE)                                         \
  static inline vb_##T difference_nan_##T(vb_##T x, vb_##T y) {                               \
    const vb_##T p = x & (vb_##T)(SIGN - 1), q = y & (vb_##T)(SIGN - 1);                      \
    return (p > q ? p : q) > (vb_##T)INFINITE;                                                \
  }                                                                                           \
  /* A number in the order of the values, both zeros alike. */                                \
  static inline S difference_place_##T(vb_##T v) {                                            \
    const S magnitude = (S)(v & (vb_##T)(SIGN - 1));                                          \
    return (S)v < 0 ? (S)-magnitude : magnitude;                                              \
  }                                                                                           \
  static inline vb_##T difference_ulp_##T(vb_##T x, vb_##T y) {                               \
    const S p = difference_place_##T(x), q = difference_place_##T(y);                         \
    const vb_##T distance = (vb_##T)((vb_##T)(p > q ? p : q) - (vb_##T)(p > q ? q : p));      \
    return (vb_##T)(distance & (vb_##T)(difference_nan_##T(x, y) - 1));                       \
  }                                                                                           \
  static inline int64_t difference_abs_##T(difference_##W x, difference_##W y) {              \
    const int64_t distance = (int64_t)(vb_double_bits((double)x - (double)y) & INT64_MAX);    \
    return distance > 0x7FF0000000000000 ? 0 : distance; /* NaN, or an infinity twice */      \
  }                                                                                           \
  static void difference_distances_##T(vb_difference *d, const vb_##T *x, const vb_##T *y,    \
                                       size_t n, uint64_t at) {                               \
    vb_##T unordered = 0, ulp = 0;                                                            \
    for (size_t i = 0; i < n; i++) {                                                          \
      const vb_##T here = difference_ulp_##T(x[i], y[i]);                                     \
      ulp = here > ulp ? here : ulp;                                                          \
    }                                                                                         \
    for (size_t i = 0; i < n; i++)                                                            \
      unordered += (vb_##T)((vb_##T)(x[i] != y[i]) & difference_nan_##T(x[i], y[i]));         \
    d->unordered += unordered;                                                                \
    DIFFERENCE_MAXIMUM(d->max_ulp, d->max_ulp_at, ulp, at, difference_ulp_##T(x[i], y[i]))    \
    difference_##W p[DIFFERENCE_STRIP], q[DIFFERENCE_STRIP];                                  \
    difference_widen_##T(p, x, n);                                                            \
    difference_widen_##T(q, y, n);                                                            \
    int64_t bits = 0; /* signed: more instruction sets compare such */                        \
    for (size_t i = 0; i < n; i++) {                                                          \
      const int64_t here = difference_abs_##T(p[i], q[i]);                                    \
      bits = here > bits ? here : bits;                                                       \
    }                                                                                         \
    const double distance = vb_double((vb_f64)bits);                                          \
    DIFFERENCE_MAXIMUM(d->max_abs, d->max_abs_at, distance, at,                               \
                       vb_double((vb_f64)difference_abs_##T(p[i], q[i])))                     \
  }
typedef float difference_f32;
typedef double difference_f64;
static inline float difference_as_f32(vb_f32 v) { return vb_float(v); }
static inline double difference_as_f64(vb_f64 v) { return vb_double(v); }

/* With the instructions that convert, where vec_<isa>.h has been included; a NaN is a NaN. */
#if defined(VEC_ISA)
#define DIFFERENCE_VECTORS(T, W)                  \
  for (; n - i >= VEC_LANES_##W; i += VEC_LANES_##W) \
    (void)vec_store_##W(p + i, vec_load_##T(x + i));
#else
#define DIFFERENCE_VECTORS(T, W)
#endif
#define DIFFERENCE_WIDEN(T, W)                                                                \
  static inline void difference_widen_##T(difference_##W *p, const vb_##T *x, size_t n) {     \
    size_t i = 0;                                                                             \
    DIFFERENCE_VECTORS(T, W)                                                                  \
    for (; i < n; i++) p[i] = difference_as_##W(vb_widen_##T##_##W(x[i]));                    \
  }
DIFFERENCE_WIDEN(f16, f32)
DIFFERENCE_WIDEN(bf16, f32)
DIFFERENCE_WIDEN(f32, f32)
DIFFERENCE_WIDEN(f64, f64)

/* ---- kernels ---- */

#define DIFFERENCE_DISTANCES_RAW(T)                                                           \
  static inline void difference_distances_##T(vb_difference *d, const vb_##T *x,              \
                                              const vb_##T *y, size_t n, uint64_t at) {       \
    (void)d, (void)x, (void)y, (void)n, (void)at;                                             \
  }

#define DIFFERENCE_DEFINE(T, isa)                                                             \
  static void difference_##T##_##isa(vb_difference *d, const void *a, const void *b, size_t n, \
                                     uint64_t at) {                                           \
    const vb_fp_env env = vb_fp_begin();                                                      \
    for (size_t i = 0; i < n; i += DIFFERENCE_STRIP) {                                        \
      const size_t count = n - i < DIFFERENCE_STRIP ? n - i : DIFFERENCE_STRIP;               \
      const uint8_t *p = VB_AT(a, T, i), *q = VB_AT(b, T, i);                                 \
      if (memcmp(p, q, count * sizeof(vb_##T)) == 0) continue;                                \
      vb_##T x[DIFFERENCE_STRIP], y[DIFFERENCE_STRIP];                                        \
      for (size_t j = 0; j < count; j++) x[j] = vb_load_##T(p, j);                            \
      for (size_t j = 0; j < count; j++) y[j] = vb_load_##T(q, j);                            \
      difference_bits_##T(d, x, y, count, at + i);                                            \
      difference_distances_##T(d, x, y, count, at + i);                                       \
    }                                                                                         \
    vb_fp_end(env);                                                                           \
  }

#define DIFFERENCE_TYPES(X, isa) \
  X(f16, isa) X(bf16, isa) X(f32, isa) X(f64, isa) \
  X(raw1, isa) X(raw2, isa) X(raw4, isa) X(raw8, isa)

/* All kernels of an instruction set, and vb_difference_<isa>. */
#define DIFFERENCE_KERNELS(isa)                        \
  DIFFERENCE_TYPES(DIFFERENCE_DEFINE, isa)             \
  void vb_difference_##isa(vb_kernels *k) {            \
    k->difference[VB_F16] = difference_f16_##isa;      \
    k->difference[VB_BF16] = difference_bf16_##isa;    \
    k->difference[VB_F32] = difference_f32_##isa;      \
    k->difference[VB_F64] = difference_f64_##isa;      \
    k->difference_raw[0] = difference_raw1_##isa;      \
    k->difference_raw[1] = difference_raw2_##isa;      \
    k->difference_raw[2] = difference_raw4_##isa;      \
    k->difference_raw[3] = difference_raw8_##isa;      \
  }

DIFFERENCE_BITS(f16, uint16_t)
DIFFERENCE_BITS(bf16, uint16_t)
DIFFERENCE_BITS(f32, uint32_t)
DIFFERENCE_BITS(f64, uint64_t)
DIFFERENCE_BITS(raw1, uint16_t)
DIFFERENCE_BITS(raw2, uint16_t)
DIFFERENCE_BITS(raw4, uint32_t)
DIFFERENCE_BITS(raw8, uint64_t)
DIFFERENCE_DISTANCES(f16, int16_t, f32, 0x8000u, 0x7C00u)
DIFFERENCE_DISTANCES(bf16, int16_t, f32, 0x8000u, 0x7F80u)
DIFFERENCE_DISTANCES(f32, int32_t, f32, 0x80000000u, 0x7F800000u)
DIFFERENCE_DISTANCES(f64, int64_t, f64, 0x8000000000000000u, 0x7FF0000000000000u)
DIFFERENCE_DISTANCES_RAW(raw1)
DIFFERENCE_DISTANCES_RAW(raw2)
DIFFERENCE_DISTANCES_RAW(raw4)
DIFFERENCE_DISTANCES_RAW(raw8)

#endif
