/* ring.h - a second thread that hashes what the first has read.
 *
 * A run on two threads is a run on one whose sources are hashed elsewhere: the first thread fetches,
 * computes, stores and hashes the output; what it has read for the hash of a source it leaves in a slot
 * of the ring, and goes on with the buffers of the next one. The second thread takes slot after slot.
 *
 * So a source's hash belongs to the second thread while the ring is open, and all else to the first; a
 * slot belongs to one of them at a time, and changes hands under the ring's lock.
 */
#ifndef VB_RING_H
#define VB_RING_H

#include <pthread.h>

#include "machine.h"

enum {
  VB_RING_SLOTS = 8,
  VB_RING_MEMORY = 8 << 20, /* bytes of all slots, if two of them take no more */
  VB_SLOT_JOBS = 2 + 16,    /* two operands, and the cursors */
};

typedef struct vb_slot {
  uint8_t *memory;
  vb_sha256_job jobs[VB_SLOT_JOBS];
  size_t njobs;
} vb_slot;

typedef struct vb_ring {
  vb_slot slots[VB_RING_SLOTS];
  size_t nslots;
  const vb_kernels *kernels;
  vb_control *control;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  uint64_t filled, emptied; /* slots, ever; under the lock */
  bool closed;              /* no slot will be filled any more; under the lock */
} vb_ring;

/* How many slots of so many bytes a ring has. */
size_t vb_ring_slots(size_t slot);
/* Start the second thread. `memory` has room for the slots. False, if there can be no thread. */
bool vb_ring_open(vb_ring *r, const vb_kernels *k, vb_control *control, uint8_t *memory, size_t slot);
/* The slot that the first thread fills. */
static inline vb_slot *vb_ring_slot(vb_ring *r) { return &r->slots[r->filled % r->nslots]; }
/* Hand it over, and wait until the next one is empty. */
void vb_ring_turn(vb_ring *r);
/* Wait until everything has been hashed, and end the thread. */
void vb_ring_close(vb_ring *r);

#endif
