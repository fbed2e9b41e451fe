/* mean.h - the mean of the rows of a matrix of f32, taken in while it streams by.
 *
 * - The sum is torch CPU's cascade sum (numerics.md, "New rows"), so the mean has the bits of
 *   torch.mean(dim=0): rows go into the lowest of four levels; every `step` rows a level is added to
 *   the next and starts again at +0, the second level every step * step rows, and so on. At the end
 *   the levels are added to the lowest, in order, and the sum is divided by the number of rows.
 * - A NaN result is 0x7FC00000.
 */
#ifndef VB_MEAN_H
#define VB_MEAN_H

#include "vb.h"

enum { VB_MEAN_LEVELS = 4 };

typedef struct vb_mean {
  float *sums;         /* VB_MEAN_LEVELS x cols */
  uint64_t rows, done; /* in all, and taken in completely */
  size_t cols, col;    /* the next element's place is (done, col) */
  unsigned power;      /* a level takes 2^power of what the one below it holds */
} vb_mean;

/* Bytes of memory for the sums (cols <= SIZE_MAX / 16). */
size_t vb_mean_memory(size_t cols);
/* Start the mean of rows x cols elements. `memory` is aligned for float, and the caller's. */
void vb_mean_init(vb_mean *m, void *memory, uint64_t rows, size_t cols);
/* Take in the next n elements, in C order; cut anywhere. No alignment is assumed. */
void vb_mean_add(vb_mean *m, const void *data, size_t n);
/* Write the mean (cols elements) when all of rows x cols elements have been taken in. The state
 * must be initialised again before further use. */
void vb_mean_final(vb_mean *m, void *out);

#endif
