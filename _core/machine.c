/* machine.c - the segment machine.
 *
 * A step takes one block of one chain of segments (most chains are one segment long): fetch the operands,
 * compute, write, and hash everything that was touched in one interleaved call. Cursors over WALKED
 * sources advance beside it.
 *
 * Bytes are tagged in the private buffer that is then hashed (a walk region) or used (a use region), so
 * that equal tags mean equal bytes wherever a file is read twice (tag.h).
 */
#include "machine.h"

#include <fcntl.h>

#include "compute.h"
#include "state.h"

void vb_hash_later(vb_machine *m, vb_sha256 *stream, const uint8_t *data, size_t size) {
  vb_sha256_job job = {.stream = stream, .data = data, .size = size};
  if (m->piped && stream != &m->out_hash && stream != &m->tensor_hash) {
    vb_slot *slot = vb_ring_slot(&m->ring);
    slot->jobs[slot->njobs++] = job;
  } else {
    m->jobs[m->njobs++] = job;
  }
}

/* Hand what is to be hashed for sources to the other thread; whether there was anything. */
static bool turn(vb_machine *m) {
  if (!m->piped || vb_ring_slot(&m->ring)->njobs == 0) return false;
  vb_ring_turn(&m->ring);
  vb_use_slot(m, vb_ring_slot(&m->ring)->memory);
  return true;
}

vb_status vb_poll(vb_machine *m) {
  if (atomic_load_explicit(&m->job->control->stop, memory_order_relaxed))
    return m->fault->status = VB_STOPPED;
  return VB_OK;
}

vb_status vb_flush(vb_machine *m, size_t moved) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < m->njobs; i++)
    if (m->jobs[i].stream != &m->tensor_hash) bytes += m->jobs[i].size;
  vb_sha256_update(m->job->kernels, m->jobs, m->njobs);
  m->njobs = 0;
  if (!turn(m) && !bytes) bytes = moved;
  atomic_fetch_add_explicit(&m->job->control->done, bytes, memory_order_relaxed);
  if (m->pipeable && !m->piped) vb_pipe(m);
  return vb_poll(m);
}

vb_status vb_read_source(vb_machine *m, uint32_t source, void *buffer, size_t size, uint64_t offset) {
  m->fault->source = source;
  return vb_read(m->job->fds[source], buffer, size, offset, m->fault);
}

void vb_tag_use(vb_machine *m, uint32_t tag, const uint8_t *data, size_t size) {
  if (m->tags && tag) vb_tag_update(m->job->kernels, m->job->tag_key, &m->tags[tag - 1], data, size);
}

/* ---- the output ---- */

/* Let the system begin to put what is written on the disk, so that little is left when it is synced.
 * This is a hint: where it fails, nothing is lost. */
static void write_back(vb_machine *m) {
  uint64_t size = m->written - m->handed_over;
  if (size < VB_WRITE_BACK) return;
  sync_file_range(m->job->out_fd, (off_t)m->handed_over, (off_t)size, SYNC_FILE_RANGE_WRITE);
  m->handed_over = m->written;
}

static vb_status store(vb_machine *m, const uint8_t *data, size_t size) {
  if (m->job->hash_output) vb_hash_later(m, &m->out_hash, data, size);
  if (m->tensor != UINT32_MAX) vb_hash_later(m, &m->tensor_hash, data, size);
  if (m->job->out_fd < 0) return VB_OK;
  vb_status status = vb_write(m->job->out_fd, data, size, m->written, m->fault);
  m->written += size;
  write_back(m);
  return status;
}

static void end_tensor(vb_machine *m) {
  if (m->tensor != UINT32_MAX)
    vb_sha256_final(m->job->kernels, &m->tensor_hash, m->job->tensor_digest + 32 * (size_t)m->tensor);
  m->tensor = UINT32_MAX;
}

static void begin_tensor(vb_machine *m, uint32_t tensor) {
  if (!m->job->tensor_digest || tensor == m->tensor) return;
  end_tensor(m);
  if (tensor == UINT32_MAX) return;
  m->tensor = tensor;
  vb_sha256_init(&m->tensor_hash);
  uint64_t size, offset = vb_table_prefix(m->t, tensor, &size);
  vb_sha256_job job = {.stream = &m->tensor_hash, .data = m->t->literals + offset, .size = (size_t)size};
  vb_sha256_update(m->job->kernels, &job, 1);
}

/* ---- segments ---- */

static uint64_t load_bits(const uint8_t *p, size_t size) {
  return size == 8 ? vb_load64(p) : size == 4 ? vb_load32(p) : size == 2 ? vb_load16(p) : *p;
}

/* Remember where and with which operands a result became non-finite. */
static vb_status nonfinite(vb_machine *m, const vb_segment *s, uint32_t segment, uint64_t first, size_t i,
                           const uint8_t *a, const uint8_t *b, const uint8_t *out) {
  size_t as = vb_type_size(s->a_type), bs = vb_type_size(s->b_type), os = vb_type_size(s->out_type);
  size_t block = vb_block_bytes(s->out_type);
  m->fault->segment = segment;
  m->fault->index = first + i;
  m->fault->bits[0] = load_bits(a + i * as, as);
  m->fault->bits[1] = b ? load_bits(b + i * bs, bs) : 0;
  m->fault->bits[2] = block ? vb_load16(out + i / VB_BLOCK * block) : load_bits(out + i * os, os);
  return m->fault->status = VB_NONFINITE;
}

/* Count how n elements of a and b differ, which go on where the tensor's last ones ended. b is in its own
 * type, which a's has all values of. */
static void compare(vb_machine *m, const vb_segment *s, const uint8_t *a, const uint8_t *b, size_t n) {
  if (!m->job->difference) return;
  if (s->tensor != m->compared) m->compared_elements = 0;
  m->compared = s->tensor;
  if (s->b_type != s->a_type) {
    m->job->kernels->convert[s->b_type][s->a_type](m->out, b, n);
    b = m->out;
  }
  vb_difference_of(m->job->kernels, s->a_type)(&m->job->difference[s->tensor], a, b, n,
                                               m->compared_elements);
  m->compared_elements += n;
}

/* One block of one segment; *data is where its result stands. */
static vb_status step(vb_machine *m, const vb_segment *s, uint32_t segment, const vb_box *box,
                      uint64_t first, const uint8_t **data) {
  vb_input *inputs = &m->chain.inputs[2 * (segment - m->chain.begin)];
  const uint8_t *a, *b = NULL;
  vb_status status = vb_fetch(m, &inputs[0], box, first, m->a, &a);
  if (!status && s->b.source != VB_SRC_NONE) status = vb_fetch(m, &inputs[1], box, first, m->b, &b);
  if (status) return status;
  size_t n = (size_t)box->count, bad;
  *data = a;
  if (s->op == VB_OP_DIFF) {
    compare(m, s, a, b, n);
    return VB_OK;
  }
  if (s->op == VB_OP_COPY && s->a_type == s->out_type) {
    bad = n;
  } else {
    *data = m->out;
    bad = vb_compute(m->job->kernels, s, m->out, a, b, n);
  }
  if (m->t->flags & VB_TABLE_ALLOW_NONFINITE) return VB_OK;
  if (s->op == VB_OP_COPY && s->a.source == VB_SRC_MEAN) bad = vb_first_nonfinite(a, bad);
  return bad < n ? nonfinite(m, s, segment, first, bad, a, b, *data) : VB_OK;
}

/* The chain's result of a block: stored, or only compared. */
static vb_status end_block(vb_machine *m, const vb_segment *last, const uint8_t *data, size_t count) {
  size_t bytes = count * vb_type_size(last->a_type);
  vb_status status = VB_OK;
  if (last->op != VB_OP_DIFF) {
    bytes = (size_t)vb_stored_size(last->out_type, count);
    status = store(m, data, bytes);
  }
  m->work_done += count;
  if (!status) status = vb_walk(m);
  return status ? status : vb_flush(m, bytes);
}

/* One block of the chain: all of its steps. */
static vb_status run_block(vb_machine *m, const vb_box *box, uint64_t first) {
  const uint8_t *data = NULL;
  for (uint32_t i = m->chain.begin;; i++) {
    vb_segment s = vb_table_segment(m->t, i);
    vb_status status = step(m, &s, i, box, first, &data);
    if (status) return status;
    if (i + 1 == m->chain.end) return end_block(m, &s, data, (size_t)box->count);
    if ((status = vb_flush(m, 0))) return status; /* the next step reuses the buffers */
    m->previous = data;
    if (data != m->out) continue; /* a copy within one type: the result is where it was */
    uint8_t *spare = m->spare;
    m->spare = m->out;
    m->out = spare;
  }
}

/* The chain that begins at a segment. */
static vb_status run_chain(vb_machine *m, uint32_t begin) {
  vb_chain *c = &m->chain;
  vb_chain_open(c, m->t, m->tags != NULL, begin, m->readers);
  begin_tensor(m, vb_table_segment(m->t, begin).tensor);
  vb_status status = vb_inputs_open(m);
  for (uint64_t first = 0; !status && first < c->count;) {
    uint64_t rest = vb_min(c->capacity, c->count - first);
    vb_box box = {.dim = {1, 1, 1, rest}, .count = rest};
    if (c->boxed) box = vb_box_at(c->dim, first, c->capacity);
    status = run_block(m, &box, first);
    first += box.count;
  }
  return status;
}

/* Bytes of an ORDERED source that only its hash needs. */
static vb_status run_hash(vb_machine *m, const vb_segment *s) {
  uint32_t source = (uint32_t)s->a.source;
  uint64_t size = vb_segment_count(s);
  for (uint64_t at = 0; at < size;) {
    size_t piece = (size_t)vb_min(size - at, VB_PIECE);
    const uint8_t *data = m->a;
    if (s->b.source == VB_SRC_LITERAL) {
      data = m->t->literals + s->b.offset + at;
    } else {
      vb_status status = vb_read_source(m, source, m->a, piece, s->a.offset + at);
      if (status) return status;
    }
    vb_hash_later(m, &m->source_hash[source], data, piece);
    vb_status status = vb_flush(m, 0);
    if (status) return status;
    at += piece;
  }
  return VB_OK;
}

static vb_status run_segments(vb_machine *m) {
  for (uint32_t i = 0; i < m->t->nsegments;) {
    vb_segment s = vb_table_segment(m->t, i++);
    vb_status status = VB_OK;
    if (s.op != VB_OP_HASH) {
      status = run_chain(m, i - 1);
      i = m->chain.end;
    } else if (vb_source_of(m, (uint32_t)s.a.source).mode == VB_SOURCE_ORDERED) {
      status = run_hash(m, &s);
    }
    if (status) return status;
  }
  return vb_walk_on(m);
}

/* ---- the whole ---- */

/* Tensors without elements have no segment; their digest is that of the prefix alone. */
static void empty_tensors(vb_machine *m) {
  for (uint32_t i = 0; i < m->t->ntensors; i++) {
    begin_tensor(m, i);
    end_tensor(m);
  }
}

static void finish(vb_machine *m) {
  end_tensor(m);
  for (uint32_t i = 0; i < m->t->nsources; i++)
    if (vb_source_of(m, i).mode != VB_SOURCE_PLAIN)
      vb_sha256_final(m->job->kernels, &m->source_hash[i], m->job->source_digest + 32 * (size_t)i);
  vb_sha256_final(m->job->kernels, &m->out_hash, m->job->out_digest);
  for (uint32_t i = 0; m->tags && i < m->t->nregions; i++)
    vb_tag_final(m->job->tag_key, &m->tags[i], m->job->region_tag + 16 * (size_t)i);
}

vb_status vb_run(vb_job *job, vb_fault *fault) {
  vb_machine m = {.job = job,
                  .t = job->table,
                  .fault = fault,
                  .tensor = UINT32_MAX,
                  .compared = UINT32_MAX,
                  .scratch_fd = job->scratch_fd};
  *fault = (vb_fault){.status = VB_OK};
  vb_status status = vb_machine_open(&m);
  if (!status && job->tensor_digest) empty_tensors(&m);
  if (!status) status = run_segments(&m);
  vb_unpipe(&m);
  if (!status) finish(&m);
  vb_machine_close(&m);
  return status;
}
