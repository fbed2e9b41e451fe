/* convert_avx512.c - rounding to another element type with AVX-512 F+BW+VL+DQ
 * (contract: vb_convert_fn). */
#include "vec_avx512.h"

#include "arith_simd.h"

VEC_CONVERT_PAIRS(VEC_DEFINE_CONVERT)

void vb_convert_avx512(vb_kernels *k) { VEC_CONVERT_PAIRS(VEC_USE_CONVERT_PAIR) }
