/* difference_avx512.c - comparing elements with AVX-512 F+BW+VL+DQ (contract: vb_difference_fn). */
#include "vec_avx512.h"

#include "difference_loops.h"

DIFFERENCE_KERNELS(avx512)
