/* machine.h - runs a table: pread, convert, compute, hash, write, block by block.
 *
 * Memory does not depend on the sizes of sources or output. One call runs on one thread, and
 * touches nothing but its arguments, so several tables run side by side. It hashes sources on a second
 * thread from when its control has one to spare.
 */
#ifndef VB_MACHINE_H
#define VB_MACHINE_H

#include <stdatomic.h>

#include "table.h"
#include "tag.h"

/* Shared with other threads while a table runs. */
typedef struct vb_control {
  _Atomic uint64_t done; /* bytes hashed or, where nothing is hashed, written, so far */
  _Atomic int stop;      /* set to make the machine return VB_STOPPED soon */
  _Atomic int spare;     /* threads that runs may start beside their own */
} vb_control;

static inline uint64_t vb_control_done(vb_control *c) {
  return atomic_load_explicit(&c->done, memory_order_relaxed);
}
static inline void vb_control_stop(vb_control *c) {
  atomic_store_explicit(&c->stop, 1, memory_order_relaxed);
}

/* Let runs that have begun, or will, start n threads more. */
static inline void vb_control_lend(vb_control *c, int n) {
  atomic_fetch_add_explicit(&c->spare, n, memory_order_relaxed);
}
/* Take one of them; false if there is none. It is given back with vb_control_lend. */
static inline bool vb_control_borrow(vb_control *c) {
  int spare = atomic_load_explicit(&c->spare, memory_order_relaxed);
  while (spare > 0)
    if (atomic_compare_exchange_weak_explicit(&c->spare, &spare, spare - 1, memory_order_relaxed,
                                              memory_order_relaxed))
      return true;
  return false;
}

typedef enum vb_status {
  VB_OK = 0,
  VB_STOPPED,      /* control->stop was set */
  VB_READ_FAILED,  /* source, error */
  VB_READ_SHORT,   /* source: it ends before the size that the table states */
  VB_WRITE_FAILED, /* error */
  VB_NONFINITE,    /* segment, index, bits: arithmetic gave or a conversion made inf or NaN */
  VB_NO_MEMORY,
} vb_status;

typedef struct vb_fault {
  vb_status status;
  int error;        /* errno */
  uint32_t source;
  uint32_t segment;
  uint64_t index;   /* element within the segment, C order */
  uint64_t bits[3]; /* a, b (0 for a copy) and result, as stored; of a block, its first 16 bits */
} vb_fault;

typedef struct vb_job {
  const vb_table *table; /* parsed */
  const vb_kernels *kernels;
  const int *fds;        /* one per source; a source that no segment reads may be -1 */
  int out_fd;            /* written from its start, or -1: results are hashed only */
  int scratch_fd;        /* an empty file of the run's own, or -1: it is in memory, if one is needed */
  bool hash_output;
  vb_control *control;
  const uint8_t *tag_key; /* VB_TAG_KEY_SIZE bytes, or NULL: regions are not tagged */
  /* Results, valid when VB_OK is returned. */
  uint8_t *source_digest; /* 32 bytes per source; set for hashed ones */
  uint8_t *tensor_digest; /* 32 bytes per tensor, or NULL if not wanted */
  uint8_t *region_tag;    /* 16 bytes per region; set if there is a key */
  vb_difference *difference; /* one per tensor, all zero when it begins, or NULL if not wanted */
  uint8_t out_digest[32];
} vb_job;

/* Bytes that vb_run allocates for a table on one thread; a second takes VB_RING_MEMORY (ring.h) more. */
size_t vb_run_memory(const vb_table *t, const vb_kernels *k);
/* Run the table; details of a failure are left in *fault. */
vb_status vb_run(vb_job *job, vb_fault *fault);

#endif
