/* check.c - sources, tensors, regions, segments and chains. */
#include "check.h"

#include <string.h>

/* Whether a type has all values of another one. */
static bool widens(int from, int to) {
  return vb_is_arith(from) && vb_is_arith(to) && to >= VB_F32 && from < to;
}

static const char *check_types(const vb_segment *s) {
  bool same = s->a_type == s->out_type;
  switch (s->op) {
    case VB_OP_COPY:
      if (same) return NULL;
      if (!vb_is_arith(s->a_type) || (!vb_is_arith(s->out_type) && !vb_block_bytes(s->out_type)))
        return "no such conversion";
      if (vb_block_bytes(s->out_type) && s->dim[VB_RANK - 1] % VB_BLOCK) return "a row is not whole blocks";
      return NULL;
    case VB_OP_XOR:
      if (!same || s->b_type != s->a_type || vb_is_arith(s->a_type)) return "xor takes equal raw types";
      return NULL;
    case VB_OP_ADD:
    case VB_OP_SUB:
      if (!vb_is_arith(s->a_type) || !vb_is_arith(s->b_type) || !vb_is_arith(s->out_type))
        return "arithmetic takes arithmetic types";
      if (s->compute != VB_AS_STORED && !vb_is_arith(s->compute)) return "unknown compute type";
      return NULL;
    case VB_OP_HASH:
      if (s->a_type != VB_RAW1) return "hash-only segments are bytes";
      return NULL;
    case VB_OP_DIFF:
      if (s->a_type != s->b_type && !widens(s->b_type, s->a_type))
        return "a difference is between equal types, or the first operand's has all values of the second's";
      return NULL;
    default: return "unknown operation";
  }
}

static bool is_ordered(const vb_table *t, int32_t source) {
  return source >= 0 && (uint32_t)source < t->nsources &&
         vb_table_source(t, (uint32_t)source).mode == VB_SOURCE_ORDERED;
}

/* Which operands the operation has, and where they may come from. */
static const char *check_places(const vb_table *t, const vb_segment *s, bool first) {
  if (s->a.source == VB_SRC_PREVIOUS && (first || s->op == VB_OP_HASH)) return "nothing to go on from";
  if (s->a.source == VB_SRC_PRODUCT) return "a product is a second operand";
  switch (s->op) {
    case VB_OP_COPY: return s->b.source == VB_SRC_NONE ? NULL : "a copy has one operand";
    case VB_OP_HASH:
      if (s->a.source < 0) return "hash-only segments need a source";
      if (s->b.source != VB_SRC_LITERAL && s->b.source != VB_SRC_NONE)
        return "a hash-only segment's second operand is a literal or nothing";
      return NULL;
    default: break;
  }
  if (s->b.source == VB_SRC_NONE) return "a second operand is missing";
  if (s->b.source == VB_SRC_PREVIOUS) return "only the first operand can be the previous result";
  if (s->a.source == s->b.source && is_ordered(t, s->b.source))
    return "both operands read one ordered source";
  return NULL;
}

static const char *check_segment(vb_checker *c, const vb_segment *s, bool first) {
  if (!vb_check_dims(s->dim)) return "bad dimensions";
  vb_count_work(c->t, s->dim);
  const char *bad = check_types(s);
  if (!bad) bad = check_places(c->t, s, first);
  if (bad) return bad;
  if (s->a.source != VB_SRC_PREVIOUS) c->factors = 0;
  if ((bad = vb_check_operand(c, s, &s->a, s->a_type))) return bad;
  if (s->b.source == VB_SRC_NONE)
    bad = s->b.tag ? "a tag of an operand that does not use a source" : NULL;
  else
    bad = vb_check_operand(c, s, &s->b, s->op == VB_OP_HASH ? VB_RAW1 : s->b_type);
  if (bad) return bad;
  bool belongs = s->tensor < c->t->ntensors;
  if (!belongs && (s->tensor != UINT32_MAX || s->op == VB_OP_DIFF)) return "no such tensor";
  return NULL;
}

static bool reads_ordered(const vb_table *t, const vb_segment *s, int32_t source) {
  return is_ordered(t, source) && (s->a.source == source || s->b.source == source);
}

/* XOR makes raw items, which the next step may take for numbers (or the other way round). */
static bool same_items(int from, int to) {
  return from == to ||
         (vb_type_size(from) == vb_type_size(to) && (!vb_is_arith(from) || !vb_is_arith(to)));
}

/* A segment that goes on from the one before must be of the same shape and take its type; and as the
 * segments of a chain run block by block, no two of them may read one ordered source. */
static const char *check_chain(vb_table *t, uint32_t i, const vb_segment *s) {
  if (s->a.source != VB_SRC_PREVIOUS) return NULL;
  vb_segment before = vb_table_segment(t, i - 1);
  bool passed_on = before.op != VB_OP_HASH && before.op != VB_OP_DIFF && !vb_block_bytes(before.out_type);
  if (!passed_on || memcmp(before.dim, s->dim, sizeof s->dim) != 0 ||
      !same_items(before.out_type, s->a_type) || before.tensor != s->tensor)
    return "the segment does not fit the one it goes on from";
  t->out_size -= vb_stored_size(before.out_type, vb_segment_count(&before));
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
    position[i] = 0;
  }
  return NULL;
}

static const char *check_tensors(const vb_table *t) {
  for (uint32_t i = 0; i < t->ntensors; i++) {
    uint64_t size, begin = vb_table_prefix(t, i, &size), end;
    if (__builtin_add_overflow(begin, size, &end) || end > t->nliterals)
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

/* What is stored after segment s. The segments of a tensor stand together. */
static const char *check_stored(vb_checker *c, const vb_segment *s) {
  if (s->op == VB_OP_HASH) return NULL;
  if (s->tensor != c->open && s->tensor != UINT32_MAX) {
    if (s->tensor < c->fresh) return "tensors are not stored in order";
    c->fresh = s->tensor + 1;
  }
  c->open = s->tensor;
  if (s->op == VB_OP_DIFF) return NULL;
  vb_table *t = c->t;
  uint64_t bytes = vb_stored_size(s->out_type, vb_segment_count(s));
  if (__builtin_add_overflow(t->out_size, bytes, &t->out_size) || t->out_size > INT64_MAX)
    return "the output is too large";
  return NULL;
}

const char *vb_check_table(vb_table *t, uint64_t *position, uint32_t *segment) {
  vb_checker c = {.t = t, .position = position, .open = UINT32_MAX};
  const char *bad = check_sources(t, position);
  if (!bad) bad = check_tensors(t);
  if (!bad) bad = check_regions(t, &c.use);
  if (bad) return bad;
  for (uint32_t i = 0; i < t->nsegments; i++) {
    vb_segment s = vb_table_segment(t, i);
    *segment = i;
    if ((bad = check_segment(&c, &s, i == 0))) return bad;
    if ((bad = check_chain(t, i, &s))) return bad;
    if ((bad = check_stored(&c, &s))) return bad;
  }
  *segment = UINT32_MAX;
  if (c.part != t->nparts) return "a part that no operand has";
  if (c.use != t->nregions) return "a use region that no operand reads";
  for (uint32_t i = 0; i < t->nsources; i++) {
    vb_source source = vb_table_source(t, i);
    if (source.mode != VB_SOURCE_PLAIN && position[i] != source.size)
      return "a hashed source is not read to its end";
  }
  return NULL;
}
