/* xor_portable.c - exclusive or of bytes, portable C: the definition (contract: vb_xor_fn). */
#include "arith.h"

void vb_xor_bytes_portable(void *out, const void *a, const void *b, size_t nbytes) {
  enum { WORDS = 8 };
  uint8_t *o = out;
  const uint8_t *x = a, *y = b;
  size_t i = 0;
  for (; nbytes - i >= WORDS * 8; i += WORDS * 8) {
    uint64_t p[WORDS], q[WORDS]; /* local: out may be an operand and this still vectorises */
    memcpy(p, x + i, sizeof p);
    memcpy(q, y + i, sizeof q);
    for (int w = 0; w < WORDS; w++) p[w] ^= q[w];
    memcpy(o + i, p, sizeof p);
  }
  for (; i < nbytes; i++) o[i] = x[i] ^ y[i];
}

void vb_xor_portable(vb_kernels *k) { k->xor_bytes = vb_xor_bytes_portable; }
