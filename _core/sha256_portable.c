/* sha256_portable.c - the SHA-256 compression function of FIPS 180-4 in plain C.
 *
 * - It is the definition: every other kernel gives the same states.
 * - Message words are read with shifts, so a big-endian host needs nothing special.
 * - One lane only: without vector units, interleaving streams gains nothing.
 */
#include "sha256_constants.h"
#include "vb.h"

#define UNROLL _Pragma("GCC unroll 16")

static inline uint32_t load_be32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static inline uint32_t rotr(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

/* The upper-case and lower-case sigmas, Ch and Maj of FIPS 180-4, 4.1.2. */
static inline uint32_t big_sigma0(uint32_t x) { return rotr(x, 2) ^ rotr(x, 13) ^ rotr(x, 22); }
static inline uint32_t big_sigma1(uint32_t x) { return rotr(x, 6) ^ rotr(x, 11) ^ rotr(x, 25); }
static inline uint32_t sigma0(uint32_t x) { return rotr(x, 7) ^ rotr(x, 18) ^ x >> 3; }
static inline uint32_t sigma1(uint32_t x) { return rotr(x, 17) ^ rotr(x, 19) ^ x >> 10; }
static inline uint32_t ch(uint32_t x, uint32_t y, uint32_t z) { return z ^ (x & (y ^ z)); }
static inline uint32_t maj(uint32_t x, uint32_t y, uint32_t z) { return (x & y) | (z & (x | y)); }

static void compress_block(uint32_t h[8], const uint8_t *block) {
  uint32_t w[16]; /* the last sixteen words of the message schedule, a ring */
  uint32_t s[8];
  for (int i = 0; i < 8; i++) s[i] = h[i];
  /* Words do not move from round to round, their roles do: variable i of a to h is AT(i). Unrolled
   * over one turn of the ring, every index is a constant. */
#define AT(i) s[((i) + 16 - t) & 7]
  for (unsigned turn = 0; turn < 64; turn += 16) {
    UNROLL for (unsigned t = 0; t < 16; t++) {
      if (turn == 0)
        w[t] = load_be32(block + 4 * t);
      else
        w[t] += sigma1(w[(t + 14) & 15]) + w[(t + 9) & 15] + sigma0(w[(t + 1) & 15]);
      uint32_t t1 = AT(7) + big_sigma1(AT(4)) + ch(AT(4), AT(5), AT(6));
      t1 += vb_sha256_k[turn + t] + w[t];
      AT(3) += t1;
      AT(7) = t1 + big_sigma0(AT(0)) + maj(AT(0), AT(1), AT(2));
    }
  }
#undef AT
  for (int i = 0; i < 8; i++) h[i] += s[i];
}

/* One lane. No alignment is assumed; nblocks = 0 is allowed; state and data do not overlap. */
static void sha256_x1_portable(uint32_t *const state[], const uint8_t *const data[],
                               size_t nblocks) {
  for (size_t b = 0; b < nblocks; b++) compress_block(state[0], data[0] + 64 * b);
}

void vb_sha256_portable(vb_kernels *k) { k->sha256[1] = sha256_x1_portable; }
