/* fetch.h - bytes of an operand, from its source into memory. */
#ifndef VB_FETCH_H
#define VB_FETCH_H

#include "machine.h"

/* Read exactly `size` bytes at `offset`. */
vb_status vb_read(int fd, void *buffer, size_t size, uint64_t offset, vb_fault *fault);

/* A box of a segment: some extents of one axis and all of the axes inside it. */
typedef struct vb_box {
  uint64_t at[VB_RANK];  /* index of its first element */
  uint64_t dim[VB_RANK]; /* extents */
  uint64_t count;        /* elements */
} vb_box;

/* The box that starts at element `first` and has at most `capacity` (>= 1) elements. */
vb_box vb_box_at(const vb_segment *s, uint64_t first, size_t capacity);

/* The elements of a strided operand in a box, densely in C order, into `out`. `span` is scratch of
 * `span_size` bytes (>= 8). */
vb_status vb_gather(int fd, const vb_operand *o, const vb_box *box, size_t itemsize, uint8_t *out,
                    uint8_t *span, size_t span_size, vb_fault *fault);

#endif
