/* sha256_armv8.c - SHA-256 with the ARMv8 SHA2 instructions, one to three lanes interleaved.
 *
 * - SHA256H and SHA256H2 of one stream form a chain; independent streams fill the gaps. Three lanes
 *   (base, delta, output) need 18 of the 32 vector registers for states and messages.
 * - Every lane count is the same inlined function with a constant number of lanes.
 * - Little-endian AArch64 only, which dispatch.c sees to. Compiled with -march=armv8-a+crypto.
 */
#include <arm_neon.h>

#include "sha256_constants.h"
#include "vb.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { LANES = 3 };

/* Rounds 4g to 4g+3 of one lane; for g >= 4 the four schedule words they need come first. */
INLINE void group(const unsigned g, const uint8_t *block, uint32x4_t m[4], uint32x4_t *abcd,
                  uint32x4_t *efgh) {
  uint32x4_t *w = &m[g & 3];
  if (g < 4)
    *w = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(block + 16 * g)));
  else
    *w = vsha256su1q_u32(vsha256su0q_u32(*w, m[(g + 1) & 3]), m[(g + 2) & 3], m[(g + 3) & 3]);
  uint32x4_t wk = vaddq_u32(*w, vld1q_u32(vb_sha256_k + 4 * g));
  uint32x4_t abcd0 = *abcd;
  *abcd = vsha256hq_u32(abcd0, *efgh, wk);
  *efgh = vsha256h2q_u32(*efgh, abcd0, wk);
}

/* No alignment is assumed; nblocks = 0 is allowed; states and data do not overlap. */
INLINE void compress(const size_t lanes, uint32_t *const state[], const uint8_t *const data[],
                     size_t nblocks) {
  const uint8_t *p[LANES];
  uint32x4_t abcd[LANES];
  uint32x4_t efgh[LANES];
  UNROLL for (size_t l = 0; l < lanes; l++) {
    p[l] = data[l];
    abcd[l] = vld1q_u32(state[l]);
    efgh[l] = vld1q_u32(state[l] + 4);
  }
  for (size_t b = 0; b < nblocks; b++) {
    uint32x4_t abcd0[LANES];
    uint32x4_t efgh0[LANES];
    uint32x4_t m[LANES][4];
    UNROLL for (size_t l = 0; l < lanes; l++) {
      abcd0[l] = abcd[l];
      efgh0[l] = efgh[l];
    }
    UNROLL for (unsigned g = 0; g < 16; g++)
      UNROLL for (size_t l = 0; l < lanes; l++) group(g, p[l], m[l], &abcd[l], &efgh[l]);
    UNROLL for (size_t l = 0; l < lanes; l++) {
      abcd[l] = vaddq_u32(abcd[l], abcd0[l]);
      efgh[l] = vaddq_u32(efgh[l], efgh0[l]);
      p[l] += 64;
    }
  }
  UNROLL for (size_t l = 0; l < lanes; l++) {
    vst1q_u32(state[l], abcd[l]);
    vst1q_u32(state[l] + 4, efgh[l]);
  }
}

static void sha256_x1_armv8(uint32_t *const state[], const uint8_t *const data[], size_t nblocks) {
  compress(1, state, data, nblocks);
}

static void sha256_x2_armv8(uint32_t *const state[], const uint8_t *const data[], size_t nblocks) {
  compress(2, state, data, nblocks);
}

static void sha256_x3_armv8(uint32_t *const state[], const uint8_t *const data[], size_t nblocks) {
  compress(3, state, data, nblocks);
}

void vb_sha256_armv8(vb_kernels *k) {
  k->sha256[1] = sha256_x1_armv8;
  k->sha256[2] = sha256_x2_armv8;
  k->sha256[3] = sha256_x3_armv8;
}
