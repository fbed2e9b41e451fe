/* state.h - a run of the machine: what its files share, and nobody else sees.
 *
 * machine.c runs chains and stores what they make; setup.c plans memory; walk.c has the cursors over
 * WALKED sources; operand.c fetches operands, of parts too, through the readers of reader.c; ring.c is
 * the second thread.
 */
#ifndef VB_STATE_H
#define VB_STATE_H

#include "machine.h"
#include "reader.h"
#include "ring.h"

enum {
  VB_PIECE = 256 * 1024,          /* bytes of a block; three fit a second-level cache (performance.md) */
  VB_PIECE_GATHERED = 2 << 20,    /* where an operand is gathered: so that its runs are long */
  VB_SPAN = 2 << 20,              /* scratch of a gathered block */
  VB_WINDOW = 4 << 20,            /* bytes that the windows of one chain have together */
  VB_LEFT = 64 * 1024,            /* bytes of a left-hand factor at a time, if a row of it has less */
  VB_WALKERS = 3,                 /* cursors open at a time beside other work */
  VB_WALKERS_ALONE = VB_SHA_LANES, /* without it */
  VB_WALKERS_WIDE = 16,           /* with wide lanes and enough sources */
  VB_WRITE_BACK = 8 << 20,        /* bytes of output that are put on the disk at a time */
  VB_JOBS = 2 * VB_CHAIN + 2 + VB_WALKERS_WIDE,
};

/* An operand of the chain that runs. */
typedef struct vb_input {
  vb_operand operand;
  int type;
  vb_reader *readers;  /* one for a source, one for each part; else none */
  uint32_t nreaders;
  uint64_t rank;       /* of a product */
  uint8_t *factor;     /* MEAN: the row; PRODUCT: the right-hand factor, in panels of columns */
  uint8_t *left;       /* PRODUCT: some rows of the left-hand factor */
  uint64_t left_begin, left_end, left_rows; /* the rows that it has, and has room for */
} vb_input;

/* A chain of segments, and how it is run. */
typedef struct vb_chain {
  uint32_t begin, end;
  uint64_t dim[VB_RANK], count;
  size_t block, capacity; /* bytes of a buffer, and the elements that it has room for */
  bool boxed;             /* blocks are boxes, because an operand is strided or made of parts */
  size_t span, window, factors, nreaders; /* what it needs, in bytes and numbers */
  vb_input inputs[2 * VB_CHAIN];          /* a and b of every segment */
} vb_chain;

typedef struct vb_cursor {
  uint32_t source;
  uint32_t segment; /* the HASH segment that it is in, or table->nsegments at the end */
  uint64_t at;      /* bytes of that segment done */
  uint32_t region;  /* the first walk region that may not be complete, or one past the source's */
  uint8_t *buffer;
} vb_cursor;

/* What a table needs: bytes of each buffer, numbers of readers and cursors. */
typedef struct vb_needs {
  size_t block, span, window, factors, readers, cursors;
  uint64_t walked, work; /* bytes that cursors read, and elements of chains */
} vb_needs;

typedef struct vb_machine {
  vb_job *job;
  const vb_table *t;
  vb_fault *fault;
  uint8_t *memory; /* all buffers, in one piece */
  size_t block;
  uint8_t *a, *b, *out, *spare, *span, *window, *factors;
  vb_reader *readers;
  vb_chain chain;
  const uint8_t *previous; /* the result that the next step of a chain goes on from */
  vb_sha256 *source_hash, out_hash, tensor_hash;
  uint32_t tensor;    /* being hashed, or UINT32_MAX */
  uint32_t compared;  /* the tensor of the last DIFF, or UINT32_MAX, and its elements so far */
  uint64_t compared_elements;
  uint64_t written, handed_over; /* bytes of the output: to the file, and from there to the disk */
  vb_sha256_job jobs[VB_JOBS];
  size_t njobs;
  vb_ring ring;         /* sources are hashed there, */
  bool piped;           /* if it is open; it is opened when a thread is to spare, */
  bool pipeable;        /* if that is of use */
  uint8_t *ring_memory;
  vb_cursor cursors[VB_WALKERS_WIDE];
  size_t ncursors, max_cursors;
  uint32_t next_source; /* the next to look at for a cursor */
  uint32_t next_region; /* the first one of it or of a later source */
  vb_tag *tags;         /* one per region, or NULL without a key */
  uint64_t walk_total, walk_done, work_total, work_done;
  int scratch_fd;       /* for spooled operands, or -1 until one is needed */
  bool own_scratch;
  uint64_t scratch_end; /* bytes of it that this chain uses */
} vb_machine;

static inline uint64_t vb_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline vb_source vb_source_of(const vb_machine *m, uint32_t i) { return vb_table_source(m->t, i); }

/* ---- machine.c ---- */
/* Hash these bytes for `stream` with the next flush; they stay where they are until then, or in the
 * memory of the slot. */
void vb_hash_later(vb_machine *m, vb_sha256 *stream, const uint8_t *data, size_t size);
/* Hash what the step has gathered, and report progress: `moved` bytes, where nothing was hashed. */
vb_status vb_flush(vb_machine *m, size_t moved);
/* VB_STOPPED if somebody wants the run to end. */
vb_status vb_poll(vb_machine *m);
/* Read from a source. */
vb_status vb_read_source(vb_machine *m, uint32_t source, void *buffer, size_t size, uint64_t offset);
/* Add bytes to the tag that `tag` (as an operand's) names, if there is one. */
void vb_tag_use(vb_machine *m, uint32_t tag, const uint8_t *data, size_t size);

/* ---- setup.c ---- */
/* The chain that begins at a segment: its end, its inputs and what it needs. `readers` has room for
 * those of the chain, or is NULL: then only sizes are of interest. */
void vb_chain_open(vb_chain *c, const vb_table *t, bool tagged, uint32_t begin, vb_reader *readers);
/* Bytes of an input's factors. */
size_t vb_factor_bytes(const vb_input *in, const vb_chain *c);
/* Let operands and cursors use the memory of a slot. */
void vb_use_slot(vb_machine *m, uint8_t *memory);
/* Hash sources on a thread of the control's from now on, if it has one; nothing waits to be hashed. */
void vb_pipe(vb_machine *m);
/* Wait until all of that has been hashed, and give the thread back. */
void vb_unpipe(vb_machine *m);
/* Memory for the whole run, and its initial state. */
vb_status vb_machine_open(vb_machine *m);
void vb_machine_close(vb_machine *m);

/* ---- operand.c ---- */
/* Give the chain's readers and factors their memory; load factors that stay in it. */
vb_status vb_inputs_open(vb_machine *m);
/* The block of one input: the box that starts at element `first` of the chain. Sets *data, which is
 * in `buffer` or elsewhere. The machine's `out` is free to be used. */
vb_status vb_fetch(vb_machine *m, vb_input *in, const vb_box *box, uint64_t first, uint8_t *buffer,
                   const uint8_t **data);

/* ---- walk.c ---- */
/* Let the cursors catch up with the chains' work. */
vb_status vb_walk(vb_machine *m);
/* Run them to their ends. */
vb_status vb_walk_on(vb_machine *m);

#endif
