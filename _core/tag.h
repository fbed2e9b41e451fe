/* tag.h - keyed tags: two readings of the same bytes compared without keeping either.
 *
 * What for: where a file is hashed by one cursor and its tensors are read again by another, both
 * readings of a byte range are tagged; unequal tags mean that the file changed in between
 * (performance.md). Key and tags never leave the process and its run, so tags are no format: they
 * may differ from one ISA level, host or version to the next. One stream keeps to one level.
 *
 * The function. A message is cut into chunks of 4096 bytes, a chunk into 64-bit little-endian words
 * m[0], m[1], ... after padding with zeros to a whole step of 64 bytes. With the key's words k[0],
 * k[1], ... each chunk is compressed twice, the second time with the key moved on by one step:
 *
 *   y1 = sum over even i of (m[i] + k[i]) * (m[i+1] + k[i+1])
 *   y2 = sum over even i of (m[i] + k[i+8]) * (m[i+1] + k[i+9])
 *
 * CLNH (PCLMULQDQ) adds with XOR and multiplies polynomials over GF(2). NH (portable) adds words
 * modulo 2^64 and products modulo 2^128. Either way y1 and y2 are then elements of GF(2^128) =
 * GF(2)[x] / (x^128 + x^7 + x^2 + x + 1), bit i being the coefficient of x^i; the key's last two
 * elements are r and s, chunk j gives c[j] = y1 * s + y2, and n chunks of L bytes together give
 *
 *   tag = c[1] r^n + c[2] r^(n-1) + ... + c[n] r + L.
 *
 * The bound. Let two messages differ and be chosen without knowledge of the key, which is uniformly
 * random. Their tags are equal with probability at most n / 2^128 + 2 / 2^128, where n counts the
 * chunks of the longer one: about 2^-100 for 2^40 bytes, 2^-107 for 2^33. Over many pairs under one
 * key the bounds add up, so that it is the total of bytes that counts.
 * - Unequal lengths: the difference of the tags is a polynomial in r with the constant term
 *   L + L' != 0, whose other coefficients do not depend on r. It has at most n roots.
 * - Equal lengths: some chunk differs after padding. Say its last pair that differs is (u, v)
 *   against (u', v'), at words i and i+1; later pairs cancel. y1's difference depends on no word of
 *   the key beyond k[i+1], y2's on none beyond k[i+9]. Suppose u != u' (v != v' is the mirror
 *   image), and that all other key words are given. Then each value of y1 - y1' is met by at most
 *   one k[i+1], as shown below, and, once that is settled, each value of y2 - y2' by at most one
 *   k[i+9], which y1 does not contain. So (y1, y2) = (y1', y2') with probability 2^-128 at most.
 *   - CLNH: with the other key words given, only (u + u') * k[i+1] = const is left, and GF(2)[x]
 *     has no zero divisors.
 *   - NH: let p = u + k[i], p' = u' + k[i] (not equal), and let w = v + k[i+1] run through the
 *     words, w' = v' + k[i+1] = w + e modulo 2^64. If two w give p w - p' w' = const modulo 2^128,
 *     let t be their distance, 0 < t < 2^64. Where both or neither of the w + e wrap around, the
 *     values differ by (p - p') t, which is not 0 modulo 2^128. Where only the greater one does,
 *     they differ by (p - p') t + p' 2^64 = p t + p' (2^64 - t), which lies between 0 and 2^128,
 *     both excluded.
 * - If (y1, y2) != (y1', y2'), then c = c' for at most one s (for none, if y1 = y1').
 * - If c != c', the difference of the tags is a polynomial in r, not zero, of degree n at most.
 */
#ifndef VB_TAG_H
#define VB_TAG_H

#include "vb.h"

enum {
  VB_TAG_STEP = 64,    /* bytes that kernels take at a time, and by which the second key is moved */
  VB_TAG_CHUNK = 4096, /* bytes under one polynomial coefficient; a multiple of the step */
  VB_TAG_POLY = VB_TAG_CHUNK + VB_TAG_STEP, /* where r and s stand in the key, 16 bytes each */
  VB_TAG_KEY_SIZE = VB_TAG_POLY + 32,       /* bytes of a key; any content is a valid key */
};

/* One stream. Small, because thousands of tensors may be open at a time. */
typedef struct vb_tag {
  const vb_kernels *kernels; /* those of the first update, NULL before it */
  uint64_t length;           /* bytes so far */
  uint64_t sum[4];           /* y1 and y2 of the chunk that is being read, low words first */
  uint64_t poly[2];          /* c[1] r^(j-1) + ... + c[j] of the j chunks that are complete */
  uint8_t carry[VB_TAG_STEP];
} vb_tag;

void vb_tag_init(vb_tag *t);
/* Add size bytes to the stream. Any size (0 included) and any alignment; how a message is cut into
 * updates does not matter. The key has VB_TAG_KEY_SIZE bytes, and it and the kernels are the same
 * ones (the kernels also the same object) until the stream has ended. */
void vb_tag_update(const vb_kernels *k, const uint8_t *key, vb_tag *t, const uint8_t *data,
                   size_t size);
/* Write the tag; the stream must be initialised again before further use. */
void vb_tag_final(const uint8_t *key, vb_tag *t, uint8_t out[16]);

#endif
