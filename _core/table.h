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
  VB_OP_DIFF = 6, /* no output: how a and b differ */
};

/* `compute` of a segment: a type, or "as stored" (vb.h, vb_arith_fn, on the operands as they are). */
enum { VB_AS_STORED = 255 };

/* Where an operand's elements come from, if not from the source of that index. */
enum {
  VB_SRC_LITERAL = -1,  /* the table's literal bytes */
  VB_SRC_ZERO = -2,     /* zeros */
  VB_SRC_PREVIOUS = -3, /* the result of the segment before, which then is not stored */
  VB_SRC_NONE = -4,
  VB_SRC_JOINED = -5,   /* parts side by side along the last dimension */
  VB_SRC_MEAN = -6,     /* every row is the mean of the rows of one part */
  VB_SRC_PRODUCT = -7,  /* scale times the product of two parts */
};

/* Bytes that the means and the right-hand factors of one chain may take in memory. */
enum { VB_FACTORS = 64 << 20 };

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

/* For an operand of parts, `tag` is their number, `offset` the index of the first one and, of PRODUCT,
 * stride[0] the bits of the scale. */
typedef struct vb_operand {
  int32_t source;
  uint32_t tag;              /* 0, or 1 + the index of the region that it reads */
  uint64_t offset;           /* bytes, of element (0, 0, 0, 0) */
  uint64_t stride[VB_RANK];  /* bytes */
} vb_operand;

/* One strided reading of a source: an operand's or a part's. */
typedef struct vb_view {
  uint32_t source, tag;     /* as an operand's */
  uint64_t offset;          /* bytes, of element (0, 0, 0, 0) */
  uint64_t stride[VB_RANK]; /* bytes */
  uint64_t dim[VB_RANK];    /* outermost first; unused ones are 1 */
  int type;
} vb_view;

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
  uint32_t nsources, ntensors, nsegments, nparts, nregions;
  uint64_t nliterals;
  const uint8_t *records; /* tensors, then segments, as serialized */
  const uint8_t *sources;
  const uint8_t *parts;   /* in the order of the operands that they make */
  const uint8_t *regions; /* walk regions by source, begin and end; then use regions by operand */
  const uint8_t *literals;
  uint64_t out_size;      /* bytes that the table writes */
  uint64_t work;          /* elements of its segments and parts; INT64_MAX for more */
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

/* Whether any segment is a DIFF. */
bool vb_table_compares(const vb_table *t);
vb_source vb_table_source(const vb_table *t, uint32_t i);
vb_segment vb_table_segment(const vb_table *t, uint32_t i);
vb_region vb_table_region(const vb_table *t, uint32_t i);
vb_view vb_table_part(const vb_table *t, uint32_t i);
/* Where in the literals the bytes are that start the digest of tensor i. */
uint64_t vb_table_prefix(const vb_table *t, uint32_t i, uint64_t *size);

/* Bytes of one element of a type; 0 for an unknown one, and for a block type. */
size_t vb_type_size(int type);
static inline bool vb_is_arith(int type) { return type >= 0 && type < VB_TYPES; }
/* Bytes that `count` results of a type are stored in; a block type takes whole blocks. */
uint64_t vb_stored_size(int type, uint64_t count);
static inline uint64_t vb_count(const uint64_t dim[VB_RANK]) { return dim[0] * dim[1] * dim[2] * dim[3]; }
/* Elements of a segment (vb_table_parse has made sure that it does not overflow). */
static inline uint64_t vb_segment_count(const vb_segment *s) { return vb_count(s->dim); }
/* Whether the operand is made of parts. */
static inline bool vb_is_composite(const vb_operand *o) { return o->source <= VB_SRC_JOINED; }
/* An operand of elements in a source, over the dimensions of its segment. */
vb_view vb_operand_view(const vb_segment *s, const vb_operand *o, int type);
/* Whether the elements lie densely, in C order. */
bool vb_view_dense(const vb_view *v);
/* Bytes from the first to the end of the last element (checked not to overflow). */
uint64_t vb_view_span(const vb_view *v);
/* Whether the span is so little more than the elements that it may be read as a whole. */
bool vb_view_compact(const vb_view *v);

#endif
