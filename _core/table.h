/* table.h - the program of the segment machine, as bytes and as structs.
 *
 * A table describes how one output stream is made from several sources. The serialized form is
 * documented in docs/reference/table-format.md; vb_table_parse is its only reader and checks all of
 * it, so that the machine may trust what it runs. Nothing here knows names of files or tensors.
 */
#ifndef VB_TABLE_H
#define VB_TABLE_H

#include "vb.h"

enum { VB_RANK = 4 };
/* The longest run of segments of which each goes on from the one before. */
enum { VB_CHAIN = 64 };

/* Element types beyond the arithmetic ones: opaque items of 1, 2, 4 or 8 bytes. */
enum { VB_RAW1 = 16, VB_RAW2 = 17, VB_RAW4 = 18, VB_RAW8 = 19 };

enum {
  VB_OP_COPY = 1, /* out = a, converted if the types differ */
  VB_OP_ADD = 2,  /* out = a + b */
  VB_OP_SUB = 3,  /* out = a - b */
  VB_OP_XOR = 4,  /* out = a ^ b */
  VB_OP_HASH = 5, /* no output: bytes of a that only the hash of its source needs */
};

/* `compute` of a segment: a type, or "as stored" (vb.h, vb_arith_fn, on the operands as they are). */
enum { VB_AS_STORED = 255 };

/* Where an operand's elements come from, if not from the source of that index. */
enum {
  VB_SRC_LITERAL = -1,  /* the table's literal bytes */
  VB_SRC_ZERO = -2,     /* zeros */
  VB_SRC_PREVIOUS = -3, /* the result of the segment before, which then is not stored */
  VB_SRC_NONE = -4,
};

/* How a source gets its SHA-256. */
enum {
  VB_SOURCE_PLAIN = 0,   /* not here */
  VB_SOURCE_ORDERED = 1, /* its segments read it whole and in order: hashed as it is used */
  VB_SOURCE_WALKED = 2,  /* its HASH segments cover it whole and in order: a cursor of its own reads it */
};

/* What a region's keyed tag is taken over (tag.h). */
enum {
  VB_REGION_WALK = 1, /* the bytes of a WALKED source as its cursor hashes them */
  VB_REGION_USE = 2,  /* the bytes as one operand reads and uses them */
};

enum { VB_TABLE_ALLOW_NONFINITE = 1 };

typedef struct vb_operand {
  int32_t source;
  uint32_t tag;              /* 0, or 1 + the index of the region that it reads */
  uint64_t offset;           /* bytes, of element (0, 0, 0, 0) */
  uint64_t stride[VB_RANK];  /* bytes */
} vb_operand;

typedef struct vb_segment {
  uint8_t op, a_type, b_type, compute, out_type;
  uint32_t tensor;           /* index into tensors, or UINT32_MAX */
  uint64_t dim[VB_RANK];     /* outermost first; unused ones are 1 */
  vb_operand a, b;
} vb_segment;

typedef struct vb_source {
  uint32_t mode;
  uint64_t size;
} vb_source;

typedef struct vb_region {
  uint32_t source, kind;
  uint64_t begin, end; /* bytes of the source */
} vb_region;

typedef struct vb_table {
  uint32_t flags;
  uint32_t nsources, ntensors, nsegments, nregions;
  uint64_t nliterals;
  const uint8_t *records; /* tensors, then segments, as serialized */
  const uint8_t *sources;
  const uint8_t *regions; /* walk regions by source, begin and end; then use regions by operand */
  const uint8_t *literals;
  uint64_t out_size;      /* bytes that the table writes */
} vb_table;

/* What is wrong with a table: a static text and the segment (or UINT32_MAX). */
typedef struct vb_table_error {
  const char *what;
  uint32_t segment;
} vb_table_error;

/* Parse and check `size` bytes, which must outlive *t. `scratch` has room for one uint64_t per source.
 * Returns false and fills in *e if anything is not as it should be. */
bool vb_table_parse(vb_table *t, const uint8_t *data, size_t size, uint64_t *scratch,
                    vb_table_error *e);
/* How many sources a table of these bytes claims to have (0 if it is too short): for `scratch`. */
uint32_t vb_table_nsources(const uint8_t *data, size_t size);

vb_source vb_table_source(const vb_table *t, uint32_t i);
vb_segment vb_table_segment(const vb_table *t, uint32_t i);
vb_region vb_table_region(const vb_table *t, uint32_t i);
/* The literal bytes that start the digest of tensor i. */
const uint8_t *vb_table_prefix(const vb_table *t, uint32_t i, uint64_t *size);

/* Bytes of one element of a type; 0 for an unknown one. */
size_t vb_type_size(int type);
/* Elements of a segment (vb_table_parse has made sure that it does not overflow). */
static inline uint64_t vb_segment_count(const vb_segment *s) {
  return s->dim[0] * s->dim[1] * s->dim[2] * s->dim[3];
}
/* Whether the operand's elements lie densely, in C order. */
bool vb_operand_dense(const vb_segment *s, const vb_operand *o, size_t itemsize);

#endif
