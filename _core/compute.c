/* compute.c - lowering a segment's operation to kernels.
 *
 * Where operands or result change type, the work is done in tiles that stay in the first-level cache.
 */
#include "compute.h"

#include <string.h>

enum { TILE = 1024 };

static size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/* One tile of arithmetic whose operands or result need a conversion. */
static size_t tile(const vb_kernels *k, const vb_segment *s, void *out, const void *a, const void *b,
                   size_t n) {
  _Alignas(64) uint8_t ta[TILE * 8], tb[TILE * 8], result[TILE * 8];
  int a_type = s->a_type, b_type = s->b_type;
  if (s->compute != VB_AS_STORED) {
    /* An overflow here makes the result non-finite, which the kernel below reports. */
    if (a_type != s->compute) {
      k->convert[a_type][s->compute](ta, a, n);
      a = ta;
    }
    if (b_type != s->compute) {
      k->convert[b_type][s->compute](tb, b, n);
      b = tb;
    }
    a_type = b_type = s->compute;
  }
  vb_arith_fn f = s->op == VB_OP_ADD ? k->add[a_type][b_type] : k->sub[a_type][b_type];
  if (a_type == s->out_type) return f(out, a, b, n);
  size_t bad = f(result, a, b, n);
  return min_size(bad, k->convert[a_type][s->out_type](out, result, n));
}

/* Blocks of a block type, by way of f32. */
static size_t quantize(const vb_kernels *k, const vb_segment *s, uint8_t *out, const uint8_t *a,
                       size_t n) {
  _Alignas(64) uint8_t values[TILE * 4];
  vb_quantize_fn f = k->quantize[s->out_type - VB_BLOCK_FIRST];
  if (s->a_type == VB_F32) return f(out, a, n / VB_BLOCK);
  size_t as = vb_type_size(s->a_type), first = n;
  for (size_t i = 0; i < n; i += TILE) {
    size_t m = min_size(TILE, n - i);
    k->convert[s->a_type][VB_F32](values, a + i * as, m);
    size_t bad = f(out + vb_stored_size(s->out_type, i), values, m / VB_BLOCK);
    if (bad < m && first == n) first = i + bad;
  }
  return first;
}

size_t vb_compute(const vb_kernels *k, const vb_segment *s, void *out, const void *a, const void *b,
                  size_t n) {
  size_t as = vb_type_size(s->a_type), os = vb_type_size(s->out_type);
  switch (s->op) {
    case VB_OP_COPY:
      if (vb_block_bytes(s->out_type)) return quantize(k, s, out, a, n);
      if (s->a_type != s->out_type) return k->convert[s->a_type][s->out_type](out, a, n);
      memcpy(out, a, n * as);
      return n;
    case VB_OP_XOR: k->xor_bytes(out, a, b, n * as); return n;
    default: break;
  }
  bool direct = s->a_type == s->out_type && (s->compute == VB_AS_STORED ||
                                             (s->a_type == s->compute && s->b_type == s->compute));
  if (direct)
    return (s->op == VB_OP_ADD ? k->add : k->sub)[s->a_type][s->b_type](out, a, b, n);
  size_t bs = vb_type_size(s->b_type), first = n;
  for (size_t i = 0; i < n; i += TILE) {
    size_t m = min_size(TILE, n - i);
    size_t bad = tile(k, s, (uint8_t *)out + i * os, (const uint8_t *)a + i * as,
                      (const uint8_t *)b + i * bs, m);
    if (bad < m && first == n) first = i + bad;
  }
  return first;
}

vb_difference_fn vb_difference_of(const vb_kernels *k, int type) {
  return vb_is_arith(type) ? k->difference[type] : k->difference_raw[type - VB_RAW1];
}

size_t vb_first_nonfinite(const uint8_t *data, size_t n) {
  size_t i = 0;
  while (i < n && (vb_load32(data + 4 * i) & 0x7F800000) != 0x7F800000) i++;
  return i;
}
