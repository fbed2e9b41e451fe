/* machine.c - the segment machine.
 *
 * A step takes one block of one chain of segments (most chains are one segment long): fetch the operands,
 * compute, write, and hash everything that was touched in one interleaved call. Cursors over WALKED
 * sources advance beside it, in proportion, so that their hashing fills the remaining lanes; when the
 * output is complete they run on to their ends.
 *
 * Bytes are tagged in the private buffer that is then hashed (a walk region) or used (a use region), so
 * that equal tags mean equal bytes wherever a file is read twice (tag.h).
 */
#include "machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compute.h"
#include "fetch.h"

enum {
  BLOCK = 256 * 1024,         /* bytes; three fit a second-level cache (performance.md) */
  STRIDED_BLOCK = 4 << 20,    /* bytes; so that a rearrangement reads in long runs */
  SPAN = 8 << 20,             /* bytes; scratch of a rearrangement */
  WALKERS = 3,                /* cursors open at a time beside an output */
  WALKERS_ALONE = VB_SHA_LANES, /* without one */
  WALKERS_WIDE = 16,          /* with wide lanes and enough sources */
  MAX_JOBS = 2 * VB_CHAIN + 2 + WALKERS_WIDE,
};

typedef struct cursor {
  uint32_t source;
  uint32_t segment; /* the HASH segment that it is in, or table->nsegments at the end */
  uint64_t at;      /* bytes of that segment done */
  uint32_t region;  /* the first walk region that may not be complete, or one past the source's */
  uint8_t *buffer;
} cursor;

typedef struct machine {
  vb_job *job;
  const vb_table *t;
  vb_fault *fault;
  uint8_t *memory; /* all buffers, in one piece */
  uint8_t *a, *b, *out, *spare, *span;
  const uint8_t *previous; /* the result that the next step of a chain goes on from */
  vb_sha256 *source_hash, out_hash, tensor_hash;
  uint32_t tensor;      /* being hashed, or UINT32_MAX */
  uint64_t written;
  vb_sha256_job jobs[MAX_JOBS];
  size_t njobs;
  cursor cursors[WALKERS_WIDE];
  size_t ncursors, max_cursors;
  uint32_t next_source; /* the next to look at for a cursor */
  uint32_t next_region; /* the first one of it or of a later source */
  vb_tag *tags;         /* one per region, or NULL without a key */
  uint64_t walk_total, walk_done;
} machine;

static vb_source source_of(const machine *m, uint32_t i) { return vb_table_source(m->t, i); }

static uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void hash(machine *m, vb_sha256 *stream, const uint8_t *data, size_t size) {
  m->jobs[m->njobs++] = (vb_sha256_job){.stream = stream, .data = data, .size = size};
}

/* Hash what the step has gathered, and report progress. */
static vb_status flush(machine *m, size_t moved) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < m->njobs; i++)
    if (m->jobs[i].stream != &m->tensor_hash) bytes += m->jobs[i].size;
  vb_sha256_update(m->job->kernels, m->jobs, m->njobs);
  m->njobs = 0;
  atomic_fetch_add_explicit(&m->job->control->done, bytes ? bytes : moved, memory_order_relaxed);
  if (atomic_load_explicit(&m->job->control->stop, memory_order_relaxed))
    return m->fault->status = VB_STOPPED;
  return VB_OK;
}

static vb_status read_source(machine *m, uint32_t source, void *buffer, size_t size, uint64_t offset) {
  m->fault->source = source;
  return vb_read(m->job->fds[source], buffer, size, offset, m->fault);
}

/* Add bytes to the tag of region i. */
static void tag(machine *m, uint32_t i, const uint8_t *data, size_t size) {
  vb_tag_update(m->job->kernels, m->job->tag_key, &m->tags[i], data, size);
}

/* ---- cursors over WALKED sources ---- */

static bool is_walk(const machine *m, uint32_t i, uint32_t source) {
  if (i >= m->t->nregions) return false;
  vb_region r = vb_table_region(m->t, i);
  return r.kind == VB_REGION_WALK && r.source == source;
}

/* Tag bytes [begin, begin + size) of the cursor's source, for all walk regions that they are in. */
static void tag_walked(machine *m, cursor *c, const uint8_t *data, uint64_t begin, size_t size) {
  if (!m->tags) return;
  uint64_t end = begin + size;
  for (uint32_t i = c->region; is_walk(m, i, c->source); i++) {
    vb_region r = vb_table_region(m->t, i);
    if (r.begin >= end) break;
    if (i == c->region && r.end <= end) c->region++;
    uint64_t first = r.begin > begin ? r.begin : begin, last = min64(r.end, end);
    if (first < last) tag(m, i, data + (first - begin), (size_t)(last - first));
  }
}

static void seek_segment(machine *m, cursor *c) {
  for (; c->segment < m->t->nsegments; c->segment++) {
    vb_segment s = vb_table_segment(m->t, c->segment);
    if (s.op == VB_OP_HASH && (uint32_t)s.a.source == c->source) return;
  }
}

/* Keep as many cursors open as there are lanes for; close those at their ends. */
static void open_cursors(machine *m) {
  for (size_t i = 0; i < m->ncursors;) {
    if (m->cursors[i].segment < m->t->nsegments) {
      i++;
      continue;
    }
    cursor last = m->cursors[--m->ncursors]; /* swap, so that every buffer keeps one owner */
    m->cursors[m->ncursors] = m->cursors[i];
    m->cursors[i] = last;
  }
  while (m->ncursors < m->max_cursors && m->next_source < m->t->nsources) {
    uint32_t source = m->next_source++;
    if (source_of(m, source).mode != VB_SOURCE_WALKED) continue;
    cursor *c = &m->cursors[m->ncursors];
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
static vb_status advance(machine *m, cursor *c, size_t quota) {
  vb_segment s = vb_table_segment(m->t, c->segment);
  uint64_t size = vb_segment_count(&s);
  size_t piece = (size_t)min64(size - c->at, quota);
  const uint8_t *data = c->buffer;
  if (s.b.source == VB_SRC_LITERAL) {
    data = m->t->literals + s.b.offset + c->at;
  } else {
    vb_status status = read_source(m, c->source, c->buffer, piece, s.a.offset + c->at);
    if (status) return status;
  }
  tag_walked(m, c, data, s.a.offset + c->at, piece);
  hash(m, &m->source_hash[c->source], data, piece);
  m->walk_done += piece;
  c->at += piece;
  if (c->at == size) {
    c->segment++;
    c->at = 0;
    seek_segment(m, c);
  }
  return VB_OK;
}

/* Let the cursors catch up with the output: `made` of its bytes are there. */
static vb_status walk(machine *m, uint64_t made) {
  open_cursors(m);
  if (!m->ncursors) return VB_OK;
  double part = m->t->out_size ? (double)made / (double)m->t->out_size : 1.0;
  uint64_t goal = made >= m->t->out_size ? m->walk_total : (uint64_t)((double)m->walk_total * part);
  if (goal <= m->walk_done) return VB_OK;
  uint64_t quota = (goal - m->walk_done) / m->ncursors + 64;
  if (quota > BLOCK) quota = BLOCK;
  for (size_t i = 0; i < m->ncursors; i++) {
    vb_status status = advance(m, &m->cursors[i], (size_t)quota);
    if (status) return status;
  }
  return VB_OK;
}

/* ---- the output ---- */

static vb_status write_out(machine *m, const uint8_t *data, size_t size) {
  while (m->job->out_fd >= 0 && size) {
    ssize_t put = pwrite(m->job->out_fd, data, size, (off_t)m->written);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      m->fault->error = errno;
      return m->fault->status = VB_WRITE_FAILED;
    }
    data += put;
    m->written += (uint64_t)put;
    size -= (size_t)put;
  }
  m->written += size;
  return VB_OK;
}

static void end_tensor(machine *m) {
  if (m->tensor != UINT32_MAX)
    vb_sha256_final(m->job->kernels, &m->tensor_hash, m->job->tensor_digest + 32 * (size_t)m->tensor);
  m->tensor = UINT32_MAX;
}

static void begin_tensor(machine *m, uint32_t tensor) {
  if (!m->job->tensor_digest || tensor == m->tensor) return;
  end_tensor(m);
  if (tensor == UINT32_MAX) return;
  m->tensor = tensor;
  vb_sha256_init(&m->tensor_hash);
  uint64_t size;
  const uint8_t *prefix = vb_table_prefix(m->t, tensor, &size);
  vb_sha256_job job = {.stream = &m->tensor_hash, .data = prefix, .size = (size_t)size};
  vb_sha256_update(m->job->kernels, &job, 1);
}

/* ---- segments ---- */

/* The block of one operand: elements [first, first + box->count) of the segment. Sets *data. */
static vb_status fetch(machine *m, const vb_segment *s, const vb_operand *o, int type,
                       const vb_box *box, uint64_t first, uint8_t *buffer, const uint8_t **data) {
  size_t itemsize = vb_type_size(type), bytes = (size_t)box->count * itemsize;
  *data = buffer;
  if (o->source == VB_SRC_PREVIOUS) {
    *data = m->previous;
    return VB_OK;
  }
  if (o->source == VB_SRC_ZERO) {
    memset(buffer, 0, bytes);
    return VB_OK;
  }
  if (o->source == VB_SRC_LITERAL) {
    *data = m->t->literals + o->offset + first * itemsize;
    return VB_OK;
  }
  uint32_t source = (uint32_t)o->source;
  if (!vb_operand_dense(s, o, itemsize)) {
    m->fault->source = source;
    return vb_gather(m->job->fds[source], o, box, itemsize, buffer, m->span, SPAN, m->fault);
  }
  vb_status status = read_source(m, source, buffer, bytes, o->offset + first * itemsize);
  if (!status && source_of(m, source).mode == VB_SOURCE_ORDERED)
    hash(m, &m->source_hash[source], buffer, bytes);
  if (!status && m->tags && o->tag) tag(m, o->tag - 1, buffer, bytes);
  return status;
}

static uint64_t load_bits(const uint8_t *p, size_t size) {
  return size == 8 ? vb_load64(p) : size == 4 ? vb_load32(p) : size == 2 ? vb_load16(p) : *p;
}

/* Remember where and with which operands a result became non-finite. */
static vb_status nonfinite(machine *m, const vb_segment *s, uint32_t segment, uint64_t first, size_t i,
                           const uint8_t *a, const uint8_t *b, const uint8_t *out) {
  size_t as = vb_type_size(s->a_type), bs = vb_type_size(s->b_type), os = vb_type_size(s->out_type);
  m->fault->segment = segment;
  m->fault->index = first + i;
  m->fault->bits[0] = load_bits(a + i * as, as);
  m->fault->bits[1] = b ? load_bits(b + i * bs, bs) : 0;
  m->fault->bits[2] = load_bits(out + i * os, os);
  return m->fault->status = VB_NONFINITE;
}

/* One block of one segment; *data is where its result stands. */
static vb_status step(machine *m, const vb_segment *s, uint32_t segment, const vb_box *box,
                      uint64_t first, const uint8_t **data) {
  const uint8_t *a, *b = NULL;
  vb_status status = fetch(m, s, &s->a, s->a_type, box, first, m->a, &a);
  if (!status && s->b.source != VB_SRC_NONE)
    status = fetch(m, s, &s->b, s->b_type, box, first, m->b, &b);
  if (status) return status;
  *data = a;
  if (s->op == VB_OP_COPY && s->a_type == s->out_type) return VB_OK;
  *data = m->out;
  size_t n = (size_t)box->count;
  size_t bad = vb_compute(m->job->kernels, s, m->out, a, b, n);
  if (bad < n && !(m->t->flags & VB_TABLE_ALLOW_NONFINITE))
    return nonfinite(m, s, segment, first, bad, a, b, m->out);
  return VB_OK;
}

/* One block of a chain: all of its steps, the last of which is stored. */
static vb_status chain_block(machine *m, uint32_t begin, uint32_t end, const vb_box *box,
                             uint64_t first, uint64_t made) {
  const uint8_t *data = NULL;
  size_t bytes = 0;
  for (uint32_t i = begin; i < end; i++) {
    vb_segment s = vb_table_segment(m->t, i);
    vb_status status = step(m, &s, i, box, first, &data);
    if (status) return status;
    bytes = (size_t)box->count * vb_type_size(s.out_type);
    if (i + 1 == end) break;
    if ((status = flush(m, 0))) return status; /* the next step reuses the buffers */
    m->previous = data;
    if (data != m->out) continue; /* a copy within one type: the result is where it was */
    uint8_t *spare = m->spare;
    m->spare = m->out;
    m->out = spare;
  }
  if (m->job->hash_output) hash(m, &m->out_hash, data, bytes);
  if (m->tensor != UINT32_MAX) hash(m, &m->tensor_hash, data, bytes);
  vb_status status = write_out(m, data, bytes);
  if (!status) status = walk(m, made + bytes);
  return status ? status : flush(m, bytes);
}

static bool is_strided(const vb_segment *s) {
  return (s->a.source >= 0 && !vb_operand_dense(s, &s->a, vb_type_size(s->a_type))) ||
         (s->b.source >= 0 && !vb_operand_dense(s, &s->b, vb_type_size(s->b_type)));
}

/* Run the chain [begin, end) of segments; *made grows by what it stored. */
static vb_status run_chain(machine *m, uint32_t begin, uint32_t end, uint64_t *made) {
  size_t widest = 1, out_size = 0;
  bool strided = false;
  uint64_t count = 0;
  for (uint32_t i = begin; i < end; i++) {
    vb_segment s = vb_table_segment(m->t, i);
    size_t sizes[] = {vb_type_size(s.a_type), vb_type_size(s.b_type), vb_type_size(s.out_type)};
    for (int j = 0; j < 3; j++)
      if (sizes[j] > widest) widest = sizes[j];
    strided |= is_strided(&s);
    count = vb_segment_count(&s);
    out_size = sizes[2];
    if (i == begin) begin_tensor(m, s.tensor);
  }
  vb_segment shape = vb_table_segment(m->t, begin);
  size_t capacity = (strided ? STRIDED_BLOCK : BLOCK) / widest;
  for (uint64_t first = 0; first < count;) {
    vb_box box = {.count = min64(capacity, count - first)};
    if (strided) box = vb_box_at(&shape, first, capacity);
    vb_status status = chain_block(m, begin, end, &box, first, *made);
    if (status) return status;
    first += box.count;
    *made += box.count * out_size;
  }
  return VB_OK;
}

/* Bytes of an ORDERED source that only its hash needs. */
static vb_status run_hash(machine *m, const vb_segment *s) {
  uint32_t source = (uint32_t)s->a.source;
  uint64_t size = vb_segment_count(s);
  for (uint64_t at = 0; at < size;) {
    size_t piece = (size_t)min64(size - at, BLOCK);
    const uint8_t *data = m->a;
    if (s->b.source == VB_SRC_LITERAL) {
      data = m->t->literals + s->b.offset + at;
    } else {
      vb_status status = read_source(m, source, m->a, piece, s->a.offset + at);
      if (status) return status;
    }
    hash(m, &m->source_hash[source], data, piece);
    vb_status status = flush(m, 0);
    if (status) return status;
    at += piece;
  }
  return VB_OK;
}

static vb_status run_segments(machine *m) {
  uint64_t made = 0;
  for (uint32_t i = 0; i < m->t->nsegments;) {
    vb_segment s = vb_table_segment(m->t, i);
    uint32_t end = i + 1;
    vb_status status = VB_OK;
    if (s.op == VB_OP_HASH) {
      if (source_of(m, (uint32_t)s.a.source).mode == VB_SOURCE_ORDERED) status = run_hash(m, &s);
    } else {
      while (end < m->t->nsegments && vb_table_segment(m->t, end).a.source == VB_SRC_PREVIOUS) end++;
      status = run_chain(m, i, end, &made);
    }
    if (status) return status;
    i = end;
  }
  for (open_cursors(m); m->ncursors; open_cursors(m)) {
    for (size_t i = 0; i < m->ncursors; i++) {
      vb_status status = advance(m, &m->cursors[i], BLOCK);
      if (status) return status;
    }
    vb_status status = flush(m, 0);
    if (status) return status;
  }
  return VB_OK;
}

/* ---- setting up ---- */

/* What the table needs: sizes of a block and of the span, and how many cursors. */
typedef struct needs {
  size_t block, span, cursors;
  uint64_t walked; /* bytes */
} needs;

static needs survey(const vb_table *t, const vb_kernels *k) {
  needs n = {.block = BLOCK};
  for (uint32_t i = 0; i < t->nsources; i++) {
    vb_source source = vb_table_source(t, i);
    if (source.mode != VB_SOURCE_WALKED) continue;
    n.cursors++;
    n.walked += source.size;
  }
  size_t wide = k->sha256_wide ? k->sha256_wide_from : SIZE_MAX;
  size_t lanes = t->out_size ? WALKERS : n.cursors >= wide ? WALKERS_WIDE : WALKERS_ALONE;
  if (n.cursors > lanes) n.cursors = lanes;
  for (uint32_t i = 0; i < t->nsegments && !n.span; i++) {
    vb_segment s = vb_table_segment(t, i);
    if (s.op == VB_OP_HASH || !is_strided(&s)) continue;
    n.block = STRIDED_BLOCK;
    n.span = SPAN;
  }
  return n;
}

static size_t buffer_bytes(const needs *n) { return 4 * n->block + n->span + n->cursors * BLOCK; }

size_t vb_run_memory(const vb_table *t, const vb_kernels *k) {
  needs n = survey(t, k);
  return buffer_bytes(&n) + ((size_t)t->nsources + 1) * sizeof(vb_sha256) +
         ((size_t)t->nregions + 1) * sizeof(vb_tag);
}

static vb_status allocate(machine *m) {
  needs n = survey(m->t, m->job->kernels);
  m->max_cursors = n.cursors;
  m->walk_total = n.walked;
  m->memory = aligned_alloc(4096, buffer_bytes(&n));
  m->source_hash = calloc((size_t)m->t->nsources + 1, sizeof *m->source_hash);
  if (m->job->tag_key) m->tags = calloc((size_t)m->t->nregions + 1, sizeof *m->tags);
  if (!m->memory || !m->source_hash || (m->job->tag_key && !m->tags))
    return m->fault->status = VB_NO_MEMORY;
  for (uint32_t i = 0; m->tags && i < m->t->nregions; i++) vb_tag_init(&m->tags[i]);
  m->a = m->memory;
  m->b = m->a + n.block;
  m->out = m->b + n.block;
  m->spare = m->out + n.block;
  m->span = m->spare + n.block;
  for (size_t i = 0; i < n.cursors; i++) m->cursors[i].buffer = m->span + n.span + i * BLOCK;
  for (uint32_t i = 0; i < m->t->nsources; i++) vb_sha256_init(&m->source_hash[i]);
  vb_sha256_init(&m->out_hash);
  return VB_OK;
}

/* Tensors without elements have no segment; their digest is that of the prefix alone. */
static void empty_tensors(machine *m) {
  for (uint32_t i = 0; i < m->t->ntensors; i++) {
    begin_tensor(m, i);
    end_tensor(m);
  }
}

static void finish(machine *m) {
  end_tensor(m);
  for (uint32_t i = 0; i < m->t->nsources; i++)
    if (source_of(m, i).mode != VB_SOURCE_PLAIN)
      vb_sha256_final(m->job->kernels, &m->source_hash[i], m->job->source_digest + 32 * (size_t)i);
  vb_sha256_final(m->job->kernels, &m->out_hash, m->job->out_digest);
  for (uint32_t i = 0; m->tags && i < m->t->nregions; i++)
    vb_tag_final(m->job->tag_key, &m->tags[i], m->job->region_tag + 16 * (size_t)i);
}

vb_status vb_run(vb_job *job, vb_fault *fault) {
  machine m = {.job = job, .t = job->table, .fault = fault, .tensor = UINT32_MAX};
  *fault = (vb_fault){.status = VB_OK};
  vb_status status = allocate(&m);
  if (!status && job->tensor_digest) empty_tensors(&m);
  if (!status) status = run_segments(&m);
  if (!status) finish(&m);
  free(m.tags);
  free(m.source_hash);
  free(m.memory);
  return status;
}
