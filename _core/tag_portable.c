/* tag_portable.c - tags in plain C: NH on 64-bit words, and GF(2^128) four bits at a time.
 *
 * - Without an instruction for carry-less products CLNH is slow; NH needs two 64 x 64 -> 128
 *   multiplications for 16 bytes and gives 14 GB/s on Zen 5. So this is the one portable kernel
 *   whose results are not those of the instruction sets; tag.h has the bound for both.
 * - Words are read as little-endian, so a big-endian host gives the same tags.
 */
#include "tag.h"

#define UNROLL _Pragma("GCC unroll 8")

/* An integer modulo 2^128, or a polynomial over GF(2) of a degree below 128. */
typedef struct pair {
  uint64_t low;
  uint64_t high;
} pair;

#if defined(__SIZEOF_INT128__)
__extension__ typedef unsigned __int128 uint128;

/* *sum += x * y modulo 2^128. */
static inline void add_product(pair *sum, uint64_t x, uint64_t y) {
  uint128 total = ((uint128)sum->high << 64 | sum->low) + (uint128)x * y;
  sum->low = (uint64_t)total;
  sum->high = (uint64_t)(total >> 64);
}
#else
/* *sum += x * y modulo 2^128, on hosts with 32-bit registers. */
static inline void add_product(pair *sum, uint64_t x, uint64_t y) {
  const uint64_t x0 = (uint32_t)x, x1 = x >> 32, y0 = (uint32_t)y, y1 = y >> 32;
  uint64_t cross = x1 * y0 + (x0 * y0 >> 32);
  uint64_t low = x * y;
  uint64_t high = x1 * y1 + (cross >> 32) + ((x0 * y1 + (uint32_t)cross) >> 32);
  sum->low += low;
  sum->high += high + (sum->low < low);
}
#endif

static void tag_sum_portable(uint64_t sum[4], const uint8_t *key, const uint8_t *data,
                             size_t nsteps) {
  pair y1 = {sum[0], sum[1]};
  pair y2 = {sum[2], sum[3]};
  for (const uint8_t *end = data + nsteps * VB_TAG_STEP; data < end;) {
    UNROLL for (size_t i = 0; i < VB_TAG_STEP; i += 16) {
      const uint64_t m0 = vb_load64(data + i);
      const uint64_t m1 = vb_load64(data + i + 8);
      const uint8_t *k = key + i;
      add_product(&y1, m0 + vb_load64(k), m1 + vb_load64(k + 8));
      k += VB_TAG_STEP;
      add_product(&y2, m0 + vb_load64(k), m1 + vb_load64(k + 8));
    }
    data += VB_TAG_STEP;
    key += VB_TAG_STEP;
  }
  sum[0] = y1.low;
  sum[1] = y1.high;
  sum[2] = y2.low;
  sum[3] = y2.high;
}

/* multiple[i] = i * factor, i being a polynomial of a degree below 4. */
static void multiples_of(pair multiple[16], const uint8_t *factor) {
  multiple[0] = (pair){0, 0};
  multiple[1] = (pair){vb_load64(factor), vb_load64(factor + 8)};
  for (unsigned i = 2; i < 16; i += 2) {
    const pair half = multiple[i / 2];
    const pair one = multiple[1];
    pair twice = {half.low << 1, half.high << 1 | half.low >> 63};
    if (half.high >> 63) twice.low ^= 0x87; /* x^128 = x^7 + x^2 + x + 1 */
    multiple[i] = twice;
    multiple[i + 1] = (pair){twice.low ^ one.low, twice.high ^ one.high};
  }
}

/* Horner's rule over the sixteen digits, highest first, of two words at once. */
static pair multiply_digits(pair z, uint64_t a, const pair by_a[16], uint64_t b,
                            const pair by_b[16]) {
  for (unsigned shift = 64; shift > 0;) {
    shift -= 4;
    const uint64_t out = z.high >> 60;
    const pair ra = by_a[a >> shift & 15];
    const pair sb = by_b[b >> shift & 15];
    z.high = (z.high << 4 | z.low >> 60) ^ ra.high ^ sb.high;
    z.low = z.low << 4 ^ out ^ out << 1 ^ out << 2 ^ out << 7 ^ ra.low ^ sb.low;
  }
  return z;
}

static void tag_fold_portable(uint64_t poly[2], const uint64_t sum[4], const uint8_t *key) {
  pair by_r[16];
  pair by_s[16];
  multiples_of(by_r, key);
  multiples_of(by_s, key + 16);
  pair z = {0, 0};
  z = multiply_digits(z, poly[1], by_r, sum[1], by_s);
  z = multiply_digits(z, poly[0], by_r, sum[0], by_s);
  poly[0] = z.low ^ sum[2];
  poly[1] = z.high ^ sum[3];
}

void vb_tag_portable(vb_kernels *k) {
  k->tag_sum = tag_sum_portable;
  k->tag_fold = tag_fold_portable;
}
