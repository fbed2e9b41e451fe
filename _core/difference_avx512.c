/* difference_avx512.c - comparing elements, compiled for AVX-512 (contract: vb_difference_fn). */
#include "difference_loops.h"

DIFFERENCE_KERNELS(avx512)
