/* sha256_avx512.c - SHA-256 over sixteen lanes, one 32-bit element of a zmm register per lane.
 *
 * - The states are transposed: register i holds word i of all lanes. A block of every lane is read
 *   as a 16 x 16 matrix of words and transposed in registers.
 * - Fewer than 16 lanes cost as much as 16: a missing lane repeats lane 0 and its state is dropped.
 * - Measured from caches on Zen 5: 16 live lanes give 2.35 times one SHA-NI lane, 13 give 1.92, and
 *   12 as much as SHA-NI interleaved (1.77). So it pays from 13 lanes beside SHA-NI, and without
 *   SHA-NI from two.
 * - Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq.
 */
#include <immintrin.h>

#include "sha256_constants.h"
#include "vb.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

enum { LANES = 16, WIDE_FROM_BESIDE_SHANI = 13, WIDE_FROM_ALONE = 2 };

/* The third operand of VPTERNLOGD is the truth table of a function of three bits. */
#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CH(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xCA)
#define MAJ(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xE8)
#define ROTR(x, n) _mm512_ror_epi32(x, n)
#define SHR(x, n) _mm512_srli_epi32(x, n)
#define ADD(x, y) _mm512_add_epi32(x, y)

INLINE __m512i big_sigma0(__m512i x) { return XOR3(ROTR(x, 2), ROTR(x, 13), ROTR(x, 22)); }
INLINE __m512i big_sigma1(__m512i x) { return XOR3(ROTR(x, 6), ROTR(x, 11), ROTR(x, 25)); }
INLINE __m512i sigma0(__m512i x) { return XOR3(ROTR(x, 7), ROTR(x, 18), SHR(x, 3)); }
INLINE __m512i sigma1(__m512i x) { return XOR3(ROTR(x, 17), ROTR(x, 19), SHR(x, 10)); }

/* w[t] = word t of the block at p[lane] + offset, for all lanes. Rows are read as four 128-bit
 * quarters from lanes l, l+4, l+8 and l+12, which leaves only 4 x 4 transposes inside quarters. */
INLINE void load_words(__m512i w[16], const uint8_t *const p[LANES], size_t offset) {
  const __m512i swap = _mm512_broadcast_i32x4(
      _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
  UNROLL for (size_t q = 0; q < 4; q++) {
    __m512i r[4];
    UNROLL for (size_t l = 0; l < 4; l++) {
      const size_t at = offset + 16 * q;
      __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(p[l] + at)));
      v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[l + 4] + at)), 1);
      v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[l + 8] + at)), 2);
      v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[l + 12] + at)), 3);
      r[l] = _mm512_shuffle_epi8(v, swap);
    }
    __m512i a = _mm512_unpacklo_epi32(r[0], r[1]);
    __m512i b = _mm512_unpackhi_epi32(r[0], r[1]);
    __m512i c = _mm512_unpacklo_epi32(r[2], r[3]);
    __m512i d = _mm512_unpackhi_epi32(r[2], r[3]);
    w[4 * q] = _mm512_unpacklo_epi64(a, c);
    w[4 * q + 1] = _mm512_unpackhi_epi64(a, c);
    w[4 * q + 2] = _mm512_unpacklo_epi64(b, d);
    w[4 * q + 3] = _mm512_unpackhi_epi64(b, d);
  }
}

INLINE void compress_block(__m512i h[8], const uint8_t *const p[LANES], size_t offset) {
  __m512i w[16];
  __m512i s[8];
  load_words(w, p, offset);
  UNROLL for (int i = 0; i < 8; i++) s[i] = h[i];
  /* The registers do not move from round to round; their roles do: at[i] is s[(i - t) mod 8]. */
#define AT(i) s[((i) + 64 - t) & 7]
  UNROLL for (unsigned t = 0; t < 64; t++) {
    __m512i *wt = &w[t & 15];
    if (t >= 16)
      *wt = ADD(ADD(*wt, sigma0(w[(t + 1) & 15])), ADD(w[(t + 9) & 15], sigma1(w[(t + 14) & 15])));
    __m512i wk = ADD(*wt, _mm512_set1_epi32((int)vb_sha256_k[t]));
    __m512i t1 = ADD(ADD(AT(7), wk), ADD(big_sigma1(AT(4)), CH(AT(4), AT(5), AT(6))));
    __m512i t2 = ADD(big_sigma0(AT(0)), MAJ(AT(0), AT(1), AT(2)));
    AT(3) = ADD(AT(3), t1);
    AT(7) = ADD(t1, t2);
  }
#undef AT
  UNROLL for (int i = 0; i < 8; i++) h[i] = ADD(h[i], s[i]);
}

/* 1 to 16 lanes. No alignment is assumed; nblocks = 0 is allowed; states and data do not
 * overlap. */
static void sha256_wide_avx512(uint32_t *const state[], const uint8_t *const data[], size_t lanes,
                               size_t nblocks) {
  uint32_t words[8][LANES] __attribute__((aligned(64)));
  const uint8_t *p[LANES];
  __m512i h[8];
  for (size_t l = 0; l < LANES; l++) {
    const size_t from = l < lanes ? l : 0;
    p[l] = data[from];
    for (int i = 0; i < 8; i++) words[i][l] = state[from][i];
  }
  UNROLL for (int i = 0; i < 8; i++) h[i] = _mm512_load_si512(words[i]);
  for (size_t b = 0; b < nblocks; b++) compress_block(h, p, 64 * b);
  UNROLL for (int i = 0; i < 8; i++) _mm512_store_si512(words[i], h[i]);
  for (size_t l = 0; l < lanes; l++)
    for (int i = 0; i < 8; i++) state[l][i] = words[i][l];
}

void vb_sha256_avx512(vb_kernels *k) {
  k->sha256_wide = sha256_wide_avx512;
  k->sha256_wide_from = k->features & VB_CPU_SHANI ? WIDE_FROM_BESIDE_SHANI : WIDE_FROM_ALONE;
}
