/* setup.c - what a chain and a whole table need, and the memory of a run.
 *
 * Memory does not depend on the sizes of sources or output: a few blocks and windows of a fixed size,
 * the factors of one chain (VB_FACTORS at most), and a small state per source, region and part.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mean.h"
#include "state.h"

enum { ALIGNMENT = 64, PAGE = 4096 };

static size_t aligned(size_t size, size_t to) { return (size + to - 1) / to * to; }

/* ---- chains ---- */

size_t vb_factor_bytes(const vb_input *in, const vb_chain *c) {
  size_t columns = (size_t)c->dim[3], row = columns * sizeof(float);
  if (in->operand.source == VB_SRC_MEAN) return aligned(row + vb_mean_memory(columns), ALIGNMENT);
  if (in->operand.source != VB_SRC_PRODUCT) return 0;
  return aligned((columns + in->left_rows) * in->rank * sizeof(float), ALIGNMENT);
}

static void add_reader(vb_chain *c, vb_input *in, const vb_view *v, bool tagged, size_t *room,
                       vb_reader *readers) {
  vb_reader r = vb_reader_of(v, tagged && v->tag, room);
  c->window += vb_reader_window(&r);
  if (r.how != VB_READ_DENSE) c->boxed = true;
  if (vb_reader_gathers(&r)) c->block = VB_PIECE_GATHERED;
  if (readers) {
    if (in->nreaders == 0) in->readers = &readers[c->nreaders];
    readers[c->nreaders] = r;
  }
  in->nreaders++;
  c->nreaders++;
}

static void open_input(vb_chain *c, vb_input *in, const vb_table *t, bool tagged, const vb_segment *s,
                       bool second, size_t *room, vb_reader *readers) {
  *in = (vb_input){.operand = second ? s->b : s->a, .type = second ? s->b_type : s->a_type};
  if (in->operand.source >= 0) {
    vb_view v = vb_operand_view(s, &in->operand, in->type);
    add_reader(c, in, &v, tagged, room, readers);
  }
  if (!vb_is_composite(&in->operand)) return;
  c->boxed = true;
  for (uint32_t i = 0; i < in->operand.tag; i++) {
    vb_view v = vb_table_part(t, (uint32_t)in->operand.offset + i);
    if (i == 0) in->rank = v.dim[3];
    add_reader(c, in, &v, tagged, room, readers);
  }
}

/* How many rows of its left-hand factor a product loads at a time. */
static uint64_t left_rows(const vb_input *in, const vb_chain *c) {
  uint64_t most = c->capacity / c->dim[3], some = VB_LEFT / (in->rank * sizeof(float));
  uint64_t rows = vb_min(most, some);
  return rows ? rows : 1;
}

void vb_chain_open(vb_chain *c, const vb_table *t, bool tagged, uint32_t begin, vb_reader *readers) {
  size_t widest = 1, room = VB_WINDOW;
  vb_input *in = c->inputs;
  c->begin = c->end = begin;
  c->block = VB_PIECE;
  c->boxed = false;
  c->window = c->factors = c->nreaders = 0;
  vb_segment s = vb_table_segment(t, begin);
  memcpy(c->dim, s.dim, sizeof c->dim);
  c->count = vb_segment_count(&s);
  do {
    size_t sizes[] = {vb_type_size(s.a_type), vb_type_size(s.b_type), vb_type_size(s.out_type)};
    for (int i = 0; i < 3; i++)
      if (sizes[i] > widest) widest = sizes[i];
    open_input(c, in++, t, tagged, &s, false, &room, readers);
    open_input(c, in++, t, tagged, &s, true, &room, readers);
    if (++c->end == t->nsegments) break;
    s = vb_table_segment(t, c->end);
  } while (s.a.source == VB_SRC_PREVIOUS);
  c->capacity = c->block / widest;
  c->span = c->boxed ? c->block : 0;
  while (in-- != c->inputs) {
    if (in->operand.source == VB_SRC_PRODUCT) in->left_rows = left_rows(in, c);
    c->factors += vb_factor_bytes(in, c);
  }
}

/* ---- the table ---- */

static void grow(size_t *most, size_t value) {
  if (value > *most) *most = value;
}

static void survey_chains(const vb_table *t, bool tagged, vb_chain *c, vb_needs *n) {
  for (uint32_t i = 0; i < t->nsegments;) {
    vb_segment s = vb_table_segment(t, i);
    if (s.op == VB_OP_HASH) {
      i++;
      continue;
    }
    vb_chain_open(c, t, tagged, i, NULL);
    grow(&n->block, c->block);
    grow(&n->span, c->span);
    grow(&n->window, c->window);
    grow(&n->factors, c->factors);
    grow(&n->readers, c->nreaders);
    n->work += c->count;
    i = c->end;
  }
}

static vb_needs survey(const vb_table *t, const vb_kernels *k, bool tagged, vb_chain *c) {
  vb_needs n = {.block = VB_PIECE};
  for (uint32_t i = 0; i < t->nsources; i++) {
    vb_source source = vb_table_source(t, i);
    if (source.mode != VB_SOURCE_WALKED) continue;
    n.cursors++;
    n.walked += source.size;
  }
  survey_chains(t, tagged, c, &n);
  size_t wide = k->sha256_wide ? k->sha256_wide_from : SIZE_MAX;
  size_t lanes = n.work ? VB_WALKERS : n.cursors >= wide ? VB_WALKERS_WIDE : VB_WALKERS_ALONE;
  if (n.cursors > lanes) n.cursors = lanes;
  n.factors = aligned(n.factors, PAGE);
  n.window = aligned(n.window, PAGE);
  return n;
}

/* Operands a and b, and what the cursors read. */
static size_t slot_bytes(size_t block, size_t cursors) { return 2 * block + cursors * VB_PIECE; }

static size_t buffer_bytes(const vb_needs *n) {
  return 2 * n->block + n->span + n->window + n->factors + slot_bytes(n->block, n->cursors);
}

size_t vb_run_memory(const vb_table *t, const vb_kernels *k) {
  vb_chain c;
  vb_needs n = survey(t, k, true, &c);
  return buffer_bytes(&n) + ((size_t)t->nsources + 1) * sizeof(vb_sha256) +
         ((size_t)t->nregions + 1) * sizeof(vb_tag) + (n.readers + 1) * sizeof(vb_reader);
}

void vb_use_slot(vb_machine *m, uint8_t *memory) {
  m->a = memory;
  m->b = m->a + m->block;
  for (size_t i = 0; i < m->max_cursors; i++) m->cursors[i].buffer = m->b + m->block + i * VB_PIECE;
}

/* Divide the buffers' memory. */
static void share_memory(vb_machine *m, const vb_needs *n) {
  m->block = n->block;
  m->out = m->memory;
  m->spare = m->out + n->block;
  m->span = m->spare + n->block;
  m->window = m->span + n->span;
  m->factors = m->window + n->window;
  vb_use_slot(m, m->factors + n->factors);
}

/* ---- the second thread ---- */

/* Whether there is work for two threads. */
static bool is_pipeable(const vb_table *t, const vb_needs *n) {
  bool hashes = false;
  for (uint32_t i = 0; i < t->nsources; i++) hashes |= vb_table_source(t, i).mode != VB_SOURCE_PLAIN;
  return hashes && n->work;
}

void vb_pipe(vb_machine *m) {
  size_t slot = slot_bytes(m->block, m->max_cursors);
  if (!vb_control_borrow(m->job->control)) return;
  m->ring_memory = aligned_alloc(PAGE, vb_ring_slots(slot) * slot);
  if (m->ring_memory)
    m->piped = vb_ring_open(&m->ring, m->job->kernels, m->job->control, m->ring_memory, slot);
  if (m->piped) {
    vb_use_slot(m, vb_ring_slot(&m->ring)->memory);
    return;
  }
  m->pipeable = false;
  vb_control_lend(m->job->control, 1);
}

void vb_unpipe(vb_machine *m) {
  if (!m->piped) return;
  vb_ring_close(&m->ring);
  vb_control_lend(m->job->control, 1);
}

/* ---- memory ---- */

vb_status vb_machine_open(vb_machine *m) {
  bool tagged = m->job->tag_key != NULL;
  vb_needs n = survey(m->t, m->job->kernels, tagged, &m->chain);
  m->max_cursors = n.cursors;
  m->walk_total = n.walked;
  m->work_total = n.work;
  m->memory = aligned_alloc(PAGE, buffer_bytes(&n));
  m->readers = calloc(n.readers + 1, sizeof *m->readers);
  m->source_hash = calloc((size_t)m->t->nsources + 1, sizeof *m->source_hash);
  if (tagged) m->tags = calloc((size_t)m->t->nregions + 1, sizeof *m->tags);
  if (!m->memory || !m->readers || !m->source_hash || (tagged && !m->tags))
    return m->fault->status = VB_NO_MEMORY;
  for (uint32_t i = 0; m->tags && i < m->t->nregions; i++) vb_tag_init(&m->tags[i]);
  for (uint32_t i = 0; i < m->t->nsources; i++) vb_sha256_init(&m->source_hash[i]);
  vb_sha256_init(&m->out_hash);
  share_memory(m, &n);
  m->pipeable = is_pipeable(m->t, &n);
  if (m->pipeable) vb_pipe(m);
  return VB_OK;
}

void vb_machine_close(vb_machine *m) {
  if (m->own_scratch) close(m->scratch_fd);
  free(m->tags);
  free(m->source_hash);
  free(m->readers);
  free(m->ring_memory);
  free(m->memory);
}
