/* difference_portable.c - comparing elements, portable C: the definition (contract:
 * vb_difference_fn). */
#include "difference_loops.h"

DIFFERENCE_KERNELS(portable)
