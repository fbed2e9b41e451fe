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

/* One read per run along `axis`, or per element where even a run is too far apart. */
static vb_status gather_runs(int fd, const vb_view *v, const vb_box *box, uint64_t base, uint8_t *out,
                             const uint64_t *to, uint8_t *span, size_t span_size, vb_fault *fault) {
  int axis = run_axis(box, v->stride);
  size_t itemsize = vb_type_size(v->type);
  uint64_t dim[VB_RANK], piece = 1 + (span_size - itemsize) / (v->stride[axis] + !v->stride[axis]);
  memcpy(dim, box->dim, sizeof dim);
  dim[axis] = 1;
  vb_box line = {.dim = {1, 1, 1, 1}};
  for (uint64_t i = 0; i < vb_count(dim); i++) {
    uint64_t rest = i, in_offset = base, out_offset = 0;
    for (int d = VB_RANK - 1; d >= 0; d--) {
      in_offset += rest % dim[d] * v->stride[d];
      out_offset += rest % dim[d] * to[d];
      rest /= dim[d];
    }
    for (uint64_t j = 0; j < box->dim[axis]; j += line.dim[axis]) {
      uint64_t left = box->dim[axis] - j;
      line.dim[axis] = piece < left ? piece : left;
      size_t bytes = (size_t)extent(&line, v->stride, itemsize);
      vb_status status = vb_read(fd, span, bytes, in_offset + j * v->stride[axis], fault);
      if (status) return status;
      vb_rearrange(out + out_offset + j * to[axis], to, span, v->stride, line.dim, itemsize);
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
