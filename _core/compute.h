/* compute.h - one segment's operation on a block of elements in memory. */
#ifndef VB_COMPUTE_H
#define VB_COMPUTE_H

#include "table.h"

/* out = op(a, b) over n elements of the segment's types. `out` overlaps neither operand. Returns the
 * index of the first element that numerics.md calls a non-finite result (of arithmetic, or of a
 * conversion that overflows; vb_quantize_fn for block types), or n. Copies within one type and XOR have none. */
size_t vb_compute(const vb_kernels *k, const vb_segment *s, void *out, const void *a, const void *b,
                  size_t n);

/* The kernel that compares elements of a type. */
vb_difference_fn vb_difference_of(const vb_kernels *k, int type);
/* The index of the first of n values of f32 that is not finite, or n. */
size_t vb_first_nonfinite(const uint8_t *data, size_t n);

#endif
