/* fetch.h - bytes of a view, from a file into memory; and bytes into a file. */
#ifndef VB_FETCH_H
#define VB_FETCH_H

#include "machine.h"

/* Read exactly `size` bytes at `offset`. */
vb_status vb_read(int fd, void *buffer, size_t size, uint64_t offset, vb_fault *fault);

/* Write all of `size` bytes at `offset`. */
vb_status vb_write(int fd, const void *buffer, size_t size, uint64_t offset, vb_fault *fault);

/* A box of elements: some extents of one axis and all of the axes inside it. So it is a run of them in
 * C order, too. */
typedef struct vb_box {
  uint64_t at[VB_RANK];  /* index of its first element */
  uint64_t dim[VB_RANK]; /* extents */
  uint64_t count;        /* elements */
} vb_box;

/* The box that starts at element `first` and has at most `capacity` (>= 1) elements. */
vb_box vb_box_at(const uint64_t dim[VB_RANK], uint64_t first, size_t capacity);

/* The strides, in bytes, of elements of these dimensions that lie densely in C order. */
void vb_dense_strides(const uint64_t dim[VB_RANK], size_t itemsize, uint64_t stride[VB_RANK]);

/* Copy items between strided layouts in memory; strides in bytes. */
void vb_rearrange(uint8_t *out, const uint64_t *to, const uint8_t *in, const uint64_t *from,
                  const uint64_t *dim, size_t itemsize);

/* The elements of a strided view in a box, into `out` with the strides `to`. `span` is scratch of
 * `span_size` bytes (>= 256). */
vb_status vb_gather(int fd, const vb_view *v, const vb_box *box, uint8_t *out, const uint64_t *to,
                    uint8_t *span, size_t span_size, vb_fault *fault);

#endif
