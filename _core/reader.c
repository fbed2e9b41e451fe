/* reader.c - how views are read (contracts: reader.h). */
#include "reader.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "state.h"

/* ---- which way ---- */

/* The bytes that axes `first` and those inside it hold, if these are a range of the file; else 0. */
static uint64_t range_bytes(const vb_view *v, int first) {
  uint64_t want = vb_type_size(v->type);
  bool taken[VB_RANK] = {false};
  for (int n = first; n < VB_RANK; n++) {
    int next = -1;
    for (int d = first; d < VB_RANK && next < 0; d++)
      if (!taken[d] && (v->dim[d] == 1 || v->stride[d] == want)) next = d;
    if (next < 0) return 0;
    taken[next] = true;
    want *= v->dim[next];
  }
  return want;
}

/* The smallest unit that is a range of the file and is followed by the next one; 0 if there is none. */
static uint64_t unit_of(const vb_view *v) {
  for (int first = VB_RANK - 2; first >= 0; first--) {
    uint64_t bytes = range_bytes(v, first), want = bytes;
    bool follow = bytes != 0;
    for (int d = first - 1; d >= 0; d--) {
      follow = follow && (v->dim[d] == 1 || v->stride[d] == want);
      want *= v->dim[d];
    }
    if (follow) return bytes / vb_type_size(v->type);
  }
  return 0;
}

size_t vb_reader_window(const vb_reader *r) {
  return r->how == VB_READ_UNITS ? (size_t)r->unit * vb_type_size(r->view.type) : 0;
}

vb_reader vb_reader_of(const vb_view *v, bool tagged, size_t *room) {
  vb_reader r = {.view = *v, .how = VB_READ_DENSE, .held = UINT64_MAX};
  if (vb_view_dense(v)) return r;
  r.unit = unit_of(v);
  r.how = tagged ? VB_READ_SPOOLED : VB_READ_GATHERED;
  if (r.unit == 0 || r.unit > *room / vb_type_size(v->type)) return r;
  r.how = VB_READ_UNITS;
  *room -= vb_reader_window(&r);
  return r;
}

/* ---- reading ---- */

/* Read bytes of the view's file for its use; they are what its tag goes on with. */
static vb_status read_tagged(vb_machine *m, const vb_reader *r, uint8_t *buffer, size_t size,
                             uint64_t offset) {
  vb_status status = vb_read_source(m, r->view.source, buffer, size, offset);
  if (!status) vb_tag_use(m, r->view.tag, buffer, size);
  return status;
}

static bool same_strides(const uint64_t *a, const uint64_t *b, const uint64_t *dim) {
  for (int d = 0; d < VB_RANK; d++)
    if (dim[d] != 1 && a[d] != b[d]) return false;
  return true;
}

/* A box whose elements are a range of the file, in whatever order. */
static vb_status read_range(vb_machine *m, const vb_reader *r, const vb_box *box, uint64_t first,
                            uint8_t *out, const uint64_t *to) {
  size_t itemsize = vb_type_size(r->view.type), size = (size_t)box->count * itemsize;
  uint64_t dense[VB_RANK];
  vb_dense_strides(box->dim, itemsize, dense);
  const uint64_t *from = r->how == VB_READ_DENSE ? dense : r->view.stride;
  bool as_it_lies = same_strides(to, dense, box->dim) && same_strides(from, dense, box->dim);
  uint8_t *buffer = as_it_lies ? out : m->span;
  vb_status status = read_tagged(m, r, buffer, size, r->view.offset + first * itemsize);
  if (!status && !as_it_lies)
    vb_rearrange(out, to, buffer, from, box->dim, itemsize);
  return status;
}

/* A box that is part of a unit. */
static vb_status read_window(vb_machine *m, vb_reader *r, const vb_box *box, uint64_t first,
                             uint8_t *out, const uint64_t *to) {
  size_t itemsize = vb_type_size(r->view.type);
  uint64_t unit = first / r->unit, base = unit * r->unit * itemsize, at = 0;
  if (unit != r->held) {
    vb_status status = read_tagged(m, r, r->window, vb_reader_window(r), r->view.offset + base);
    if (status) return status;
    r->held = unit;
  }
  for (int d = 0; d < VB_RANK; d++) at += box->at[d] * r->view.stride[d];
  vb_rearrange(out, to, r->window + (at - base), r->view.stride, box->dim, itemsize);
  return VB_OK;
}

static vb_status open_scratch(vb_machine *m) {
  if (m->scratch_fd >= 0) return VB_OK;
  m->scratch_fd = memfd_create("vbuild", MFD_CLOEXEC);
  m->own_scratch = m->scratch_fd >= 0;
  if (m->own_scratch) return VB_OK;
  m->fault->error = errno;
  return m->fault->status = VB_WRITE_FAILED;
}

/* Copy the view's span into the scratch file. */
static vb_status spool(vb_machine *m, vb_reader *r) {
  uint64_t begin = m->scratch_end, size = vb_view_span(&r->view);
  vb_status status = open_scratch(m);
  for (uint64_t at = 0; !status && at < size;) {
    size_t piece = (size_t)vb_min(size - at, VB_PIECE);
    status = read_tagged(m, r, m->span, piece, r->view.offset + at);
    if (!status) status = vb_write(m->scratch_fd, m->span, piece, begin + at, m->fault);
    if (!status) status = vb_poll(m);
    at += piece;
  }
  r->view.offset = begin;
  r->spooled = true;
  m->scratch_end += size;
  return status;
}

vb_status vb_reader_read(vb_machine *m, vb_reader *r, const vb_box *box, uint64_t first, uint8_t *out,
                         const uint64_t *to) {
  if (r->how == VB_READ_DENSE) return read_range(m, r, box, first, out, to);
  if (r->how == VB_READ_UNITS) {
    if (first % r->unit == 0 && box->count % r->unit == 0) return read_range(m, r, box, first, out, to);
    return read_window(m, r, box, first, out, to);
  }
  if (r->how == VB_READ_SPOOLED && !r->spooled) {
    vb_status status = spool(m, r);
    if (status) return status;
  }
  m->fault->source = r->view.source;
  int fd = r->spooled ? m->scratch_fd : m->job->fds[r->view.source];
  return vb_gather(fd, &r->view, box, out, to, m->span, VB_SPAN, m->fault);
}
