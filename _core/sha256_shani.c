/* sha256_shani.c - SHA-256 with the x86 SHA extensions, one to four lanes interleaved.
 *
 * - SHA256RNDS2 has a latency of several cycles and one stream is a single chain of them, so
 *   independent streams in one thread fill the gaps: 2, 3 and 4 lanes give 1.70, 1.74 and 1.77
 *   times one lane on Zen 5, and one lane equals OpenSSL.
 * - Every lane count is the same inlined function with a constant number of lanes; all loops over
 *   lanes and rounds unroll, and the arrays become registers.
 * - Compiled with -msha -mssse3 -msse4.1.
 */
#include <immintrin.h>

#include "sha256_constants.h"
#include "vb.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* The instructions want the state as (A, B, E, F) and (C, D, G, H), highest word first. */
INLINE void load_state(const uint32_t h[8], __m128i *abef, __m128i *cdgh) {
  __m128i dcba = _mm_loadu_si128((const __m128i *)h);
  __m128i hgfe = _mm_loadu_si128((const __m128i *)(h + 4));
  __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1);
  __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1B);
  *abef = _mm_alignr_epi8(cdab, efgh, 8);
  *cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
}

INLINE void store_state(uint32_t h[8], __m128i abef, __m128i cdgh) {
  __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
  __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}

INLINE __m128i load_words(const uint8_t *p) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), swap);
}

/* Rounds 4g to 4g+3 of one lane, then the schedule words of group g+1. The empty statement keeps
 * the compiler's scheduler from moving instructions across it: with two lanes that order alone is
 * worth 1.70 instead of 1.46 times one lane (gcc 12, Zen 5). */
INLINE void group(const unsigned g, const uint8_t *block, __m128i m[4], __m128i *abef,
                  __m128i *cdgh) {
  __m128i *w = &m[g & 3];
  __m128i *next = &m[(g + 1) & 3];
  if (g < 4) *w = load_words(block + 16 * g);
  __m128i wk = _mm_add_epi32(*w, _mm_load_si128((const __m128i *)(vb_sha256_k + 4 * g)));
  *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, wk);
  __asm__ volatile("");
  *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(wk, 0x0E));
  if (g < 3 || g == 15) return;
  __m128i seven_back = _mm_alignr_epi8(*w, m[(g + 3) & 3], 4);
  __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(*next, m[(g + 2) & 3]), seven_back);
  *next = _mm_sha256msg2_epu32(sum, *w);
}

/* No alignment is assumed; nblocks = 0 is allowed; states and data do not overlap. */
INLINE void compress(const size_t lanes, uint32_t *const state[], const uint8_t *const data[],
                     size_t nblocks) {
  const uint8_t *p[VB_SHA_LANES];
  __m128i abef[VB_SHA_LANES];
  __m128i cdgh[VB_SHA_LANES];
  UNROLL for (size_t l = 0; l < lanes; l++) {
    p[l] = data[l];
    load_state(state[l], &abef[l], &cdgh[l]);
  }
  for (size_t b = 0; b < nblocks; b++) {
    __m128i abef0[VB_SHA_LANES];
    __m128i cdgh0[VB_SHA_LANES];
    __m128i m[VB_SHA_LANES][4];
    UNROLL for (size_t l = 0; l < lanes; l++) {
      abef0[l] = abef[l];
      cdgh0[l] = cdgh[l];
    }
    UNROLL for (unsigned g = 0; g < 16; g++)
      UNROLL for (size_t l = 0; l < lanes; l++) group(g, p[l], m[l], &abef[l], &cdgh[l]);
    UNROLL for (size_t l = 0; l < lanes; l++) {
      abef[l] = _mm_add_epi32(abef[l], abef0[l]);
      cdgh[l] = _mm_add_epi32(cdgh[l], cdgh0[l]);
      p[l] += 64;
    }
  }
  UNROLL for (size_t l = 0; l < lanes; l++) store_state(state[l], abef[l], cdgh[l]);
}

static void sha256_x1_shani(uint32_t *const state[], const uint8_t *const data[], size_t nblocks) {
  compress(1, state, data, nblocks);
}

static void sha256_x2_shani(uint32_t *const state[], const uint8_t *const data[], size_t nblocks) {
  compress(2, state, data, nblocks);
}

static void sha256_x3_shani(uint32_t *const state[], const uint8_t *const data[], size_t nblocks) {
  compress(3, state, data, nblocks);
}

static void sha256_x4_shani(uint32_t *const state[], const uint8_t *const data[], size_t nblocks) {
  compress(4, state, data, nblocks);
}

void vb_sha256_shani(vb_kernels *k) {
  k->sha256[1] = sha256_x1_shani;
  k->sha256[2] = sha256_x2_shani;
  k->sha256[3] = sha256_x3_shani;
  k->sha256[4] = sha256_x4_shani;
}
