/* fetch.c - reading dense and strided operands.
 *
 * A strided box is read in as few calls as its layout allows: if what it spans in the file is not much
 * more than what it holds, the span is read once, in file order, and rearranged in memory; otherwise one
 * read is made per run along the axis with the smallest stride.
 */
#include "fetch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { LINES = 32 }; /* runs of a gathered box that are put in their place together */

vb_status vb_read(int fd, void *buffer, size_t size, uint64_t offset, vb_fault *fault) {
  uint8_t *p = buffer;
  while (size) {
    ssize_t got = pread(fd, p, size, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      fault->error = errno;
      return fault->status = VB_READ_FAILED;
    }
    if (got == 0) return fault->status = VB_READ_SHORT;
    p += got;
    offset += (uint64_t)got;
    size -= (size_t)got;
  }
  return VB_OK;
}

vb_status vb_write(int fd, const void *buffer, size_t size, uint64_t offset, vb_fault *fault) {
  const uint8_t *p = buffer;
  while (size) {
    ssize_t put = pwrite(fd, p, size, (off_t)offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      fault->error = errno;
      return fault->status = VB_WRITE_FAILED;
    }
    p += put;
    offset += (uint64_t)put;
    size -= (size_t)put;
  }
  return VB_OK;
}

vb_box vb_box_at(const uint64_t dim[VB_RANK], uint64_t first, size_t capacity) {
  int axis = VB_RANK - 1;
  uint64_t inner = 1; /* elements of one step along `axis` */
  while (axis > 0 && inner * dim[axis] <= capacity) inner *= dim[axis--];
  vb_box box;
  uint64_t rest = first;
  for (int d = VB_RANK - 1; d >= 0; d--) {
    box.at[d] = rest % dim[d];
    rest /= dim[d];
    box.dim[d] = d > axis ? dim[d] : 1;
  }
  uint64_t steps = capacity / inner, left = dim[axis] - box.at[axis];
  box.dim[axis] = steps < left ? steps : left;
  box.count = inner * box.dim[axis];
  return box;
}

void vb_dense_strides(const uint64_t dim[VB_RANK], size_t itemsize, uint64_t stride[VB_RANK]) {
  uint64_t step = itemsize;
  for (int d = VB_RANK - 1; d >= 0; d--) {
    stride[d] = step;
    step *= dim[d];
  }
}

static uint64_t extent(const vb_box *box, const uint64_t *stride, size_t itemsize) {
  uint64_t last = 0;
  for (int d = 0; d < VB_RANK; d++) last += (box->dim[d] - 1) * stride[d];
  return last + itemsize;
}

/* A line of items, of which each has a stride; the size is a constant where this is called. */
static inline void line_of_items(uint8_t *out, uint64_t to, const uint8_t *in, uint64_t from, uint64_t n,
                                 size_t itemsize) {
  for (uint64_t i = 0; i < n; i++) memcpy(out + i * to, in + i * from, itemsize);
}

static void copy_line(uint8_t *out, uint64_t to, const uint8_t *in, uint64_t from, uint64_t n,
                      size_t itemsize) {
  if (from == itemsize && to == itemsize) {
    memcpy(out, in, n * itemsize);
    return;
  }
  switch (itemsize) {
    case 1: line_of_items(out, to, in, from, n, 1); return;
    case 2: line_of_items(out, to, in, from, n, 2); return;
    case 4: line_of_items(out, to, in, from, n, 4); return;
    default: line_of_items(out, to, in, from, n, 8); return;
  }
}

void vb_rearrange(uint8_t *out, const uint64_t *to, const uint8_t *in, const uint64_t *from,
                  const uint64_t *dim, size_t itemsize) {
  for (uint64_t i = 0; i < dim[0]; i++)
    for (uint64_t j = 0; j < dim[1]; j++)
      for (uint64_t l = 0; l < dim[2]; l++)
        copy_line(out + i * to[0] + j * to[1] + l * to[2], to[3],
                  in + i * from[0] + j * from[1] + l * from[2], from[3], dim[3], itemsize);
}

/* The axis to read along: the smallest stride among the axes that have more than one element. */
static int run_axis(const vb_box *box, const uint64_t *stride) {
  int best = VB_RANK - 1;
  for (int d = VB_RANK - 1; d >= 0; d--)
    if (box->dim[d] > 1 && (box->dim[best] == 1 || stride[d] < stride[best])) best = d;
  return best;
}

/* The innermost other axis that has more than one element, or `axis` if there is none. */
static int axis_across(const vb_box *box, int axis) {
  for (int d = VB_RANK - 1; d >= 0; d--)
    if (d != axis && box->dim[d] > 1) return d;
  return axis;
}

/* Read runs that lie side by side along `across` one after the other into `span`, and put them in their
 * place together: so a line of `out` is written at a time. `block` has the extents of all of them. */
static vb_status gather_lines(int fd, const vb_view *v, const vb_box *block, int axis, int across,
                              uint64_t offset, uint8_t *out, const uint64_t *to, uint8_t *span,
                              vb_fault *fault) {
  vb_box line = {.dim = {1, 1, 1, 1}};
  line.dim[axis] = block->dim[axis];
  size_t itemsize = vb_type_size(v->type), bytes = (size_t)extent(&line, v->stride, itemsize);
  uint64_t from[VB_RANK], n = across == axis ? 1 : block->dim[across];
  memcpy(from, v->stride, sizeof from);
  for (uint64_t i = 0; i < n; i++) {
    vb_status status = vb_read(fd, span + i * bytes, bytes, offset + i * v->stride[across], fault);
    if (status) return status;
  }
  if (across != axis) from[across] = bytes;
  vb_rearrange(out, to, span, from, block->dim, itemsize);
  return VB_OK;
}

/* One read per run along the axis of the smallest stride, or per element where even a run is too far
 * apart. */
static vb_status gather_runs(int fd, const vb_view *v, const vb_box *box, uint64_t base, uint8_t *out,
                             const uint64_t *to, uint8_t *span, size_t span_size, vb_fault *fault) {
  int axis = run_axis(box, v->stride), across = axis_across(box, axis);
  size_t itemsize = vb_type_size(v->type);
  uint64_t share = span_size / LINES, step = v->stride[axis] + !v->stride[axis];
  uint64_t most[VB_RANK] = {1, 1, 1, 1}; /* extents of what is read together */
  most[across] = LINES;
  most[axis] = 1 + (share - itemsize) / step;
  vb_box block = {.count = 0};
  uint64_t at[VB_RANK] = {0};
  for (int d = 0; d >= 0;) {
    uint64_t in_offset = base, out_offset = 0;
    for (int e = 0; e < VB_RANK; e++) {
      uint64_t left = box->dim[e] - at[e];
      block.dim[e] = most[e] < left ? most[e] : left;
      in_offset += at[e] * v->stride[e];
      out_offset += at[e] * to[e];
    }
    vb_status status =
        gather_lines(fd, v, &block, axis, across, in_offset, out + out_offset, to, span, fault);
    if (status) return status;
    for (d = VB_RANK - 1; d >= 0; d--) { /* the next place */
      at[d] += block.dim[d];
      if (at[d] < box->dim[d]) break;
      at[d] = 0;
    }
  }
  return VB_OK;
}

vb_status vb_gather(int fd, const vb_view *v, const vb_box *box, uint8_t *out, const uint64_t *to,
                    uint8_t *span, size_t span_size, vb_fault *fault) {
  size_t itemsize = vb_type_size(v->type);
  uint64_t base = v->offset, bytes = extent(box, v->stride, itemsize);
  for (int d = 0; d < VB_RANK; d++) base += box->at[d] * v->stride[d];
  if (bytes > span_size || bytes > 4 * box->count * itemsize + 4096)
    return gather_runs(fd, v, box, base, out, to, span, span_size, fault);
  vb_status status = vb_read(fd, span, (size_t)bytes, base, fault);
  if (!status) vb_rearrange(out, to, span, v->stride, box->dim, itemsize);
  return status;
}
