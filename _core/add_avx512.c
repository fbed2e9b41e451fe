/* add_avx512.c - addition and subtraction with AVX-512 F+BW+VL+DQ (contract: vb_arith_fn). */
#include "vec_avx512.h"

#include "arith_simd.h"

VEC_ARITH_PAIRS(VEC_DEFINE_ARITH_PAIR)

void vb_add_avx512(vb_kernels *k) { VEC_ARITH_PAIRS(VEC_USE_ARITH_PAIR) }
