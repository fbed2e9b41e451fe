/* walk.c - cursors over WALKED sources.
 *
 * They advance beside the chains, in proportion, so that their hashing fills the remaining lanes; when
 * the chains have ended they run on to their ends.
 */
#include "state.h"

static bool is_walk(const vb_machine *m, uint32_t i, uint32_t source) {
  if (i >= m->t->nregions) return false;
  vb_region r = vb_table_region(m->t, i);
  return r.kind == VB_REGION_WALK && r.source == source;
}

/* Tag bytes [begin, begin + size) of the cursor's source, for all walk regions that they are in. */
static void tag_walked(vb_machine *m, vb_cursor *c, const uint8_t *data, uint64_t begin, size_t size) {
  if (!m->tags) return;
  uint64_t end = begin + size;
  for (uint32_t i = c->region; is_walk(m, i, c->source); i++) {
    vb_region r = vb_table_region(m->t, i);
    if (r.begin >= end) break;
    if (i == c->region && r.end <= end) c->region++;
    uint64_t first = r.begin > begin ? r.begin : begin, last = vb_min(r.end, end);
    if (first < last) vb_tag_use(m, i + 1, data + (first - begin), (size_t)(last - first));
  }
}

static void seek_segment(vb_machine *m, vb_cursor *c) {
  for (; c->segment < m->t->nsegments; c->segment++) {
    vb_segment s = vb_table_segment(m->t, c->segment);
    if (s.op == VB_OP_HASH && (uint32_t)s.a.source == c->source) return;
  }
}

/* Keep as many cursors open as there are lanes for; close those at their ends. */
static void open_cursors(vb_machine *m) {
  for (size_t i = 0; i < m->ncursors;) {
    if (m->cursors[i].segment < m->t->nsegments) {
      i++;
      continue;
    }
    vb_cursor last = m->cursors[--m->ncursors]; /* swap, so that every buffer keeps one owner */
    m->cursors[m->ncursors] = m->cursors[i];
    m->cursors[i] = last;
  }
  while (m->ncursors < m->max_cursors && m->next_source < m->t->nsources) {
    uint32_t source = m->next_source++;
    if (vb_source_of(m, source).mode != VB_SOURCE_WALKED) continue;
    vb_cursor *c = &m->cursors[m->ncursors];
    c->source = source;
    c->segment = 0;
    c->at = 0;
    while (m->next_region < m->t->nregions && vb_table_region(m->t, m->next_region).source < source)
      m->next_region++;
    c->region = m->next_region;
    seek_segment(m, c);
    if (c->segment < m->t->nsegments) m->ncursors++;
  }
}

/* Read up to `quota` bytes (at most a block) at the cursor and queue them for its hash. */
static vb_status advance(vb_machine *m, vb_cursor *c, size_t quota) {
  vb_segment s = vb_table_segment(m->t, c->segment);
  uint64_t size = vb_segment_count(&s);
  size_t piece = (size_t)vb_min(size - c->at, quota);
  const uint8_t *data = c->buffer;
  if (s.b.source == VB_SRC_LITERAL) {
    data = m->t->literals + s.b.offset + c->at;
  } else {
    vb_status status = vb_read_source(m, c->source, c->buffer, piece, s.a.offset + c->at);
    if (status) return status;
  }
  tag_walked(m, c, data, s.a.offset + c->at, piece);
  vb_hash_later(m, &m->source_hash[c->source], data, piece);
  m->walk_done += piece;
  c->at += piece;
  if (c->at == size) {
    c->segment++;
    c->at = 0;
    seek_segment(m, c);
  }
  return VB_OK;
}

/* Advance all cursors by up to `quota` bytes each. */
static vb_status advance_all(vb_machine *m, size_t quota) {
  vb_status status = VB_OK;
  for (size_t i = 0; !status && i < m->ncursors; i++) status = advance(m, &m->cursors[i], quota);
  return status;
}

vb_status vb_walk(vb_machine *m) {
  open_cursors(m);
  if (!m->ncursors) return VB_OK;
  double part = m->work_done < m->work_total ? (double)m->work_done / (double)m->work_total : 1.0;
  uint64_t goal = part < 1.0 ? (uint64_t)((double)m->walk_total * part) : m->walk_total;
  if (goal <= m->walk_done) return VB_OK;
  uint64_t quota = (goal - m->walk_done) / m->ncursors + 64;
  return advance_all(m, (size_t)vb_min(quota, VB_PIECE));
}

vb_status vb_walk_on(vb_machine *m) {
  for (open_cursors(m); m->ncursors; open_cursors(m)) {
    vb_status status = advance_all(m, VB_PIECE);
    if (!status) status = vb_flush(m, 0);
    if (status) return status;
  }
  return VB_OK;
}
