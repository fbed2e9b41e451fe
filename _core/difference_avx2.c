/* difference_avx2.c - comparing elements, compiled for AVX2 (contract: vb_difference_fn). */
#include "difference_loops.h"

DIFFERENCE_KERNELS(avx2)
