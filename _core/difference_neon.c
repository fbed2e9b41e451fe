/* difference_neon.c - comparing elements with base ARMv8-A (contract: vb_difference_fn). */
#include "vec_neon.h"

#include "difference_loops.h"

DIFFERENCE_KERNELS(neon)
