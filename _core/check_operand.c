/* check_operand.c - operands, their parts, and the regions and sources that these read. */
#include <string.h>

#include "check.h"

bool vb_check_dims(const uint64_t dim[VB_RANK]) {
  uint64_t bytes = 8;
  for (int d = 0; d < VB_RANK; d++)
    if (dim[d] == 0 || __builtin_mul_overflow(bytes, dim[d], &bytes) || bytes > INT64_MAX) return false;
  return true;
}

void vb_count_work(vb_table *t, const uint64_t dim[VB_RANK]) {
  t->work += vb_count(dim); /* both are below 2^63 */
  if (t->work > INT64_MAX) t->work = INT64_MAX;
}

/* ---- views ---- */

/* Whether the view ends inside `limit` bytes. */
static bool inside(const vb_view *v, uint64_t limit) {
  uint64_t end = v->offset;
  for (int d = 0; d < VB_RANK; d++) {
    uint64_t step;
    if (__builtin_mul_overflow(v->dim[d] - 1, v->stride[d], &step)) return false;
    if (__builtin_add_overflow(end, step, &end)) return false;
  }
  return !__builtin_add_overflow(end, (uint64_t)vb_type_size(v->type), &end) && end <= limit;
}

/* An ORDERED source is read by the operands in the order of the segments, a WALKED one by its HASH
 * segments; either way from its first byte to its last. */
static const char *check_order(vb_checker *c, const vb_view *v, bool hash) {
  uint32_t mode = vb_table_source(c->t, v->source).mode;
  if (hash && mode == VB_SOURCE_PLAIN) return "a hash-only segment of a source that is not hashed";
  if (mode == VB_SOURCE_PLAIN || (mode == VB_SOURCE_WALKED && !hash)) return NULL;
  if (!vb_view_dense(v)) return "an ordered source must be read densely";
  if (v->offset != c->position[v->source]) return "an ordered source is not read in order";
  c->position[v->source] += vb_count(v->dim) * vb_type_size(v->type);
  return NULL;
}

/* A view that is tagged spans exactly the region that comes next. */
static const char *check_use(vb_checker *c, const vb_view *v) {
  if (v->tag == 0) return NULL;
  if (c->use >= c->t->nregions || v->tag - 1 != c->use) return "use regions are not in the operands' order";
  vb_region r = vb_table_region(c->t, c->use++);
  if (vb_table_source(c->t, r.source).mode == VB_SOURCE_ORDERED) return "a use region of an ordered source";
  if (r.source != v->source || r.begin != v->offset || r.end - r.begin != vb_view_span(v) ||
      !vb_view_compact(v))
    return "a use region is not what its operand reads";
  return NULL;
}

/* A view of known dimensions and type; its source is checked here. */
static const char *check_view(vb_checker *c, const vb_view *v, bool hash) {
  if (v->source >= c->t->nsources) return "no such source";
  if (!inside(v, vb_table_source(c->t, v->source).size)) return "an operand lies outside its source";
  if (hash && v->tag) return "a tag of an operand that does not use a source";
  const char *bad = check_order(c, v, hash);
  return bad ? bad : check_use(c, v);
}

/* ---- parts ---- */

static const char *next_part(vb_checker *c, vb_view *v) {
  *v = vb_table_part(c->t, c->part++);
  if (vb_type_size(v->type) == 0) return "unknown element type";
  if (!vb_check_dims(v->dim)) return "bad dimensions";
  vb_count_work(c->t, v->dim);
  if (v->source < c->t->nsources && vb_table_source(c->t, v->source).mode == VB_SOURCE_ORDERED)
    return "a part of an ordered source";
  return check_view(c, v, false);
}

static const char *check_joined(vb_checker *c, const vb_segment *s, const vb_operand *o, int type) {
  uint64_t columns = 0;
  for (uint32_t i = 0; i < o->tag; i++) {
    vb_view v;
    const char *bad = next_part(c, &v);
    if (bad) return bad;
    if (v.type != type || memcmp(v.dim, s->dim, (VB_RANK - 1) * sizeof *v.dim) != 0)
      return "a part does not fit its operand";
    columns += v.dim[VB_RANK - 1]; /* below 2^60 each, and less than 2^32 of them */
    if (columns > s->dim[VB_RANK - 1]) return "a part does not fit its operand";
  }
  return columns == s->dim[VB_RANK - 1] ? NULL : "a part does not fit its operand";
}

/* A matrix of f16, bf16 or f32 with so many rows (0: any) and columns (0: any). Its rows may be cut into
 * several dimensions if it is `folded`. */
static const char *check_factor(vb_checker *c, vb_view *v, uint64_t rows, uint64_t columns, bool folded) {
  const char *bad = next_part(c, v);
  if (bad) return bad;
  bool fits = (folded || (v->dim[0] == 1 && v->dim[1] == 1)) &&
              (rows == 0 || v->dim[0] * v->dim[1] * v->dim[2] == rows) &&
              (columns == 0 || v->dim[3] == columns);
  return fits && vb_is_arith(v->type) && v->type != VB_F64 ? NULL : "a part does not fit its operand";
}

/* Count `n` times `size` bytes of memory for the chain. */
static const char *count_factor(vb_checker *c, uint64_t n, uint64_t size) {
  uint64_t bytes;
  if (__builtin_mul_overflow(n, size, &bytes) || bytes > VB_FACTORS ||
      (c->factors += bytes) > VB_FACTORS)
    return "the factors of a chain are too large";
  return NULL;
}

static const char *check_mean(vb_checker *c, const vb_segment *s) {
  vb_view v;
  const char *bad = check_factor(c, &v, 0, s->dim[3], false);
  return bad ? bad : count_factor(c, s->dim[3], 5 * sizeof(float));
}

static const char *check_product(vb_checker *c, const vb_segment *s) {
  vb_view left, right;
  const char *bad = check_factor(c, &left, s->dim[0] * s->dim[1] * s->dim[2], 0, true);
  if (!bad) bad = check_factor(c, &right, left.dim[3], s->dim[3], false);
  return bad ? bad : count_factor(c, s->dim[3] + 1, left.dim[3] * sizeof(float));
}

static const char *check_composite(vb_checker *c, const vb_segment *s, const vb_operand *o, int type) {
  uint32_t wanted = o->source == VB_SRC_MEAN ? 1 : o->source == VB_SRC_PRODUCT ? 2 : o->tag;
  uint64_t scale = o->source == VB_SRC_PRODUCT ? UINT32_MAX : 0;
  if (o->stride[0] > scale || o->stride[1] | o->stride[2] | o->stride[3])
    return "strides of an operand of parts";
  if (o->tag == 0 || o->tag != wanted || o->offset != c->part || o->tag > c->t->nparts - c->part)
    return "parts are not in the operands' order";
  if (o->source == VB_SRC_JOINED) return check_joined(c, s, o, type);
  if (type != VB_F32) return "a mean or a product is f32";
  return o->source == VB_SRC_MEAN ? check_mean(c, s) : check_product(c, s);
}

const char *vb_check_operand(vb_checker *c, const vb_segment *s, const vb_operand *o, int type) {
  if (vb_type_size(type) == 0) return "unknown element type";
  if (o->source >= VB_SRC_PRODUCT && vb_is_composite(o)) return check_composite(c, s, o, type);
  vb_view v = vb_operand_view(s, o, type);
  if (o->source >= 0) return check_view(c, &v, s->op == VB_OP_HASH);
  if (o->tag) return "a tag of an operand that does not use a source";
  if (o->source == VB_SRC_ZERO || o->source == VB_SRC_PREVIOUS) return NULL;
  if (o->source != VB_SRC_LITERAL) return "no such source";
  if (!vb_view_dense(&v)) return "a literal operand must be dense";
  return inside(&v, c->t->nliterals) ? NULL : "an operand lies outside its source";
}
