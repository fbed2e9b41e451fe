/* arith_simd.h - the loops of the SIMD kernels, the same for every instruction set.
 *
 * A file vec_<isa>.h, included before this one, says what a vector is. For the types T it knows:
 * - VEC_ISA: the suffix; vec_f32 and vec_f64: vectors of W; VEC_LANES_f32 and VEC_LANES_f64;
 * - vec_load_T(p): a vector of the type W that T is operated on in (f64 for f64, else f32), exact;
 * - vec_store_T(p, v): that vector narrowed to T as vb_narrow_W_T does, and the T's elements as an
 *   integer vector vec_bits_T;
 * - vec_seen_T(seen, bits): `seen` (starts as zero) with what the elements tell of being finite;
 *   vec_any_nonfinite_T(seen): whether any that it has seen was not;
 * - vec_add_W(x, y), vec_sub_W(x, y);
 * - vec_rule_b_T(x, y, v): v with its NaN chosen by rule B, as a result of type T;
 * - vec_quiet_f32(v): v with its NaN made quiet (a load may leave it signalling);
 * - vec_overflows_T(v): whether any element is finite and becomes infinite as T.
 */
#ifndef VB_ARITH_SIMD_H
#define VB_ARITH_SIMD_H

#include "arith.h"

#define VEC_NAME_(op, A, B, isa) vb_##op##_##A##_##B##_##isa
#define VEC_NAME(op, A, B, isa) VEC_NAME_(op, A, B, isa)

/* vb_arith_fn for one operation and pair. Where the first non-finite result is gets looked up only
 * once one is known to exist. */
#define VEC_DEFINE_ARITH(op, A, B, W)                                                             \
  static size_t VEC_NAME(op, A, B, VEC_ISA)(void *out, const void *a, const void *b, size_t n) {  \
    const vb_fp_env env = vb_fp_begin();                                                          \
    vec_bits_##A seen = {0};                                                                      \
    size_t i = 0;                                                                                 \
    for (; n - i >= VEC_LANES_##W; i += VEC_LANES_##W) {                                          \
      const vec_##W x = vec_load_##A(VB_AT(a, A, i)), y = vec_load_##B(VB_AT(b, B, i));           \
      const vec_##W v = vec_rule_b_##A(x, y, vec_##op##_##W(x, y));                               \
      seen = vec_seen_##A(seen, vec_store_##A(VB_AT_OUT(out, A, i), v));                          \
    }                                                                                             \
    const size_t rest = vb_##op##_##A##_##B##_portable(VB_AT_OUT(out, A, i), VB_AT(a, A, i),      \
                                                       VB_AT(b, B, i), n - i);                    \
    vb_fp_end(env);                                                                               \
    if (!vec_any_nonfinite_##A(seen)) return i + rest;                                            \
    return vb_find_nonfinite_##A(out, n);                                                         \
  }

/* vb_convert_fn for one pair. An overflow is looked up before its vector is stored, because f16 and
 * bf16 may be converted in place. */
#define VEC_DEFINE_CONVERT(F, T, W)                                                               \
  static size_t VEC_NAME(convert, F, T, VEC_ISA)(void *out, const void *in, size_t n) {           \
    const vb_fp_env env = vb_fp_begin();                                                          \
    size_t first = n, i = 0;                                                                      \
    for (; n - i >= VEC_LANES_##W; i += VEC_LANES_##W) {                                          \
      const vec_##W v = vec_quiet_##W(vec_load_##F(VB_AT(in, F, i)));                             \
      if (vec_overflows_##T(v) && first == n) {                                                   \
        vb_##T scratch[VEC_LANES_##W];                                                            \
        first = i + vb_convert_##F##_##T##_portable(scratch, VB_AT(in, F, i), VEC_LANES_##W);     \
      }                                                                                           \
      (void)vec_store_##T(VB_AT_OUT(out, T, i), v);                                               \
    }                                                                                             \
    const size_t rest =                                                                           \
        vb_convert_##F##_##T##_portable(VB_AT_OUT(out, T, i), VB_AT(in, F, i), n - i);            \
    vb_fp_end(env);                                                                               \
    return first == n ? i + rest : first;                                                         \
  }

/* The pairs that every instruction set accelerates: X(A, B, W). */
#define VEC_ARITH_PAIRS(X)                                         \
  X(f16, f16, f32) X(f16, bf16, f32) X(f16, f32, f32)              \
  X(bf16, f16, f32) X(bf16, bf16, f32) X(bf16, f32, f32)           \
  X(f32, f16, f32) X(f32, bf16, f32) X(f32, f32, f32)              \
  X(f64, f64, f64)
#define VEC_CONVERT_PAIRS(X)                                       \
  X(f16, bf16, f32) X(f16, f32, f32)                               \
  X(bf16, f16, f32) X(bf16, f32, f32)                              \
  X(f32, f16, f32) X(f32, bf16, f32)

#define VEC_DEFINE_ARITH_PAIR(A, B, W) VEC_DEFINE_ARITH(add, A, B, W) VEC_DEFINE_ARITH(sub, A, B, W)
#define VEC_USE_ARITH_PAIR(A, B, W)                                          \
  k->add[VB_INDEX_##A][VB_INDEX_##B] = VEC_NAME(add, A, B, VEC_ISA);         \
  k->sub[VB_INDEX_##A][VB_INDEX_##B] = VEC_NAME(sub, A, B, VEC_ISA);
#define VEC_USE_CONVERT_PAIR(F, T, W) \
  k->convert[VB_INDEX_##F][VB_INDEX_##T] = VEC_NAME(convert, F, T, VEC_ISA);

#endif
