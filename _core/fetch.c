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

vb_box vb_box_at(const vb_segment *s, uint64_t first, size_t capacity) {
  int axis = VB_RANK - 1;
  uint64_t inner = 1; /* elements of one step along `axis` */
  while (axis > 0 && inner * s->dim[axis] <= capacity) inner *= s->dim[axis--];
  vb_box box;
  uint64_t rest = first;
  for (int d = VB_RANK - 1; d >= 0; d--) {
    box.at[d] = rest % s->dim[d];
    rest /= s->dim[d];
    box.dim[d] = d > axis ? s->dim[d] : 1;
  }
  uint64_t steps = capacity / inner, left = s->dim[axis] - box.at[axis];
  box.dim[axis] = steps < left ? steps : left;
  box.count = inner * box.dim[axis];
  return box;
}

static uint64_t extent(const vb_box *box, const uint64_t *stride, size_t itemsize) {
  uint64_t last = 0;
  for (int d = 0; d < VB_RANK; d++) last += (box->dim[d] - 1) * stride[d];
  return last + itemsize;
}

/* Copy items between strided layouts; strides in bytes. */
static void rearrange(uint8_t *out, const uint64_t *to, const uint8_t *in, const uint64_t *from,
                      const uint64_t *dim, size_t itemsize) {
  bool run = from[3] == itemsize && to[3] == itemsize;
  for (uint64_t i = 0; i < dim[0]; i++)
    for (uint64_t j = 0; j < dim[1]; j++)
      for (uint64_t l = 0; l < dim[2]; l++) {
        uint8_t *p = out + i * to[0] + j * to[1] + l * to[2];
        const uint8_t *q = in + i * from[0] + j * from[1] + l * from[2];
        if (run) {
          memcpy(p, q, dim[3] * itemsize);
          continue;
        }
        for (uint64_t m = 0; m < dim[3]; m++) memcpy(p + m * to[3], q + m * from[3], itemsize);
      }
}

/* The axis to read along: the smallest stride among the axes that have more than one element. */
static int run_axis(const vb_box *box, const uint64_t *stride) {
  int best = VB_RANK - 1;
  for (int d = VB_RANK - 1; d >= 0; d--)
    if (box->dim[d] > 1 && (box->dim[best] == 1 || stride[d] < stride[best])) best = d;
  return best;
}

/* One read per run along `axis`, or per element where even a run is too far apart. */
static vb_status gather_runs(int fd, const vb_operand *o, const vb_box *box, uint64_t base,
                             const uint64_t *dense, size_t itemsize, uint8_t *out, uint8_t *span,
                             size_t span_size, vb_fault *fault) {
  int axis = run_axis(box, o->stride);
  uint64_t dim[VB_RANK], piece = 1 + (span_size - itemsize) / (o->stride[axis] + !o->stride[axis]);
  memcpy(dim, box->dim, sizeof dim);
  dim[axis] = 1;
  vb_box line = {.dim = {1, 1, 1, 1}};
  for (uint64_t i = 0; i < dim[0] * dim[1] * dim[2] * dim[3]; i++) {
    uint64_t rest = i, in_offset = base, out_offset = 0;
    for (int d = VB_RANK - 1; d >= 0; d--) {
      in_offset += rest % dim[d] * o->stride[d];
      out_offset += rest % dim[d] * dense[d];
      rest /= dim[d];
    }
    for (uint64_t j = 0; j < box->dim[axis]; j += line.dim[axis]) {
      uint64_t left = box->dim[axis] - j;
      line.dim[axis] = piece < left ? piece : left;
      size_t bytes = (size_t)extent(&line, o->stride, itemsize);
      vb_status status = vb_read(fd, span, bytes, in_offset + j * o->stride[axis], fault);
      if (status) return status;
      rearrange(out + out_offset + j * dense[axis], dense, span, o->stride, line.dim, itemsize);
    }
  }
  return VB_OK;
}

vb_status vb_gather(int fd, const vb_operand *o, const vb_box *box, size_t itemsize, uint8_t *out,
                    uint8_t *span, size_t span_size, vb_fault *fault) {
  uint64_t dense[VB_RANK], base = o->offset, step = itemsize;
  for (int d = VB_RANK - 1; d >= 0; d--) {
    dense[d] = step;
    step *= box->dim[d];
    base += box->at[d] * o->stride[d];
  }
  uint64_t bytes = extent(box, o->stride, itemsize);
  if (bytes > span_size || bytes > 4 * box->count * itemsize + 4096)
    return gather_runs(fd, o, box, base, dense, itemsize, out, span, span_size, fault);
  vb_status status = vb_read(fd, span, (size_t)bytes, base, fault);
  if (!status) rearrange(out, dense, span, o->stride, box->dim, itemsize);
  return status;
}
