/* difference_avx2.c - comparing elements with AVX2 and F16C (contract: vb_difference_fn). */
#include "vec_avx2.h"

#include "difference_loops.h"

DIFFERENCE_KERNELS(avx2)
