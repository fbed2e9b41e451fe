/* tag_vpclmul.c - tags with four carry-less products an instruction (VPCLMULQDQ on zmm registers).
 *
 * - The same function as tag_pclmul.c: sums of products do not depend on their order, so a lane
 *   takes every fourth pair and the lanes are added at the end. The polynomial, once per 4 KiB,
 *   stays with tag_pclmul.c.
 * - A step is one register; the key of y2 is the next step's key of y1 and stays in a register.
 * - The products are what bounds it: 62 GB/s on Zen 5 in L2, four times PCLMULQDQ, where memcpy
 *   moves 130; 35 from DRAM, where memcpy moves 24.
 * - Compiled with -mavx512f -mvpclmulqdq.
 */
#include <immintrin.h>

#include "tag.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

INLINE __m512i load(const uint8_t *p) { return _mm512_loadu_si512(p); }

/* The product of the two words of each lane of m + k. */
INLINE __m512i product(__m512i m, __m512i k) {
  const __m512i x = _mm512_xor_si512(m, k);
  return _mm512_clmulepi64_epi128(x, x, 0x01);
}

/* *sum += the four lanes of v. */
INLINE void add_lanes(uint64_t sum[2], __m512i v) {
  __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  __m128i all = _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  all = _mm_xor_si128(all, _mm_loadu_si128((const __m128i *)sum));
  _mm_storeu_si128((__m128i *)sum, all);
}

static void tag_sum_vpclmul(uint64_t sum[4], const uint8_t *key, const uint8_t *data,
                            size_t nsteps) {
  enum { UNROLLED = 4 };
  __m512i y1 = _mm512_setzero_si512();
  __m512i y2 = _mm512_setzero_si512();
  __m512i k = load(key);
  for (; nsteps >= UNROLLED; nsteps -= UNROLLED) {
    UNROLL for (size_t i = 0; i < UNROLLED; i++) {
      const __m512i m = load(data + i * VB_TAG_STEP);
      y1 = _mm512_xor_si512(y1, product(m, k));
      k = load(key + (i + 1) * VB_TAG_STEP);
      y2 = _mm512_xor_si512(y2, product(m, k));
    }
    data += UNROLLED * VB_TAG_STEP;
    key += UNROLLED * VB_TAG_STEP;
  }
  for (; nsteps > 0; nsteps--) {
    const __m512i m = load(data);
    y1 = _mm512_xor_si512(y1, product(m, k));
    k = load(key + VB_TAG_STEP);
    y2 = _mm512_xor_si512(y2, product(m, k));
    data += VB_TAG_STEP;
    key += VB_TAG_STEP;
  }
  add_lanes(sum, y1);
  add_lanes(sum + 2, y2);
}

void vb_tag_vpclmul(vb_kernels *k) { k->tag_sum = tag_sum_vpclmul; }
