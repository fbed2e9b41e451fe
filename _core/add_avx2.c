/* add_avx2.c - addition and subtraction with AVX2 and F16C (contract: vb_arith_fn). */
#include "vec_avx2.h"

#include "arith_simd.h"

VEC_ARITH_PAIRS(VEC_DEFINE_ARITH_PAIR)

void vb_add_avx2(vb_kernels *k) { VEC_ARITH_PAIRS(VEC_USE_ARITH_PAIR) }
