/* tag.c - tag streams: carries, steps and chunks. What is computed, and why, stands in tag.h.
 *
 * - A stream holds fewer than VB_TAG_STEP bytes between calls, so that the kernels see whole steps
 *   only, at an aligned place of the key.
 * - A chunk is folded into the polynomial as soon as it is complete; where the stream stands in its
 *   chunk follows from its length.
 */
#include "tag.h"

#include <string.h>

_Static_assert(sizeof(vb_tag) <= 128, "thousands of streams may be open");
_Static_assert(VB_TAG_CHUNK % VB_TAG_STEP == 0, "kernels take whole steps");

void vb_tag_init(vb_tag *t) { memset(t, 0, sizeof *t); }

static void fold(const vb_kernels *k, const uint8_t *key, vb_tag *t) {
  k->tag_fold(t->poly, t->sum, key + VB_TAG_POLY);
  memset(t->sum, 0, sizeof t->sum);
}

/* Add whole steps; no bytes are carried. */
static void add_steps(const uint8_t *key, vb_tag *t, const uint8_t *data, size_t nsteps) {
  while (nsteps > 0) {
    size_t at = t->length % VB_TAG_CHUNK;
    size_t room = (VB_TAG_CHUNK - at) / VB_TAG_STEP;
    size_t take = nsteps < room ? nsteps : room;
    t->kernels->tag_sum(t->sum, key + at, data, take);
    if (take == room) fold(t->kernels, key, t);
    t->length += take * VB_TAG_STEP;
    data += take * VB_TAG_STEP;
    nsteps -= take;
  }
}

void vb_tag_update(const vb_kernels *k, const uint8_t *key, vb_tag *t, const uint8_t *data,
                   size_t size) {
  if (size == 0) return;
  t->kernels = k;
  size_t used = t->length % VB_TAG_STEP;
  if (used > 0) {
    size_t take = VB_TAG_STEP - used < size ? VB_TAG_STEP - used : size;
    memcpy(t->carry + used, data, take);
    data += take;
    size -= take;
    if (used + take < VB_TAG_STEP) {
      t->length += take;
      return;
    }
    t->length -= used;
    add_steps(key, t, t->carry, 1);
  }
  add_steps(key, t, data, size / VB_TAG_STEP);
  size_t left = size % VB_TAG_STEP;
  if (left > 0) memcpy(t->carry, data + (size - left), left);
  t->length += left;
}

void vb_tag_final(const uint8_t *key, vb_tag *t, uint8_t out[16]) {
  const uint64_t length = t->length;
  const size_t used = length % VB_TAG_STEP;
  if (used > 0) {
    memset(t->carry + used, 0, VB_TAG_STEP - used);
    t->length -= used;
    add_steps(key, t, t->carry, 1);
  }
  if (t->length % VB_TAG_CHUNK != 0) fold(t->kernels, key, t);
  if (length > 0) {
    t->sum[2] = length; /* 0 * s + length takes the place of one more coefficient */
    fold(t->kernels, key, t);
  }
  vb_store64(out, t->poly[0]);
  vb_store64(out + 8, t->poly[1]);
}
