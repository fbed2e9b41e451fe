/* ring.c - the second thread (contracts: ring.h). */
#include "ring.h"

#include <signal.h>

size_t vb_ring_slots(size_t slot) {
  size_t slots = VB_RING_MEMORY / slot;
  return slots < 2 ? 2 : slots > VB_RING_SLOTS ? VB_RING_SLOTS : slots;
}

/* The next slot that is full, or NULL when there will be none. */
static vb_slot *wait_for_full(vb_ring *r) {
  pthread_mutex_lock(&r->lock);
  while (r->emptied == r->filled && !r->closed) pthread_cond_wait(&r->changed, &r->lock);
  vb_slot *slot = r->emptied == r->filled ? NULL : &r->slots[r->emptied % r->nslots];
  pthread_mutex_unlock(&r->lock);
  return slot;
}

static void *hash_slots(void *argument) {
  vb_ring *r = argument;
  for (vb_slot *slot; (slot = wait_for_full(r));) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < slot->njobs; i++) bytes += slot->jobs[i].size;
    vb_sha256_update(r->kernels, slot->jobs, slot->njobs);
    slot->njobs = 0;
    atomic_fetch_add_explicit(&r->control->done, bytes, memory_order_relaxed);
    pthread_mutex_lock(&r->lock);
    r->emptied++;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
  }
  return NULL;
}

/* Signals are the business of the threads that were there before. */
static bool start(vb_ring *r) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = pthread_create(&r->thread, NULL, hash_slots, r) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return started;
}

bool vb_ring_open(vb_ring *r, const vb_kernels *k, vb_control *control, uint8_t *memory, size_t slot) {
  *r = (vb_ring){.kernels = k, .control = control, .nslots = vb_ring_slots(slot)};
  for (size_t i = 0; i < r->nslots; i++) r->slots[i].memory = memory + i * slot;
  if (pthread_mutex_init(&r->lock, NULL) != 0) return false;
  if (pthread_cond_init(&r->changed, NULL) == 0) {
    if (start(r)) return true;
    pthread_cond_destroy(&r->changed);
  }
  pthread_mutex_destroy(&r->lock);
  return false;
}

void vb_ring_turn(vb_ring *r) {
  pthread_mutex_lock(&r->lock);
  r->filled++;
  pthread_cond_signal(&r->changed);
  while (r->filled - r->emptied == r->nslots) pthread_cond_wait(&r->changed, &r->lock);
  pthread_mutex_unlock(&r->lock);
}

void vb_ring_close(vb_ring *r) {
  pthread_mutex_lock(&r->lock);
  r->closed = true;
  pthread_cond_signal(&r->changed);
  pthread_mutex_unlock(&r->lock);
  pthread_join(r->thread, NULL);
  pthread_cond_destroy(&r->changed);
  pthread_mutex_destroy(&r->lock);
}
