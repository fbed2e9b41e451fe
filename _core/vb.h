/* vb.h - the private header of the core: kernels, SHA-256 streams, dispatch.
 *
 * Rules that hold for every file here
 * - C11, no allocation in kernels, no Python.h, no global mutable state.
 * - One file per operation and instruction set; file and functions share the suffix. Portable C is
 *   always built, and is the definition: every other kernel gives the same bits. (Tags alone differ
 *   by level, because no tag outlives its run: tag.h.)
 * - Only dispatch.c asks which CPU this is.
 * - Data is little-endian in memory on every host (files are); portable code reads and writes it
 *   with the helpers below, so that a big-endian host gives the same bytes.
 */
#ifndef VB_H
#define VB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- element types that arithmetic and conversion are defined for ---- */
enum { VB_F16 = 0, VB_BF16 = 1, VB_F32 = 2, VB_F64 = 3, VB_TYPES = 4 };

static inline size_t vb_itemsize(int type) {
  return type == VB_F64 ? 8 : type == VB_F32 ? 4 : 2;
}

/* ---- block types of GGUF: 32 + ggml's number of the type; 32 elements become one block ---- */
enum { VB_BLOCK = 32 };
enum {
  VB_BLOCK_FIRST = 32,
  VB_Q4_0 = VB_BLOCK_FIRST + 2,
  VB_Q4_1 = VB_BLOCK_FIRST + 3,
  VB_Q5_0 = VB_BLOCK_FIRST + 6,
  VB_Q5_1 = VB_BLOCK_FIRST + 7,
  VB_Q8_0 = VB_BLOCK_FIRST + 8,
  VB_BLOCK_TYPES = 9, /* entries of a table by type - VB_BLOCK_FIRST, of which some are no type */
};

/* Bytes of a block; 0 if the type is no block type. */
static inline size_t vb_block_bytes(int type) {
  switch (type) {
    case VB_Q4_0: return 18;
    case VB_Q4_1: return 20;
    case VB_Q5_0: return 22;
    case VB_Q5_1: return 24;
    case VB_Q8_0: return 34;
    default: return 0;
  }
}

/* ---- CPU features; a set of them is an "ISA level" ---- */
enum {
  VB_CPU_SHANI = 1 << 0,   /* x86 SHA extensions (+ SSSE3, SSE4.1) */
  VB_CPU_AVX2 = 1 << 1,    /* AVX2 + F16C + FMA, with OS support for ymm */
  VB_CPU_AVX512 = 1 << 2,  /* AVX-512 F+BW+VL+DQ, with OS support for zmm and opmasks; implies AVX2 */
  VB_CPU_ARM_SHA2 = 1 << 3,
  VB_CPU_NEON = 1 << 4,
  VB_CPU_PCLMUL = 1 << 5,  /* PCLMULQDQ (+ SSSE3, SSE4.1) */
  VB_CPU_VPCLMUL = 1 << 6, /* VPCLMULQDQ on zmm registers, where AVX512 is; implies PCLMUL */
};

/* ---- arithmetic (numerics.md): add, sub, convert, xor ----
 *
 * vb_arith_fn: out[i] = a[i] (+ or -) b[i], for the pair (type of a, type of b); the result has the
 *   type of a. Both operands are widened exactly (f16 and bf16 to f32; everything to f64 if either is
 *   f64), the operation is rounded once in that type, and the result is rounded once, to nearest even,
 *   to the type of a. NaN results follow rule B (the delta is b).
 *   Returns the index of the first non-finite result, or n.
 * vb_convert_fn: out[i] = in[i] rounded to nearest even to the other type; a NaN is made quiet, keeps
 *   its sign and the leading bits of its payload (in bf16 every NaN that comes from another type is
 *   0x7FC0). Same type: a plain copy. Returns the index of the first finite element whose result is
 *   not finite, or n.
 * vb_xor_fn: out[i] = a[i] ^ b[i] over bytes.
 * All: n = 0 is allowed; no alignment is assumed; out may be an operand itself if its items have the
 *   size of the result's, and overlaps it in no other way.
 */
typedef size_t (*vb_arith_fn)(void *out, const void *a, const void *b, size_t n);
typedef size_t (*vb_convert_fn)(void *out, const void *in, size_t n);
typedef void (*vb_xor_fn)(void *out, const void *a, const void *b, size_t nbytes);

/* ---- low-rank products (numerics.md, "LoRA") ----
 * vb_product_fn: out[i][j] = scale * (left[i][0] * right[0][j] + left[i][1] * right[1][j] + ...), of
 *   f32 in C order: left is rows x rank, right is rank x cols, out is rows x cols. The sum starts at
 *   +0 and takes its terms in that order, each by a fused multiply-add that rounds once to nearest
 *   even; then comes one multiplication by scale. Subnormals are kept; every NaN result is
 *   0x7FC00000. Any size may be 0 or 1; no alignment is assumed; out overlaps neither operand.
 */
typedef void (*vb_product_fn)(void *out, const void *left, const void *right, size_t rows,
                              size_t rank, size_t cols, float scale);

/* ---- quantization to the block types: from f32, with the bits of the `gguf` package ----
 * vb_quantize_fn: blocks[b] = the block of in[32 b], ..., in[32 b + 31]. What gguf leaves to the
 *   machine is defined here:
 *   - of elements that are equal, the first is the largest or smallest (-0 before +0, or after it);
 *   - where a scale is infinite or so small that 1 / scale is, every quant is 0 (as on x86-64);
 *   - a block with an element that is not finite has the scale 0x7E00 (a NaN) and is 0 otherwise.
 *   Returns the index of the first element that is not finite, or that starts a block whose scale
 *   or minimum is beyond f16 (it is stored as infinity), or 32 * nblocks.
 *   No alignment is assumed; out and in do not overlap; nblocks = 0 is allowed.
 */
typedef size_t (*vb_quantize_fn)(void *out, const void *in, size_t nblocks);

/* ---- differences between two streams of elements ----
 * vb_difference: what is known of the elements so far; all zero at the start. Indices count from
 *   the start of the stream, and are those of the first element of which that is true.
 * vb_difference_fn: take in elements a[0] and b[0], ..., a[n - 1] and b[n - 1], where a[0] has the
 *   index `at`. Elements of which one is a NaN, and that differ, are `unordered` and have no
 *   distance; -0 and +0 differ but are 0 apart. Raw items have no distances at all.
 *   No alignment is assumed; n = 0 is allowed; a and b may be the same.
 */
typedef struct vb_difference {
  uint64_t count;         /* elements whose bits differ */
  uint64_t first;         /* the first of them, if any, */
  uint64_t first_bits[2]; /* and its bits in a and in b */
  uint64_t max_ulp;       /* the most steps from a value to the next between a[i] and b[i] */
  uint64_t max_ulp_at;    /* where, if max_ulp is not 0 */
  double max_abs;         /* the largest |a[i] - b[i]|, in f64 */
  uint64_t max_abs_at;    /* where, if max_abs is not 0 */
  uint64_t unordered;     /* elements whose bits differ and of which one is a NaN */
} vb_difference;
typedef void (*vb_difference_fn)(vb_difference *d, const void *a, const void *b, size_t n,
                                 uint64_t at);
enum { VB_RAW_SIZES = 4 };

/* ---- SHA-256: `lanes` independent states over equally many whole 64-byte blocks ----
 * compress[k] takes exactly k lanes (index 0 is unused); the lanes are interleaved in one thread.
 * wide, if not NULL, takes any number of lanes up to 16 at nearly the cost of 16.
 */
enum { VB_SHA_LANES = 4 };
typedef void (*vb_sha256_fn)(uint32_t *const state[], const uint8_t *const data[], size_t nblocks);
typedef void (*vb_sha256_wide_fn)(uint32_t *const state[], const uint8_t *const data[], size_t lanes,
                                  size_t nblocks);

/* ---- keyed tags (tag.h): no alignment is assumed, nothing overlaps ----
 * vb_tag_sum_fn: add nsteps steps of data to y1 (sum[0], sum[1]) and y2 (sum[2], sum[3]), low words
 *   first; key points at the first step's key and has one step more than the data. nsteps = 0 is
 *   allowed.
 * vb_tag_fold_fn: poly = poly * r + y1 * s + y2 in GF(2^128); key points at r and s.
 */
typedef void (*vb_tag_sum_fn)(uint64_t sum[4], const uint8_t *key, const uint8_t *data,
                              size_t nsteps);
typedef void (*vb_tag_fold_fn)(uint64_t poly[2], const uint64_t sum[4], const uint8_t *key);

/* The kernels in use. Filled by dispatch.c: portable first, then what the features allow on top. */
typedef struct vb_kernels {
  unsigned features;                       /* those asked for and present */
  vb_arith_fn add[VB_TYPES][VB_TYPES];     /* [type of a][type of b] */
  vb_arith_fn sub[VB_TYPES][VB_TYPES];
  vb_convert_fn convert[VB_TYPES][VB_TYPES]; /* [from][to] */
  vb_xor_fn xor_bytes;
  vb_product_fn product;
  vb_quantize_fn quantize[VB_BLOCK_TYPES]; /* [type - VB_BLOCK_FIRST]; NULL where there is no type */
  vb_difference_fn difference[VB_TYPES];
  vb_difference_fn difference_raw[VB_RAW_SIZES]; /* items of 1, 2, 4, 8 bytes */
  vb_sha256_fn sha256[VB_SHA_LANES + 1];   /* entries that are NULL fall back to fewer lanes */
  vb_sha256_wide_fn sha256_wide;
  size_t sha256_wide_from;                 /* lanes from which the wide form wins */
  vb_tag_sum_fn tag_sum;
  vb_tag_fold_fn tag_fold;
} vb_kernels;

/* Each fills in the entries that its file accelerates and leaves the others. */
void vb_add_portable(vb_kernels *k);
void vb_convert_portable(vb_kernels *k);
void vb_xor_portable(vb_kernels *k);
void vb_product_portable(vb_kernels *k);
void vb_quantize_portable(vb_kernels *k);
void vb_difference_portable(vb_kernels *k);
void vb_sha256_portable(vb_kernels *k);
void vb_tag_portable(vb_kernels *k);
void vb_add_avx2(vb_kernels *k);
void vb_convert_avx2(vb_kernels *k);
void vb_xor_avx2(vb_kernels *k);
void vb_product_avx2(vb_kernels *k);
void vb_quantize_avx2(vb_kernels *k);
void vb_difference_avx2(vb_kernels *k);
void vb_add_avx512(vb_kernels *k);
void vb_convert_avx512(vb_kernels *k);
void vb_xor_avx512(vb_kernels *k);
void vb_product_avx512(vb_kernels *k);
void vb_quantize_avx512(vb_kernels *k);
void vb_difference_avx512(vb_kernels *k);
void vb_sha256_shani(vb_kernels *k);
void vb_sha256_avx512(vb_kernels *k);
void vb_tag_pclmul(vb_kernels *k);
void vb_tag_vpclmul(vb_kernels *k);
void vb_add_neon(vb_kernels *k);
void vb_convert_neon(vb_kernels *k);
void vb_product_neon(vb_kernels *k);
void vb_difference_neon(vb_kernels *k);
void vb_sha256_armv8(vb_kernels *k);

/* ---- dispatch ---- */
/* What this CPU and operating system can run. */
unsigned vb_cpu_features(void);
/* Parse an ISA level: "native", "portable", or names of features joined by commas ("avx2,shani";
 * the names are those above in lower case without prefix, ARM's is "arm-sha2"). Returns false for an
 * unknown name or a feature that this CPU lacks, and then points *bad at the name's start. */
bool vb_isa_parse(const char *text, unsigned *features, const char **bad);
/* Fill *k for a set of features (all of which the CPU must have). */
void vb_kernels_init(vb_kernels *k, unsigned features);
/* The name of the single feature `bit`, or NULL. */
const char *vb_feature_name(unsigned bit);

/* ---- SHA-256 streams ---- */
typedef struct vb_sha256 {
  uint32_t h[8];
  uint64_t length; /* bytes so far */
  uint8_t carry[64];
} vb_sha256;

typedef struct vb_sha256_job {
  vb_sha256 *stream; /* distinct in one call */
  const uint8_t *data;
  size_t size;
} vb_sha256_job;

void vb_sha256_init(vb_sha256 *s);
/* Feed every job's data to its stream, as many lanes at a time as the kernels offer. The array is
 * consumed (data and size change). n = 0, size = 0 and streams at different carries are allowed. */
void vb_sha256_update(const vb_kernels *k, vb_sha256_job *jobs, size_t n);
/* Pad and write the digest; the stream must be initialised again before further use. */
void vb_sha256_final(const vb_kernels *k, vb_sha256 *s, uint8_t digest[32]);

/* ---- little-endian access, any alignment ---- */
static inline uint16_t vb_load16(const void *p) {
  const uint8_t *b = p;
  return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t vb_load32(const void *p) {
  const uint8_t *b = p;
  return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t vb_load64(const void *p) {
  return (uint64_t)vb_load32(p) | (uint64_t)vb_load32((const uint8_t *)p + 4) << 32;
}
static inline void vb_store16(void *p, uint16_t v) {
  uint8_t *b = p;
  b[0] = (uint8_t)v;
  b[1] = (uint8_t)(v >> 8);
}
static inline void vb_store32(void *p, uint32_t v) {
  vb_store16(p, (uint16_t)v);
  vb_store16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}
static inline void vb_store64(void *p, uint64_t v) {
  vb_store32(p, (uint32_t)v);
  vb_store32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

#endif
