/* vbkernels.c - vbkernels VECTORS RESULTS
 *
 * Calls kernels with given operands and writes what they return, for whoever made the vectors to
 * compare. Both files are little-endian, one vector after the other.
 *
 * A vector: operation, type of a, type of b (conversions: of the result), INTO, bytes by which the
 * buffers are out of line, ENVIRONMENT (u32 each), count, piece (u64 each); then the operands.
 * - add, sub: count elements of a, then of b. Convert: of a. XOR: count bytes of a, then of b.
 * - SHA-256: count sizes (u64), then the messages, fed side by side and `piece` bytes at a time
 *   (0: at once).
 * - Product: rank, columns (u64 each), scale (u32); then count rows of the left factor, and the right
 *   one.
 * - Mean: columns (u64), then count rows, taken in `piece` elements at a time (0: at once).
 * - Quantize: count blocks of f32, to the block type that stands for the type of a.
 * - Difference: count elements of a, then of b, `piece` at a time (0: at once); types from VB_RAW1 on
 *   are opaque items.
 *
 * A result: the index that the kernel returns (u64; count where it returns none), then the elements,
 * bytes, digests, blocks, or the fields of vb_difference (8 bytes each). It is also checked here that
 * a kernel leaves the caller's environment alone.
 */
#include <errno.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mean.h"
#include "program.h"
#include "table.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

enum {
  OP_ADD = 1,
  OP_SUB,
  OP_CONVERT,
  OP_XOR,
  OP_SHA256,
  OP_PRODUCT,
  OP_MEAN,
  OP_QUANTIZE,
  OP_DIFFERENCE,
};
enum { INTO_NEW = 0, INTO_A = 1, INTO_B = 2 };
enum { ENV_DEFAULT = 0, ENV_UPWARD = 1, ENV_FLUSH = 2 };

typedef struct vector {
  uint32_t op, a_type, b_type, into, shift, environment;
  uint64_t count, piece;
} vector;

/* ---- the floating-point environment ---- */

#if defined(__SSE2__)
static uint64_t control_word(void) { return _mm_getcsr(); }
static void set_control_word(uint64_t word) { _mm_setcsr((unsigned)word); }
enum { FLUSH_TO_ZERO = 0x8040 }; /* FTZ and DAZ */
#elif defined(__aarch64__)
static uint64_t control_word(void) {
  uint64_t word;
  __asm__ volatile("mrs %0, fpcr" : "=r"(word));
  return word;
}
static void set_control_word(uint64_t word) {
  __asm__ volatile("msr fpcr, %0" ::"r"(word) : "memory");
}
enum { FLUSH_TO_ZERO = 1 << 24 | 1 << 19 }; /* FZ and FZ16 (which not every CPU has) */
#else
static uint64_t control_word(void) { return (uint64_t)fegetround(); }
static void set_control_word(uint64_t word) { fesetround((int)word); }
enum { FLUSH_TO_ZERO = 0 }; /* this architecture always keeps subnormals */
#endif

typedef struct environment {
  uint64_t before, inside;
} environment;

static environment enter(uint32_t which) {
  environment e = {.before = control_word()};
  if (which == ENV_UPWARD && fesetround(FE_UPWARD) != 0) vb_die("cannot round upward");
  if (which == ENV_FLUSH) set_control_word(e.before | FLUSH_TO_ZERO);
  e.inside = control_word();
  return e;
}

static void leave(environment e) {
  bool kept = control_word() == e.inside;
  fesetround(FE_TONEAREST);
  set_control_word(e.before);
  if (!kept) vb_die("a kernel has changed the floating-point environment");
}

/* ---- kernels ---- */

/* Memory of its exact size, `shift` bytes out of line; free(p - shift). */
static uint8_t *shifted(uint32_t shift, size_t size) {
  return (uint8_t *)vb_allocate(size + shift) + shift;
}

static uint8_t *copy_of(const uint8_t *data, uint32_t shift, size_t size) {
  return memcpy(shifted(shift, size), data, size);
}

static size_t call(const vb_kernels *k, const vector *v, void *out, const void *a, const void *b) {
  size_t n = (size_t)v->count;
  switch (v->op) {
    case OP_ADD: return k->add[v->a_type][v->b_type](out, a, b, n);
    case OP_SUB: return k->sub[v->a_type][v->b_type](out, a, b, n);
    case OP_CONVERT: return k->convert[v->a_type][v->b_type](out, a, n);
    default: k->xor_bytes(out, a, b, n); return n;
  }
}

static void put(FILE *results, const void *data, size_t size) {
  if (fwrite(data, 1, size, results) != size) vb_die("cannot write: %s", strerror(errno));
}

static void put64(FILE *results, uint64_t value) {
  uint8_t bytes[8];
  vb_store64(bytes, value);
  put(results, bytes, sizeof bytes);
}

static void elements(const vb_kernels *k, const vector *v, vb_reader *r, FILE *results) {
  bool raw = v->op == OP_XOR;
  if (!raw && (v->a_type >= VB_TYPES || v->b_type >= VB_TYPES)) vb_die("no such type");
  size_t as = raw ? 1 : vb_itemsize((int)v->a_type), bs = raw ? 1 : vb_itemsize((int)v->b_type);
  size_t n = (size_t)v->count, out_size = n * (v->op == OP_CONVERT ? bs : as);
  uint8_t *a = copy_of(vb_take(r, n * as), v->shift, n * as);
  size_t b_size = v->op == OP_CONVERT ? 0 : n * bs;
  uint8_t *b = copy_of(vb_take(r, b_size), v->shift, b_size);
  uint8_t *fresh = shifted(v->shift, out_size);
  uint8_t *out = v->into == INTO_A ? a : v->into == INTO_B ? b : fresh;
  environment e = enter(v->environment);
  size_t index = call(k, v, out, a, b);
  leave(e);
  put64(results, index);
  put(results, out, out_size);
  free(fresh - v->shift);
  free(b - v->shift);
  free(a - v->shift);
}

/* ---- SHA-256 ---- */

/* Feed every message's next piece; whether anything was left. */
static bool feed(const vb_kernels *k, const vector *v, vb_sha256 *streams, vb_bytes *left,
                 vb_sha256_job *jobs) {
  bool more = false;
  for (size_t i = 0; i < v->count; i++) {
    size_t size = v->piece && v->piece < left[i].size ? (size_t)v->piece : left[i].size;
    jobs[i] = (vb_sha256_job){.stream = &streams[i], .data = left[i].data, .size = size};
    left[i].data += size;
    left[i].size -= size;
    more |= size > 0;
  }
  vb_sha256_update(k, jobs, (size_t)v->count);
  return more;
}

static void messages(const vb_kernels *k, const vector *v, vb_reader *r, FILE *results) {
  size_t n = (size_t)v->count;
  const uint8_t *sizes = vb_take(r, 8 * v->count);
  uint8_t **owned = vb_allocate(n * sizeof *owned);
  vb_bytes *left = vb_allocate(n * sizeof *left);
  vb_sha256 *streams = vb_allocate(n * sizeof *streams);
  vb_sha256_job *jobs = vb_allocate(n * sizeof *jobs);
  for (size_t i = 0; i < n; i++) {
    size_t size = (size_t)vb_load64(sizes + 8 * i);
    owned[i] = copy_of(vb_take(r, size), v->shift, size);
    left[i] = (vb_bytes){.data = owned[i], .size = size};
    vb_sha256_init(&streams[i]);
  }
  while (feed(k, v, streams, left, jobs)) continue;
  put64(results, v->count);
  for (size_t i = 0; i < n; i++) {
    uint8_t digest[32];
    vb_sha256_final(k, &streams[i], digest);
    put(results, digest, sizeof digest);
    free(owned[i] - v->shift);
  }
  free(jobs);
  free(streams);
  free(left);
  free(owned);
}

/* ---- products, means, blocks, differences ---- */

static void product(const vb_kernels *k, const vector *v, vb_reader *r, FILE *results) {
  size_t rows = (size_t)v->count, rank = (size_t)vb_take64(r), cols = (size_t)vb_take64(r);
  uint32_t bits = vb_take32(r);
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  uint8_t *left = copy_of(vb_take(r, 4 * rows * rank), v->shift, 4 * rows * rank);
  uint8_t *right = copy_of(vb_take(r, 4 * rank * cols), v->shift, 4 * rank * cols);
  uint8_t *out = shifted(v->shift, 4 * rows * cols);
  environment e = enter(v->environment);
  k->product(out, left, right, rows, rank, cols, scale);
  leave(e);
  put64(results, v->count);
  put(results, out, 4 * rows * cols);
  free(out - v->shift);
  free(right - v->shift);
  free(left - v->shift);
}

/* How many elements come next, of n of which `at` are done. */
static size_t piece_of(const vector *v, size_t n, size_t at) {
  return v->piece && v->piece < n - at ? (size_t)v->piece : n - at;
}

static void mean(const vector *v, vb_reader *r, FILE *results) {
  size_t cols = (size_t)vb_take64(r), n = (size_t)v->count * cols;
  uint8_t *data = copy_of(vb_take(r, 4 * n), v->shift, 4 * n);
  uint8_t *out = shifted(v->shift, 4 * cols);
  void *memory = vb_allocate(vb_mean_memory(cols));
  vb_mean m;
  environment e = enter(v->environment);
  vb_mean_init(&m, memory, v->count, cols);
  for (size_t at = 0, take; at < n; at += take) {
    take = piece_of(v, n, at);
    vb_mean_add(&m, data + 4 * at, take);
  }
  vb_mean_final(&m, out);
  leave(e);
  put64(results, v->count);
  put(results, out, 4 * cols);
  free(memory);
  free(out - v->shift);
  free(data - v->shift);
}

static void quantize(const vb_kernels *k, const vector *v, vb_reader *r, FILE *results) {
  size_t n = (size_t)v->count, block = vb_block_bytes((int)v->a_type);
  if (block == 0) vb_die("no such block type");
  uint8_t *in = copy_of(vb_take(r, 4 * VB_BLOCK * n), v->shift, 4 * VB_BLOCK * n);
  uint8_t *out = shifted(v->shift, n * block);
  environment e = enter(v->environment);
  size_t index = k->quantize[v->a_type - VB_BLOCK_FIRST](out, in, n);
  leave(e);
  put64(results, index);
  put(results, out, n * block);
  free(out - v->shift);
  free(in - v->shift);
}

static void put_difference(FILE *results, const vb_difference *d) {
  uint64_t max_abs;
  memcpy(&max_abs, &d->max_abs, sizeof max_abs);
  const uint64_t fields[] = {d->count,   d->first,      d->first_bits[0],
                             d->first_bits[1], d->max_ulp, d->max_ulp_at,
                             max_abs,    d->max_abs_at, d->unordered};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) put64(results, fields[i]);
}

static void difference(const vb_kernels *k, const vector *v, vb_reader *r, FILE *results) {
  size_t n = (size_t)v->count, size = vb_type_size((int)v->a_type);
  if (v->a_type > VB_RAW8 || size == 0) vb_die("no such type");
  vb_difference_fn f = v->a_type < VB_TYPES ? k->difference[v->a_type]
                                            : k->difference_raw[v->a_type - VB_RAW1];
  uint8_t *a = copy_of(vb_take(r, n * size), v->shift, n * size);
  uint8_t *b = copy_of(vb_take(r, n * size), v->shift, n * size);
  vb_difference d = {0};
  environment e = enter(v->environment);
  for (size_t at = 0, take; at < n; at += take) {
    take = piece_of(v, n, at);
    f(&d, a + at * size, b + at * size, take, at);
  }
  leave(e);
  put64(results, v->count);
  put_difference(results, &d);
  free(b - v->shift);
  free(a - v->shift);
}

/* ---- vectors ---- */

static void run(const vb_kernels *k, const vector *v, vb_reader *r, FILE *results) {
  switch (v->op) {
    case OP_ADD:
    case OP_SUB:
    case OP_CONVERT:
    case OP_XOR: elements(k, v, r, results); break;
    case OP_SHA256: messages(k, v, r, results); break;
    case OP_PRODUCT: product(k, v, r, results); break;
    case OP_MEAN: mean(v, r, results); break;
    case OP_QUANTIZE: quantize(k, v, r, results); break;
    case OP_DIFFERENCE: difference(k, v, r, results); break;
    default: vb_die("no such operation");
  }
}

static vector take_vector(vb_reader *r) {
  vector v;
  v.op = vb_take32(r);
  v.a_type = vb_take32(r);
  v.b_type = vb_take32(r);
  v.into = vb_take32(r);
  v.shift = vb_take32(r);
  v.environment = vb_take32(r);
  v.count = vb_take64(r);
  v.piece = vb_take64(r);
  return v;
}

int main(int argc, char **argv) {
  if (argc != 3) vb_die("usage: vbkernels VECTORS RESULTS");
  const vb_kernels k = vb_chosen_kernels();
  vb_bytes vectors = vb_read_file(argv[1]);
  FILE *results = fopen(argv[2], "wb");
  if (!results) vb_die("%s: %s", argv[2], strerror(errno));
  vb_reader r = {.at = vectors.data, .end = vectors.data + vectors.size};
  while (r.at < r.end) {
    vector v = take_vector(&r);
    run(&k, &v, &r, results);
  }
  if (fclose(results) != 0) vb_die("%s: %s", argv[2], strerror(errno));
  free(vectors.data);
  return 0;
}
