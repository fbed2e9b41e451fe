/* arith.h - what the arithmetic kernels share: element types, the floating-point environment, and
 * the portable kernels by name.
 *
 * Rules that hold for every file that includes this
 * - Elements are handled as bit patterns; a pattern becomes a float only around one operation.
 * - Each kernel runs in the default floating-point environment and leaves the caller's as it was.
 *   A library built with -ffast-math switches a process to flush-to-zero; that must not reach the
 *   bits (numerics.md: subnormals are kept).
 * - A NaN result is chosen by mask, never by the order of operands: compilers commute them, and
 *   CPUs differ in which NaN they return (numerics.md, rule B).
 * - SIMD kernels do whole vectors and give what is left to the portable kernel of the same name.
 */
#ifndef VB_ARITH_H
#define VB_ARITH_H

#include <float.h>
#include <string.h>

#include "vb.h"

#if defined(__SSE2__)
#include <immintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif

/* With FLT_EVAL_METHOD 1 a float sum is made in double and rounded to float, which is the same sum
 * (53 >= 2 * 24 + 2). With 2 (x87) the sum of doubles would be rounded twice. */
_Static_assert(FLT_EVAL_METHOD == 0 || FLT_EVAL_METHOD == 1,
               "build with -msse2 -mfpmath=sse: x87 arithmetic rounds twice");

/* ---- element types, as bit patterns ---- */
typedef uint16_t vb_f16;
typedef uint16_t vb_bf16;
typedef uint32_t vb_f32;
typedef uint64_t vb_f64;

/* Each pair of element types with the type W that its operations are done in: X(A, B, W). */
#define VB_PAIRS(X)                                                          \
  X(f16, f16, f32) X(f16, bf16, f32) X(f16, f32, f32) X(f16, f64, f64)       \
  X(bf16, f16, f32) X(bf16, bf16, f32) X(bf16, f32, f32) X(bf16, f64, f64)   \
  X(f32, f16, f32) X(f32, bf16, f32) X(f32, f32, f32) X(f32, f64, f64)       \
  X(f64, f16, f64) X(f64, bf16, f64) X(f64, f32, f64) X(f64, f64, f64)

/* The index of a type in the tables of vb_kernels. */
#define VB_INDEX_f16 VB_F16
#define VB_INDEX_bf16 VB_BF16
#define VB_INDEX_f32 VB_F32
#define VB_INDEX_f64 VB_F64

/* The address of element i of an array of T. */
#define VB_AT(p, T, i) ((const uint8_t *)(p) + (i) * sizeof(vb_##T))
#define VB_AT_OUT(p, T, i) ((uint8_t *)(p) + (i) * sizeof(vb_##T))

static inline vb_f16 vb_load_f16(const void *p, size_t i) { return vb_load16(VB_AT(p, f16, i)); }
static inline vb_bf16 vb_load_bf16(const void *p, size_t i) { return vb_load16(VB_AT(p, bf16, i)); }
static inline vb_f32 vb_load_f32(const void *p, size_t i) { return vb_load32(VB_AT(p, f32, i)); }
static inline vb_f64 vb_load_f64(const void *p, size_t i) { return vb_load64(VB_AT(p, f64, i)); }

static inline bool vb_nonfinite_f16(vb_f16 v) { return (v & 0x7C00u) == 0x7C00u; }
static inline bool vb_nonfinite_bf16(vb_bf16 v) { return (v & 0x7F80u) == 0x7F80u; }
static inline bool vb_nonfinite_f32(vb_f32 v) { return (v & 0x7F800000u) == 0x7F800000u; }
static inline bool vb_nonfinite_f64(vb_f64 v) {
  return (v & 0x7FF0000000000000u) == 0x7FF0000000000000u;
}

/* The index of the first non-finite element, or n. */
#define VB_DEFINE_FIND(T)                                                 \
  static inline size_t vb_find_nonfinite_##T(const void *p, size_t n) {   \
    size_t i = 0;                                                         \
    while (i < n && !vb_nonfinite_##T(vb_load_##T(p, i))) i++;            \
    return i;                                                             \
  }
VB_DEFINE_FIND(f16)
VB_DEFINE_FIND(bf16)
VB_DEFINE_FIND(f32)
VB_DEFINE_FIND(f64)
#undef VB_DEFINE_FIND

/* ---- the portable kernels (add_portable.c, convert_portable.c, xor_portable.c) ---- */
#define VB_DECLARE_PAIR(A, B, W)                                                            \
  size_t vb_add_##A##_##B##_portable(void *out, const void *a, const void *b, size_t n);    \
  size_t vb_sub_##A##_##B##_portable(void *out, const void *a, const void *b, size_t n);    \
  size_t vb_convert_##A##_##B##_portable(void *out, const void *in, size_t n);
VB_PAIRS(VB_DECLARE_PAIR)
#undef VB_DECLARE_PAIR
void vb_xor_bytes_portable(void *out, const void *a, const void *b, size_t nbytes);

/* ---- the floating-point environment ----
 * vb_fp_begin sets the default (round to nearest even, subnormals kept, nothing traps) and returns
 * what was there; vb_fp_end puts that back. Loads and stores do not move across either, and so
 * neither does arithmetic on what is loaded and stored between them.
 */
#define VB_FP_BARRIER() __asm__ volatile("" ::: "memory")

#if defined(__SSE2__)
typedef unsigned vb_fp_env;
static inline vb_fp_env vb_fp_begin(void) {
  const vb_fp_env env = _mm_getcsr();
  _mm_setcsr(0x1F80u);
  VB_FP_BARRIER();
  return env;
}
static inline void vb_fp_end(vb_fp_env env) {
  VB_FP_BARRIER();
  _mm_setcsr(env);
}
#elif defined(__aarch64__)
typedef uint64_t vb_fp_env;
static inline vb_fp_env vb_fp_begin(void) {
  vb_fp_env env;
  __asm__ volatile("mrs %0, fpcr" : "=r"(env));
  __asm__ volatile("msr fpcr, %0" ::"r"((vb_fp_env)0) : "memory");
  return env;
}
static inline void vb_fp_end(vb_fp_env env) {
  __asm__ volatile("msr fpcr, %0" ::"r"(env) : "memory");
}
#else
typedef fenv_t vb_fp_env;
static inline vb_fp_env vb_fp_begin(void) {
  vb_fp_env env;
  fegetenv(&env);
  fesetenv(FE_DFL_ENV);
  VB_FP_BARRIER();
  return env;
}
static inline void vb_fp_end(vb_fp_env env) {
  VB_FP_BARRIER();
  fesetenv(&env);
}
#endif

#endif
