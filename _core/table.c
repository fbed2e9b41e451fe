/* table.c - reading serialized tables (check.c says whether they are right). */
#include "check.h"

#include <string.h>

enum {
  HEADER = 40,
  SOURCE = 16,
  TENSOR = 16,
  OPERAND = 48,
  SEGMENT = 16 + 32 + 2 * OPERAND,
  PART = 16 + 2 * 32 + 8,
  REGION = 24,
  COMPACT = 4096, /* bytes that a span may have in addition */
};

static const uint8_t magic[8] = {'v', 'b', 't', 'a', 'b', 'l', 'e', '1'};

size_t vb_type_size(int type) {
  switch (type) {
    case VB_RAW1: return 1;
    case VB_F16:
    case VB_BF16:
    case VB_RAW2: return 2;
    case VB_F32:
    case VB_RAW4: return 4;
    case VB_F64:
    case VB_RAW8: return 8;
    default: return 0;
  }
}

uint64_t vb_stored_size(int type, uint64_t count) {
  size_t block = vb_block_bytes(type);
  return block ? count / VB_BLOCK * block : count * vb_type_size(type);
}

uint32_t vb_table_nsources(const uint8_t *data, size_t size) {
  return size < HEADER ? 0 : vb_load32(data + 12);
}

vb_source vb_table_source(const vb_table *t, uint32_t i) {
  const uint8_t *p = t->sources + (size_t)i * SOURCE;
  return (vb_source){.mode = vb_load32(p), .size = vb_load64(p + 8)};
}

uint64_t vb_table_prefix(const vb_table *t, uint32_t i, uint64_t *size) {
  const uint8_t *p = t->records + (size_t)i * TENSOR;
  *size = vb_load64(p + 8);
  return vb_load64(p);
}

vb_region vb_table_region(const vb_table *t, uint32_t i) {
  const uint8_t *p = t->regions + (size_t)i * REGION;
  return (vb_region){.source = vb_load32(p),
                     .kind = vb_load32(p + 4),
                     .begin = vb_load64(p + 8),
                     .end = vb_load64(p + 16)};
}

vb_view vb_table_part(const vb_table *t, uint32_t i) {
  const uint8_t *p = t->parts + (size_t)i * PART;
  vb_view v = {.source = vb_load32(p),
               .tag = vb_load32(p + 4),
               .offset = vb_load64(p + 8),
               .type = (int)vb_load32(p + 80)};
  for (int d = 0; d < VB_RANK; d++) {
    v.stride[d] = vb_load64(p + 16 + 8 * d);
    v.dim[d] = vb_load64(p + 48 + 8 * d);
  }
  return v;
}

static vb_operand load_operand(const uint8_t *p) {
  vb_operand o = {
      .source = (int32_t)vb_load32(p), .tag = vb_load32(p + 4), .offset = vb_load64(p + 8)};
  for (int d = 0; d < VB_RANK; d++) o.stride[d] = vb_load64(p + 16 + 8 * d);
  return o;
}

vb_segment vb_table_segment(const vb_table *t, uint32_t i) {
  const uint8_t *p = t->records + (size_t)t->ntensors * TENSOR + (size_t)i * SEGMENT;
  vb_segment s = {.op = p[0],
                  .a_type = p[1],
                  .b_type = p[2],
                  .compute = p[3],
                  .out_type = p[4],
                  .tensor = vb_load32(p + 8)};
  for (int d = 0; d < VB_RANK; d++) s.dim[d] = vb_load64(p + 16 + 8 * d);
  s.a = load_operand(p + 48);
  s.b = load_operand(p + 48 + OPERAND);
  return s;
}

bool vb_table_compares(const vb_table *t) {
  for (uint32_t i = 0; i < t->nsegments; i++)
    if (vb_table_segment(t, i).op == VB_OP_DIFF) return true;
  return false;
}

/* ---- views ---- */

vb_view vb_operand_view(const vb_segment *s, const vb_operand *o, int type) {
  vb_view v = {.source = (uint32_t)o->source, .tag = o->tag, .offset = o->offset, .type = type};
  memcpy(v.stride, o->stride, sizeof v.stride);
  memcpy(v.dim, s->dim, sizeof v.dim);
  return v;
}

bool vb_view_dense(const vb_view *v) {
  uint64_t want = vb_type_size(v->type);
  for (int d = VB_RANK - 1; d >= 0; d--) {
    if (v->dim[d] != 1 && v->stride[d] != want) return false;
    want *= v->dim[d];
  }
  return true;
}

uint64_t vb_view_span(const vb_view *v) {
  uint64_t last = 0;
  for (int d = 0; d < VB_RANK; d++) last += (v->dim[d] - 1) * v->stride[d];
  return last + vb_type_size(v->type);
}

bool vb_view_compact(const vb_view *v) {
  uint64_t span = vb_view_span(v), bytes = vb_count(v->dim) * vb_type_size(v->type);
  return span <= COMPACT || (span - COMPACT + 3) / 4 <= bytes;
}

/* ---- the whole ---- */

/* Counts, and their sum with the sizes of the records, against the size of the data. */
static const char *parse_header(vb_table *t, const uint8_t *data, size_t size) {
  if (size < HEADER || memcmp(data, magic, sizeof magic) != 0) return "not a table of this version";
  *t = (vb_table){.flags = vb_load32(data + 8),
                  .nsources = vb_load32(data + 12),
                  .ntensors = vb_load32(data + 16),
                  .nsegments = vb_load32(data + 20),
                  .nliterals = vb_load64(data + 24),
                  .nregions = vb_load32(data + 32),
                  .nparts = vb_load32(data + 36)};
  if (t->flags & ~(uint32_t)VB_TABLE_ALLOW_NONFINITE) return "unknown flags";
  uint64_t records = (uint64_t)t->nsources * SOURCE + (uint64_t)t->ntensors * TENSOR +
                     (uint64_t)t->nsegments * SEGMENT;
  uint64_t parts = (uint64_t)t->nparts * PART, regions = (uint64_t)t->nregions * REGION;
  uint64_t total;
  if (__builtin_add_overflow(records + parts + regions + HEADER, t->nliterals, &total) ||
      total != size)
    return "the size does not agree with the counts";
  t->sources = data + HEADER;
  t->records = t->sources + (size_t)t->nsources * SOURCE;
  t->parts = data + HEADER + records;
  t->regions = t->parts + parts;
  t->literals = t->regions + regions;
  return NULL;
}

/* Reserved bytes are zero, so that a later version can give them a meaning. */
static const char *check_reserved(const vb_table *t) {
  uint32_t bits = 0;
  for (uint32_t i = 0; i < t->nsources; i++) bits |= vb_load32(t->sources + (size_t)i * SOURCE + 4);
  for (uint32_t i = 0; i < t->nsegments; i++) {
    const uint8_t *p = t->records + (size_t)t->ntensors * TENSOR + (size_t)i * SEGMENT;
    bits |= p[5] | p[6] | p[7] | vb_load32(p + 12);
  }
  for (uint32_t i = 0; i < t->nparts; i++) bits |= vb_load32(t->parts + (size_t)i * PART + 84);
  return bits ? "reserved bytes are not zero" : NULL;
}

bool vb_table_parse(vb_table *t, const uint8_t *data, size_t size, uint64_t *scratch,
                    vb_table_error *e) {
  e->segment = UINT32_MAX;
  e->what = parse_header(t, data, size);
  if (!e->what) e->what = check_reserved(t);
  if (!e->what) e->what = vb_check_table(t, scratch, &e->segment);
  return e->what == NULL;
}
