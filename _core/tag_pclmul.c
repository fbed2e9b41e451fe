/* tag_pclmul.c - tags with carry-less products of 64-bit words (PCLMULQDQ).
 *
 * - A product takes both halves of one register, so data and key need no shuffling.
 * - The second key is the first one moved on by a step, so what is loaded for y2 serves y1 one step
 *   later.
 * - The products are what bounds it (two for 16 bytes): 16 GB/s on Zen 5, from L1 to DRAM.
 * - Compiled with -mpclmul -mssse3 -msse4.1.
 */
#include <immintrin.h>

#include "tag.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

INLINE __m128i load(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
INLINE void store(void *p, __m128i v) { _mm_storeu_si128((__m128i *)p, v); }

/* The product of x's low word and y's, of x's high word and y's, and so on. */
#define LOW_LOW(x, y) _mm_clmulepi64_si128(x, y, 0x00)
#define HIGH_LOW(x, y) _mm_clmulepi64_si128(x, y, 0x01)
#define LOW_HIGH(x, y) _mm_clmulepi64_si128(x, y, 0x10)
#define HIGH_HIGH(x, y) _mm_clmulepi64_si128(x, y, 0x11)

static void tag_sum_pclmul(uint64_t sum[4], const uint8_t *key, const uint8_t *data,
                           size_t nsteps) {
  enum { WORDS = VB_TAG_STEP / 16 };
  __m128i y1 = load(sum);
  __m128i y2 = load(sum + 2);
  __m128i k[WORDS];
  UNROLL for (size_t i = 0; i < WORDS; i++) k[i] = load(key + 16 * i);
  for (; nsteps > 0; nsteps--) {
    key += VB_TAG_STEP;
    UNROLL for (size_t i = 0; i < WORDS; i++) {
      const __m128i m = load(data + 16 * i);
      const __m128i a = _mm_xor_si128(m, k[i]);
      k[i] = load(key + 16 * i);
      const __m128i b = _mm_xor_si128(m, k[i]);
      y1 = _mm_xor_si128(y1, HIGH_LOW(a, a));
      y2 = _mm_xor_si128(y2, HIGH_LOW(b, b));
    }
    data += VB_TAG_STEP;
  }
  store(sum, y1);
  store(sum + 2, y2);
}

/* Two products of 128 bits are added at their full length and reduced once. */
static void tag_fold_pclmul(uint64_t poly[2], const uint64_t sum[4], const uint8_t *key) {
  const __m128i z = load(poly);
  const __m128i r = load(key);
  const __m128i y = load(sum);
  const __m128i s = load(key + 16);
  const __m128i modulus = _mm_set_epi64x(0, 0x87); /* x^128 = x^7 + x^2 + x + 1 */
  __m128i middle = _mm_xor_si128(_mm_xor_si128(HIGH_LOW(z, r), LOW_HIGH(z, r)),
                                 _mm_xor_si128(HIGH_LOW(y, s), LOW_HIGH(y, s)));
  __m128i low = _mm_xor_si128(LOW_LOW(z, r), LOW_LOW(y, s));
  __m128i high = _mm_xor_si128(HIGH_HIGH(z, r), HIGH_HIGH(y, s));
  /* The topmost word comes down to words 1 and 2, then word 2 to words 0 and 1. */
  high = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
  low = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
  const __m128i top = HIGH_LOW(high, modulus);
  high = _mm_xor_si128(high, _mm_srli_si128(top, 8));
  low = _mm_xor_si128(low, _mm_slli_si128(top, 8));
  low = _mm_xor_si128(low, LOW_LOW(high, modulus));
  store(poly, _mm_xor_si128(low, load(sum + 2)));
}

void vb_tag_pclmul(vb_kernels *k) {
  k->tag_sum = tag_sum_pclmul;
  k->tag_fold = tag_fold_pclmul;
}
