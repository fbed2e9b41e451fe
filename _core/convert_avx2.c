/* convert_avx2.c - rounding to another element type with AVX2 and F16C
 * (contract: vb_convert_fn). */
#include "vec_avx2.h"

#include "arith_simd.h"

VEC_CONVERT_PAIRS(VEC_DEFINE_CONVERT)

void vb_convert_avx2(vb_kernels *k) { VEC_CONVERT_PAIRS(VEC_USE_CONVERT_PAIR) }
