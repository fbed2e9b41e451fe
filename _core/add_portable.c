/* add_portable.c - addition and subtraction, portable C: the definition (contract: vb_arith_fn). */
#include "arith_scalar.h"

#define DEFINE_ARITH(op, A, B, W)                                                           \
  size_t vb_##op##_##A##_##B##_portable(void *out, const void *a, const void *b, size_t n) { \
    const vb_fp_env env = vb_fp_begin();                                                    \
    size_t first = n;                                                                       \
    for (size_t at = 0; at < n; at += VB_STRIP) {                                           \
      const size_t count = n - at < VB_STRIP ? n - at : VB_STRIP;                           \
      vb_##A strip[VB_STRIP];                                                               \
      unsigned seen = 0;                                                                    \
      for (size_t i = 0; i < count; i++) {                                                  \
        const vb_##W x = vb_widen_##A##_##W(vb_load_##A(a, at + i));                        \
        const vb_##W y = vb_widen_##B##_##W(vb_load_##B(b, at + i));                        \
        strip[i] = vb_narrow_##W##_##A(vb_##op##_##W(x, y));                                \
        seen |= vb_nonfinite_##A(strip[i]);                                                 \
      }                                                                                     \
      VB_STORE_STRIP(A, out, at, strip, count);                                             \
      if (seen && first == n) first = at + vb_find_nonfinite_##A(VB_AT(out, A, at), count); \
    }                                                                                       \
    vb_fp_end(env);                                                                         \
    return first;                                                                           \
  }
#define DEFINE_PAIR(A, B, W) DEFINE_ARITH(add, A, B, W) DEFINE_ARITH(sub, A, B, W)
VB_PAIRS(DEFINE_PAIR)

void vb_add_portable(vb_kernels *k) {
#define USE_PAIR(A, B, W)                                            \
  k->add[VB_INDEX_##A][VB_INDEX_##B] = vb_add_##A##_##B##_portable;  \
  k->sub[VB_INDEX_##A][VB_INDEX_##B] = vb_sub_##A##_##B##_portable;
  VB_PAIRS(USE_PAIR)
}
