/* xor_avx512.c - exclusive or of bytes with AVX-512 (contract: vb_xor_fn). */
#include "arith.h"

static void vb_xor_bytes_avx512(void *out, const void *a, const void *b, size_t nbytes) {
  uint8_t *o = out;
  const uint8_t *x = a, *y = b;
  size_t i = 0;
  for (; nbytes - i >= 64; i += 64) {
    const __m512i p = _mm512_loadu_si512(x + i), q = _mm512_loadu_si512(y + i);
    _mm512_storeu_si512(o + i, _mm512_xor_si512(p, q));
  }
  vb_xor_bytes_portable(o + i, x + i, y + i, nbytes - i);
}

void vb_xor_avx512(vb_kernels *k) { k->xor_bytes = vb_xor_bytes_avx512; }
