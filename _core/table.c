/* table.c - reading and checking serialized tables. */
#include "table.h"

#include <string.h>

enum {
  HEADER = 40,
  SOURCE = 16,
  TENSOR = 16,
  OPERAND = 48,
  SEGMENT = 16 + 32 + 2 * OPERAND,
  REGION = 24,
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

uint32_t vb_table_nsources(const uint8_t *data, size_t size) {
  return size < HEADER ? 0 : vb_load32(data + 12);
}

vb_source vb_table_source(const vb_table *t, uint32_t i) {
  const uint8_t *p = t->sources + (size_t)i * SOURCE;
  return (vb_source){.mode = vb_load32(p), .size = vb_load64(p + 8)};
}

const uint8_t *vb_table_prefix(const vb_table *t, uint32_t i, uint64_t *size) {
  const uint8_t *p = t->records + (size_t)i * TENSOR;
  *size = vb_load64(p + 8);
  return t->literals + vb_load64(p);
}

vb_region vb_table_region(const vb_table *t, uint32_t i) {
  const uint8_t *p = t->regions + (size_t)i * REGION;
  return (vb_region){.source = vb_load32(p),
                     .kind = vb_load32(p + 4),
                     .begin = vb_load64(p + 8),
                     .end = vb_load64(p + 16)};
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

bool vb_operand_dense(const vb_segment *s, const vb_operand *o, size_t itemsize) {
  uint64_t want = itemsize;
  for (int d = VB_RANK - 1; d >= 0; d--) {
    if (s->dim[d] != 1 && o->stride[d] != want) return false;
    want *= s->dim[d];
  }
  return true;
}

/* One past the last byte that the operand touches, or false on overflow. */
static bool operand_end(const vb_segment *s, const vb_operand *o, size_t itemsize, uint64_t *end) {
  uint64_t e = o->offset;
  for (int d = 0; d < VB_RANK; d++) {
    uint64_t step;
    if (__builtin_mul_overflow(s->dim[d] - 1, o->stride[d], &step)) return false;
    if (__builtin_add_overflow(e, step, &e)) return false;
  }
  return !__builtin_add_overflow(e, itemsize, end);
}

static bool is_arith(int type) { return type >= 0 && type < VB_TYPES; }

/* Reserved bytes are zero, so that a later version can give them a meaning. */
static bool reserved_are_zero(const vb_table *t, uint32_t i) {
  const uint8_t *p = t->records + (size_t)t->ntensors * TENSOR + (size_t)i * SEGMENT;
  return !(p[5] | p[6] | p[7] | vb_load32(p + 12));
}

/* Counts, and their sum with the sizes of the records, against the size of the data. */
static const char *parse_header(vb_table *t, const uint8_t *data, size_t size) {
  if (size < HEADER || memcmp(data, magic, sizeof magic) != 0) return "not a table of this version";
  *t = (vb_table){.flags = vb_load32(data + 8),
                  .nsources = vb_load32(data + 12),
                  .ntensors = vb_load32(data + 16),
                  .nsegments = vb_load32(data + 20),
                  .nliterals = vb_load64(data + 24),
                  .nregions = vb_load32(data + 32)};
  if (vb_load32(data + 36)) return "reserved bytes are not zero";
  if (t->flags & ~(uint32_t)VB_TABLE_ALLOW_NONFINITE) return "unknown flags";
  uint64_t records = (uint64_t)t->nsources * SOURCE + (uint64_t)t->ntensors * TENSOR +
                     (uint64_t)t->nsegments * SEGMENT;
  uint64_t regions = (uint64_t)t->nregions * REGION;
  uint64_t total;
  if (__builtin_add_overflow(records + regions + HEADER, t->nliterals, &total) || total != size)
    return "the size does not agree with the counts";
  t->sources = data + HEADER;
  t->records = t->sources + (size_t)t->nsources * SOURCE;
  t->regions = data + HEADER + records;
  t->literals = t->regions + regions;
  return NULL;
}

static const char *check_operand(const vb_table *t, const vb_segment *s, const vb_operand *o,
                                 int type) {
  size_t itemsize = vb_type_size(type);
  if (itemsize == 0) return "unknown element type";
  if (o->source == VB_SRC_ZERO || o->source == VB_SRC_PREVIOUS) return NULL;
  uint64_t limit;
  if (o->source == VB_SRC_LITERAL) {
    limit = t->nliterals;
    if (!vb_operand_dense(s, o, itemsize)) return "a literal operand must be dense";
  } else if (o->source >= 0 && (uint32_t)o->source < t->nsources) {
    limit = vb_table_source(t, (uint32_t)o->source).size;
  } else {
    return "no such source";
  }
  uint64_t end;
  if (!operand_end(s, o, itemsize, &end) || end > limit) return "an operand lies outside its source";
  return NULL;
}

static const char *check_types(const vb_segment *s) {
  bool same = s->a_type == s->out_type;
  switch (s->op) {
    case VB_OP_COPY:
      if (!same && !(is_arith(s->a_type) && is_arith(s->out_type))) return "no such conversion";
      return NULL;
    case VB_OP_XOR:
      if (!same || s->b_type != s->a_type || is_arith(s->a_type)) return "xor takes equal raw types";
      return NULL;
    case VB_OP_ADD:
    case VB_OP_SUB:
      if (!is_arith(s->a_type) || !is_arith(s->b_type) || !is_arith(s->out_type))
        return "arithmetic takes arithmetic types";
      if (s->compute != VB_AS_STORED && !is_arith(s->compute)) return "unknown compute type";
      return NULL;
    case VB_OP_HASH:
      if (s->a_type != VB_RAW1) return "hash-only segments are bytes";
      return NULL;
    default: return "unknown operation";
  }
}

/* An ORDERED source is read by the operands in the order of the segments, a WALKED one by its HASH
 * segments; either way from its first byte to its last. */
static const char *check_order(const vb_table *t, const vb_segment *s, const vb_operand *o, int type,
                               uint64_t *position) {
  if (o->source < 0) return NULL;
  uint32_t mode = vb_table_source(t, (uint32_t)o->source).mode;
  bool hash = s->op == VB_OP_HASH;
  if (hash && mode == VB_SOURCE_PLAIN) return "a hash-only segment of a source that is not hashed";
  if (mode == VB_SOURCE_PLAIN || (mode == VB_SOURCE_WALKED && !hash)) return NULL;
  size_t itemsize = vb_type_size(type);
  if (!vb_operand_dense(s, o, itemsize)) return "an ordered source must be read densely";
  if (o->offset != position[o->source]) return "an ordered source is not read in order";
  position[o->source] += vb_segment_count(s) * itemsize;
  return NULL;
}

static const char *check_segment(vb_table *t, const vb_segment *s, bool first, uint64_t *position) {
  const char *bad = check_types(s);
  if (bad) return bad;
  uint64_t count = 1, bytes;
  for (int d = 0; d < VB_RANK; d++)
    if (s->dim[d] == 0 || __builtin_mul_overflow(count, s->dim[d], &count)) return "bad dimensions";
  if (__builtin_mul_overflow(count, (uint64_t)8, &bytes) || bytes > INT64_MAX) return "bad dimensions";
  if ((bad = check_operand(t, s, &s->a, s->a_type))) return bad;
  bool binary = s->op == VB_OP_ADD || s->op == VB_OP_SUB || s->op == VB_OP_XOR;
  if (binary) {
    if ((bad = check_operand(t, s, &s->b, s->b_type))) return bad;
    if (s->b.source == VB_SRC_PREVIOUS) return "only the first operand can be the previous result";
    if (s->b.source >= 0 && s->b.source == s->a.source &&
        vb_table_source(t, (uint32_t)s->b.source).mode == VB_SOURCE_ORDERED)
      return "both operands read one ordered source";
  } else if (s->op == VB_OP_HASH) {
    if (s->a.source < 0) return "hash-only segments need a source";
    if (s->b.source == VB_SRC_LITERAL) {
      if ((bad = check_operand(t, s, &s->b, VB_RAW1))) return bad;
    } else if (s->b.source != VB_SRC_NONE) {
      return "a hash-only segment's second operand is a literal or nothing";
    }
  } else if (s->b.source != VB_SRC_NONE) {
    return "a copy has one operand";
  }
  if (s->a.source == VB_SRC_PREVIOUS && (first || s->op == VB_OP_HASH)) return "nothing to go on from";
  if (s->tensor != UINT32_MAX && s->tensor >= t->ntensors) return "no such tensor";
  if ((bad = check_order(t, s, &s->a, s->a_type, position))) return bad;
  if (binary && (bad = check_order(t, s, &s->b, s->b_type, position))) return bad;
  return NULL;
}

static bool reads_ordered(const vb_table *t, const vb_segment *s, int32_t source) {
  return source >= 0 && vb_table_source(t, (uint32_t)source).mode == VB_SOURCE_ORDERED &&
         (s->a.source == source || s->b.source == source);
}

/* XOR makes raw items, which the next step may take for numbers (or the other way round). */
static bool same_items(int from, int to) {
  return from == to ||
         (vb_type_size(from) == vb_type_size(to) && (!is_arith(from) || !is_arith(to)));
}

/* A segment that goes on from the one before must be of the same shape and take its type; and as the
 * segments of a chain run block by block, no two of them may read one ordered source. */
static const char *check_chain(vb_table *t, uint32_t i, const vb_segment *s) {
  if (s->a.source != VB_SRC_PREVIOUS) return NULL;
  vb_segment before = vb_table_segment(t, i - 1);
  if (before.op == VB_OP_HASH || memcmp(before.dim, s->dim, sizeof s->dim) != 0 ||
      !same_items(before.out_type, s->a_type) || before.tensor != s->tensor)
    return "the segment does not fit the one it goes on from";
  t->out_size -= vb_segment_count(&before) * vb_type_size(before.out_type);
  for (uint32_t back = 1;; back++) {
    if (back == VB_CHAIN) return "too many segments in a chain";
    if (reads_ordered(t, &before, s->b.source)) return "two steps of a chain read one ordered source";
    if (before.a.source != VB_SRC_PREVIOUS) return NULL;
    before = vb_table_segment(t, i - 1 - back);
  }
}

static const char *check_sources(const vb_table *t, uint64_t *position) {
  for (uint32_t i = 0; i < t->nsources; i++) {
    vb_source source = vb_table_source(t, i);
    if (source.mode > VB_SOURCE_WALKED) return "unknown mode of a source";
    if (source.size > INT64_MAX) return "a source is too large";
    if (vb_load32(t->sources + (size_t)i * SOURCE + 4)) return "reserved bytes are not zero";
    position[i] = 0;
  }
  return NULL;
}

static const char *check_tensors(const vb_table *t) {
  for (uint32_t i = 0; i < t->ntensors; i++) {
    const uint8_t *p = t->records + (size_t)i * TENSOR;
    uint64_t end;
    if (__builtin_add_overflow(vb_load64(p), vb_load64(p + 8), &end) || end > t->nliterals)
      return "a tensor's prefix lies outside the literals";
  }
  return NULL;
}

static bool region_before(const vb_region *a, const vb_region *b) {
  if (a->source != b->source) return a->source < b->source;
  return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
}

/* Every region for itself, and the order of the walk regions; *uses is the index of the first use. */
static const char *check_regions(const vb_table *t, uint32_t *uses) {
  vb_region before = {.kind = VB_REGION_WALK};
  *uses = 0;
  for (uint32_t i = 0; i < t->nregions; i++) {
    vb_region r = vb_table_region(t, i);
    if (r.kind != VB_REGION_WALK && r.kind != VB_REGION_USE) return "unknown kind of a region";
    if (r.source >= t->nsources) return "a region of no source";
    if (r.begin >= r.end || r.end > vb_table_source(t, r.source).size)
      return "a region lies outside its source";
    if (r.kind == VB_REGION_WALK) {
      if (i > *uses || (i > 0 && !region_before(&before, &r))) return "regions are not in order";
      if (vb_table_source(t, r.source).mode != VB_SOURCE_WALKED)
        return "a walk region of a source that is not walked";
      *uses = i + 1;
    }
    before = r;
  }
  return NULL;
}

/* An operand that is tagged reads exactly the region that comes next, *use. */
static const char *check_use(const vb_table *t, const vb_segment *s, const vb_operand *o, int type,
                             uint32_t *use) {
  if (o->tag == 0) return NULL;
  if (s->op == VB_OP_HASH || o->source < 0) return "a tag of an operand that does not use a source";
  if (*use >= t->nregions || o->tag - 1 != *use) return "use regions are not in the operands' order";
  vb_region r = vb_table_region(t, (*use)++);
  size_t itemsize = vb_type_size(type);
  if (vb_table_source(t, r.source).mode == VB_SOURCE_ORDERED) return "a use region of an ordered source";
  if (r.source != (uint32_t)o->source || r.begin != o->offset ||
      r.end - r.begin != vb_segment_count(s) * itemsize || !vb_operand_dense(s, o, itemsize))
    return "a use region is not what its operand reads";
  return NULL;
}

/* What is stored after segment s, whose tensor's segments must stand together: `open` is the tensor of
 * the last one, `fresh` the first index that has not been used. */
static const char *check_stored(vb_table *t, const vb_segment *s, uint32_t *open, uint32_t *fresh) {
  if (s->op == VB_OP_HASH) return NULL;
  if (s->tensor != *open && s->tensor != UINT32_MAX) {
    if (s->tensor < *fresh) return "tensors are not stored in order";
    *fresh = s->tensor + 1;
  }
  *open = s->tensor;
  uint64_t bytes = vb_segment_count(s) * vb_type_size(s->out_type);
  if (__builtin_add_overflow(t->out_size, bytes, &t->out_size) || t->out_size > INT64_MAX)
    return "the output is too large";
  return NULL;
}

static const char *check_records(vb_table *t, uint64_t *position, uint32_t *segment) {
  const char *bad = check_sources(t, position);
  uint32_t open = UINT32_MAX, fresh = 0, use;
  if (!bad) bad = check_tensors(t);
  if (!bad) bad = check_regions(t, &use);
  if (bad) return bad;
  for (uint32_t i = 0; i < t->nsegments; i++) {
    vb_segment s = vb_table_segment(t, i);
    *segment = i;
    if (!reserved_are_zero(t, i)) return "reserved bytes are not zero";
    if ((bad = check_segment(t, &s, i == 0, position))) return bad;
    if ((bad = check_chain(t, i, &s))) return bad;
    if ((bad = check_use(t, &s, &s.a, s.a_type, &use))) return bad;
    if ((bad = check_use(t, &s, &s.b, s.b_type, &use))) return bad;
    if ((bad = check_stored(t, &s, &open, &fresh))) return bad;
  }
  *segment = UINT32_MAX;
  if (use != t->nregions) return "a use region that no operand reads";
  for (uint32_t i = 0; i < t->nsources; i++) {
    vb_source source = vb_table_source(t, i);
    if (source.mode != VB_SOURCE_PLAIN && position[i] != source.size)
      return "a hashed source is not read to its end";
  }
  return NULL;
}

bool vb_table_parse(vb_table *t, const uint8_t *data, size_t size, uint64_t *scratch,
                    vb_table_error *e) {
  e->segment = UINT32_MAX;
  e->what = parse_header(t, data, size);
  if (!e->what) e->what = check_records(t, scratch, &e->segment);
  return e->what == NULL;
}
