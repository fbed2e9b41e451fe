/* operand.c - fetching the operands of a chain: sources, literals, and operands of parts.
 *
 * Factors are f32 in memory. A product's right-hand one is kept in panels of as many columns as a block
 * has elements, one after the other: a block is some whole rows, and there is one panel, or it is a
 * piece of a row, and the piece is the columns of a panel. Left-hand ones are loaded some rows at a time.
 */
#include <string.h>

#include "mean.h"
#include "state.h"

enum { TILE = 64 * 1024 }; /* elements of a factor that are converted at a time; VB_PIECE bytes of f32 */

/* ---- factors ---- */

/* One box of a matrix as f32, densely. */
static vb_status load_box(vb_machine *m, vb_reader *r, const vb_box *box, uint64_t first, uint8_t *out) {
  uint64_t dense[VB_RANK];
  bool as_it_is = r->view.type == VB_F32;
  uint8_t *items = as_it_is ? out : m->out;
  vb_dense_strides(box->dim, vb_type_size(r->view.type), dense);
  vb_status status = vb_reader_read(m, r, box, first, items, dense);
  if (!status && !as_it_is)
    m->job->kernels->convert[r->view.type][VB_F32](out, items, (size_t)box->count);
  return status ? status : vb_poll(m);
}

/* The next box of a matrix, of whole rows or of a part of one, from element `first` on and before `end`,
 * which is the end of a row. */
static vb_box next_box(const vb_view *v, uint64_t first, uint64_t end) {
  uint64_t columns = v->dim[3], most = columns <= TILE ? TILE / columns * columns : TILE;
  return vb_box_at(v->dim, first, (size_t)vb_min(most, end - first));
}

/* `n` rows of a matrix as f32, from `row` on. */
static vb_status load_rows(vb_machine *m, vb_reader *r, uint64_t row, uint64_t n, uint8_t *out) {
  uint64_t columns = r->view.dim[3], end = (row + n) * columns;
  for (uint64_t first = row * columns; first < end;) {
    vb_box box = next_box(&r->view, first, end);
    vb_status status = load_box(m, r, &box, first, out);
    if (status) return status;
    out += box.count * sizeof(float);
    first += box.count;
  }
  return VB_OK;
}

/* The mean of all rows of a matrix. Behind it in in->factor there is room for its sums. */
static vb_status load_mean(vb_machine *m, vb_input *in) {
  vb_reader *r = in->readers;
  uint64_t columns = r->view.dim[3], count = vb_count(r->view.dim);
  vb_mean mean;
  vb_mean_init(&mean, in->factor + columns * sizeof(float), r->view.dim[2], (size_t)columns);
  for (uint64_t first = 0; first < count;) {
    vb_box box = next_box(&r->view, first, count);
    vb_status status = load_box(m, r, &box, first, m->spare);
    if (status) return status;
    vb_mean_add(&mean, m->spare, (size_t)box.count);
    first += box.count;
  }
  vb_mean_final(&mean, in->factor);
  return VB_OK;
}

/* A right-hand factor, in panels of `width` columns. */
static vb_status load_right(vb_machine *m, vb_input *in, uint64_t width) {
  vb_reader *r = &in->readers[1];
  uint64_t columns = r->view.dim[3];
  if (columns <= width) return load_rows(m, r, 0, in->rank, in->factor);
  for (uint64_t first = 0; first < in->rank * columns;) {
    uint64_t row = first / columns, column = first % columns, panel = column / width * width;
    uint64_t panel_width = vb_min(width, columns - panel);
    uint64_t most = vb_min(TILE, panel + panel_width - column);
    vb_box box = {.at = {0, 0, row, column}, .dim = {1, 1, 1, most}, .count = most};
    uint64_t to = panel * in->rank + row * panel_width + (column - panel);
    vb_status status = load_box(m, r, &box, first, in->factor + to * sizeof(float));
    if (status) return status;
    first += most;
  }
  return VB_OK;
}

static float scale_of(const vb_operand *o) {
  uint32_t bits = (uint32_t)o->stride[0];
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return scale;
}

/* scale * left @ right for a box, which has whole rows or a part of one. */
static vb_status product(vb_machine *m, vb_input *in, const vb_box *box, uint64_t first, uint8_t *out) {
  uint64_t columns = m->chain.dim[3], row = first / columns, end = row + (box->count - 1) / columns + 1;
  const uint8_t *right = in->factor + box->at[3] * in->rank * sizeof(float);
  uint64_t rows = vb_count(m->chain.dim) / columns;
  float scale = scale_of(&in->operand);
  while (row < end) {
    if (row >= in->left_end) {
      in->left_begin = row;
      in->left_end = vb_min(row + in->left_rows, rows);
      vb_status status = load_rows(m, &in->readers[0], row, in->left_end - row, in->left);
      if (status) return status;
    }
    size_t n = (size_t)(vb_min(end, in->left_end) - row);
    const uint8_t *left = in->left + (row - in->left_begin) * in->rank * sizeof(float);
    m->job->kernels->product(out, left, right, n, (size_t)in->rank, (size_t)box->dim[3], scale);
    out += n * box->dim[3] * sizeof(float);
    row += n;
  }
  return VB_OK;
}

/* Every row of the box is the mean's. */
static void broadcast(const vb_input *in, const vb_box *box, uint8_t *out) {
  size_t bytes = (size_t)box->dim[3] * sizeof(float);
  const uint8_t *row = in->factor + box->at[3] * sizeof(float);
  for (uint64_t i = 0; i < box->count / box->dim[3]; i++) memcpy(out + i * bytes, row, bytes);
}

/* ---- parts side by side ---- */

static vb_status joined(vb_machine *m, vb_input *in, const vb_box *box, uint64_t first, uint8_t *out) {
  size_t itemsize = vb_type_size(in->type);
  uint64_t columns = m->chain.dim[3], row = first / columns, end = box->at[3] + box->dim[3];
  uint64_t to[VB_RANK], begin = 0; /* of the part's columns */
  vb_dense_strides(box->dim, itemsize, to);
  for (uint32_t i = 0; i < in->nreaders && begin < end; i++) {
    vb_reader *r = &in->readers[i];
    uint64_t width = r->view.dim[3], left = begin > box->at[3] ? begin : box->at[3];
    uint64_t right = vb_min(begin + width, end);
    if (left < right) {
      vb_box own = *box;
      own.at[3] = left - begin;
      own.dim[3] = right - left;
      own.count = vb_count(own.dim);
      uint8_t *place = out + (left - box->at[3]) * itemsize;
      vb_status status = vb_reader_read(m, r, &own, row * width + own.at[3], place, to);
      if (status) return status;
    }
    begin += width;
  }
  return VB_OK;
}

/* ---- any operand ---- */

/* Divide what has been allocated for windows and factors. */
static void share_memory(vb_machine *m) {
  uint8_t *window = m->window, *factor = m->factors;
  for (uint32_t i = 0; i < m->chain.nreaders; i++) {
    m->readers[i].window = window;
    window += vb_reader_window(&m->readers[i]);
  }
  for (size_t i = 0; i < 2 * (size_t)(m->chain.end - m->chain.begin); i++) {
    vb_input *in = &m->chain.inputs[i];
    in->factor = factor;
    factor += vb_factor_bytes(in, &m->chain);
    if (in->operand.source == VB_SRC_PRODUCT)
      in->left = in->factor + in->rank * m->chain.dim[3] * sizeof(float);
  }
}

vb_status vb_inputs_open(vb_machine *m) {
  m->scratch_end = 0;
  share_memory(m);
  for (size_t i = 0; i < 2 * (size_t)(m->chain.end - m->chain.begin); i++) {
    vb_input *in = &m->chain.inputs[i];
    vb_status status = VB_OK;
    if (in->operand.source == VB_SRC_MEAN) status = load_mean(m, in);
    if (in->operand.source == VB_SRC_PRODUCT) status = load_right(m, in, m->chain.capacity);
    if (status) return status;
  }
  return VB_OK;
}

/* Elements in a source; of an ORDERED one they are also hashed. */
static vb_status from_source(vb_machine *m, vb_input *in, const vb_box *box, uint64_t first,
                             uint8_t *out) {
  uint64_t to[VB_RANK];
  size_t itemsize = vb_type_size(in->type);
  vb_dense_strides(box->dim, itemsize, to);
  uint32_t source = in->readers->view.source;
  vb_status status = vb_reader_read(m, in->readers, box, first, out, to);
  if (!status && vb_source_of(m, source).mode == VB_SOURCE_ORDERED)
    vb_hash_later(m, &m->source_hash[source], out, (size_t)box->count * itemsize);
  return status;
}

vb_status vb_fetch(vb_machine *m, vb_input *in, const vb_box *box, uint64_t first, uint8_t *buffer,
                   const uint8_t **data) {
  size_t itemsize = vb_type_size(in->type);
  *data = buffer;
  switch (in->operand.source) {
    case VB_SRC_PREVIOUS: *data = m->previous; return VB_OK;
    case VB_SRC_LITERAL: *data = m->t->literals + in->operand.offset + first * itemsize; return VB_OK;
    case VB_SRC_ZERO: memset(buffer, 0, (size_t)box->count * itemsize); return VB_OK;
    case VB_SRC_MEAN: broadcast(in, box, buffer); return VB_OK;
    case VB_SRC_JOINED: return joined(m, in, box, first, buffer);
    case VB_SRC_PRODUCT: return product(m, in, box, first, buffer);
    default: return from_source(m, in, box, first, buffer);
  }
}
