/* sha256.c - SHA-256 streams: carries, padding, and the dealing of streams to lanes.
 *
 * - A stream holds fewer than 64 bytes between calls; whole blocks never pass through the carry
 *   unless a carry has to be completed first.
 * - Streams in one call may stand at different carries (file headers have different lengths) and
 *   may bring different sizes. Up to WINDOW of them are live at a time; one that is finished makes
 *   room for the next.
 * - Each step runs the longest live streams together over the blocks that all of them have.
 *   Streams are dealt evenly over the steps (5 as 3 + 2, 8 as 4 + 4), because a lone last stream is
 *   what costs: measured with SHA-NI, 2, 3 and 4 lanes give 1.70, 1.74 and 1.77 times one lane.
 * - Which kernel runs never shows in the digest.
 */
#include <string.h>

#include "vb.h"

enum { BLOCK = 64, WINDOW = 16 };

void vb_sha256_init(vb_sha256 *s) {
  static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memset(s, 0, sizeof *s);
  memcpy(s->h, initial, sizeof initial);
}

static void compress_one(const vb_kernels *k, uint32_t h[8], const uint8_t *block) {
  k->sha256[1](&h, &block, 1);
}

/* Consume what completes the job's carry (nothing if the carry is empty). */
static void fill_carry(const vb_kernels *k, vb_sha256_job *job) {
  vb_sha256 *s = job->stream;
  size_t used = s->length % BLOCK;
  if (used == 0 || job->size == 0) return;
  size_t take = BLOCK - used < job->size ? BLOCK - used : job->size;
  memcpy(s->carry + used, job->data, take);
  s->length += take;
  job->data += take;
  job->size -= take;
  if (used + take == BLOCK) compress_one(k, s->h, s->carry);
}

/* Keep a tail shorter than a block. Where size is not 0, the carry is empty. */
static void keep_tail(vb_sha256_job *job) {
  if (job->size == 0) return;
  memcpy(job->stream->carry, job->data, job->size);
  job->stream->length += job->size;
  job->data += job->size;
  job->size = 0;
}

/* Insert a job where `live[0..n)`, which is sorted by falling size, stays sorted. */
static void insert_by_size(vb_sha256_job *live[], size_t n, vb_sha256_job *job) {
  for (; n > 0 && live[n - 1]->size < job->size; n--) live[n] = live[n - 1];
  live[n] = job;
}

/* How many of n > 0 live streams the next step takes: at most 16 with the wide kernel, else an even
 * share of as few steps as the widest interleaved kernel allows. */
static size_t lanes_for(const vb_kernels *k, size_t n) {
  if (k->sha256_wide && n >= k->sha256_wide_from) return n;
  size_t widest = VB_SHA_LANES;
  while (!k->sha256[widest]) widest--;
  size_t steps = (n + widest - 1) / widest;
  size_t lanes = (n + steps - 1) / steps;
  while (!k->sha256[lanes]) lanes--;
  return lanes;
}

/* Run the first `lanes` live streams over the blocks that all of them have. */
static void step(const vb_kernels *k, vb_sha256_job *const live[], size_t lanes) {
  uint32_t *state[WINDOW];
  const uint8_t *data[WINDOW];
  size_t nblocks = live[lanes - 1]->size / BLOCK;
  for (size_t i = 0; i < lanes; i++) {
    state[i] = live[i]->stream->h;
    data[i] = live[i]->data;
    live[i]->data += nblocks * BLOCK;
    live[i]->size -= nblocks * BLOCK;
    live[i]->stream->length += nblocks * BLOCK;
  }
  if (k->sha256_wide && lanes >= k->sha256_wide_from)
    k->sha256_wide(state, data, lanes, nblocks);
  else
    k->sha256[lanes](state, data, nblocks);
}

void vb_sha256_update(const vb_kernels *k, vb_sha256_job *jobs, size_t n) {
  vb_sha256_job *live[WINDOW]; /* those with a whole block left, longest first */
  size_t nlive = 0;
  size_t next = 0;
  while (next < n || nlive > 0) {
    while (next < n && nlive < WINDOW) {
      vb_sha256_job *job = &jobs[next++];
      fill_carry(k, job);
      if (job->size >= BLOCK)
        insert_by_size(live, nlive++, job);
      else
        keep_tail(job);
    }
    if (nlive == 0) continue;
    size_t lanes = lanes_for(k, nlive);
    step(k, live, lanes);
    vb_sha256_job *ran[WINDOW];
    memcpy(ran, live, lanes * sizeof *ran);
    memmove(live, live + lanes, (nlive - lanes) * sizeof *live);
    nlive -= lanes;
    for (size_t i = 0; i < lanes; i++) {
      if (ran[i]->size >= BLOCK)
        insert_by_size(live, nlive++, ran[i]);
      else
        keep_tail(ran[i]);
    }
  }
}

void vb_sha256_final(const vb_kernels *k, vb_sha256 *s, uint8_t digest[32]) {
  size_t used = s->length % BLOCK;
  uint64_t bits = s->length * 8;
  s->carry[used++] = 0x80;
  if (used > BLOCK - 8) {
    memset(s->carry + used, 0, BLOCK - used);
    compress_one(k, s->h, s->carry);
    used = 0;
  }
  memset(s->carry + used, 0, BLOCK - 8 - used);
  for (unsigned i = 0; i < 8; i++) s->carry[BLOCK - 1 - i] = (uint8_t)(bits >> (8 * i));
  compress_one(k, s->h, s->carry);
  for (unsigned i = 0; i < 32; i++) digest[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}
