/* add_neon.c - addition and subtraction with base ARMv8-A (contract: vb_arith_fn). */
#include "vec_neon.h"

#include "arith_simd.h"

VEC_ARITH_PAIRS(VEC_DEFINE_ARITH_PAIR)

void vb_add_neon(vb_kernels *k) { VEC_ARITH_PAIRS(VEC_USE_ARITH_PAIR) }
