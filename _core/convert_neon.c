/* convert_neon.c - rounding to another element type with base ARMv8-A
 * (contract: vb_convert_fn). */
#include "vec_neon.h"

#include "arith_simd.h"

VEC_CONVERT_PAIRS(VEC_DEFINE_CONVERT)

void vb_convert_neon(vb_kernels *k) { VEC_CONVERT_PAIRS(VEC_USE_CONVERT_PAIR) }
