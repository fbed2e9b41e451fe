/* xor_avx2.c - exclusive or of bytes with AVX2 (contract: vb_xor_fn). */
#include "arith.h"

static void vb_xor_bytes_avx2(void *out, const void *a, const void *b, size_t nbytes) {
  uint8_t *o = out;
  const uint8_t *x = a, *y = b;
  size_t i = 0;
  for (; nbytes - i >= 32; i += 32) {
    const __m256i p = _mm256_loadu_si256((const __m256i_u *)(x + i));
    const __m256i q = _mm256_loadu_si256((const __m256i_u *)(y + i));
    _mm256_storeu_si256((__m256i_u *)(o + i), _mm256_xor_si256(p, q));
  }
  vb_xor_bytes_portable(o + i, x + i, y + i, nbytes - i);
}

void vb_xor_avx2(vb_kernels *k) { k->xor_bytes = vb_xor_bytes_avx2; }
