/* program.h - what the programs of this directory share.
 *
 * Rules
 * - No Python and no library but the C library's: a program runs wherever the core compiles.
 * - They run what they are given and print what comes of it; whoever started them is the judge.
 * - Every buffer is a piece of memory of its exact size, so that a sanitizer sees a byte too many.
 * - Trouble with the input files ends the program, with a line on stderr and status 3.
 */
#ifndef VB_PROGRAM_H
#define VB_PROGRAM_H

#include "vb.h"

typedef struct vb_bytes {
  uint8_t *data;
  size_t size;
} vb_bytes;

/* Print "program: message" on stderr and exit with status 3. */
_Noreturn void vb_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory of `size` bytes, to be freed; never NULL. */
void *vb_allocate(size_t size);

/* The whole of a regular file; free .data. */
vb_bytes vb_read_file(const char *path);

/* A reading position in bytes that somebody else owns. */
typedef struct vb_reader {
  const uint8_t *at, *end;
} vb_reader;

/* The next `size` bytes. */
const uint8_t *vb_take(vb_reader *r, uint64_t size);
uint32_t vb_take32(vb_reader *r);
uint64_t vb_take64(vb_reader *r);

/* The kernels of the level that VBUILD_ISA names (unset or empty: all that this CPU has). */
vb_kernels vb_chosen_kernels(void);

/* Print the line "features NAME,NAME" of this CPU, names sorted; "features -" if it has none. */
void vb_print_features(void);

/* Print `name` and a SHA-256 digest in hex as a line. */
void vb_print_digest(const char *name, const uint8_t digest[32]);

/* Parse a table, run it and print what comes of it, in one of these forms:
 *
 *   output HEX                                            and, for every source and tensor,
 *   source I HEX      or, where it is not hashed,  source I -
 *   tensor I HEX
 *   difference I COUNT FIRST HEX HEX ULP AT HEX AT UNORDERED   for every tensor, if any are compared
 *
 *   fault read-short source I                             or read-failed
 *   fault nonfinite segment I index I bits HEX HEX HEX
 *   fault STATUS                                          for any other
 *   refused SEGMENT WHAT                                  SEGMENT is - for the table as a whole
 *   large                    it would write more than `limit` bytes, or has more elements
 *
 * The environment's SPARE_THREADS says how many threads the run may start. Returns 0, 1, 2 or 2. `nfds` has to be the number of its sources. */
int vb_run_table(const vb_kernels *k, vb_bytes table, const int *fds, size_t nfds, int out_fd,
                 uint64_t limit);

#endif
