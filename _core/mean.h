/* mean.h - the mean of the rows of a matrix of f32, taken in while it streams by.
 *
 * The order of additions is that of torch.mean(dim=0) on x86-64, whatever the number of threads
 * (numerics.md, "New rows"):
 * - A cascade has four levels, all +0 at the start. Rows are added to the lowest; whenever it has
 *   taken 2^power rows it is added to the second and starts again at +0, the second after as many
 *   turns is added to the third, and so on; power = max(4, ceil(log2(rows)) / 4). At the end the
 *   upper levels are added to the lowest, in order.
 * - As many columns as make groups of 32 (of 4, if there are fewer than 8) go through one cascade.
 *   Of the columns that are left, every four rows side by side are a row of a second one; what is
 *   left of the rows is added to its first quarter when that cascade has ended, then the other
 *   quarters are.
 * - The sum is divided by the number of rows. A NaN result is 0x7FC00000.
 * A matrix of one column is summed in yet another order by torch, which is not followed.
 */
#ifndef VB_MEAN_H
#define VB_MEAN_H

#include "vb.h"

enum { VB_MEAN_LEVELS = 4 };

typedef struct vb_cascade {
  float *sums; /* VB_MEAN_LEVELS x cols */
  size_t cols;
  uint64_t done;  /* rows taken in */
  unsigned power; /* a level takes 2^power of what the one below it has taken */
} vb_cascade;

typedef struct vb_mean {
  vb_cascade groups, rest; /* rest: four rows at a time */
  uint64_t rows, row;      /* in all, and the next element's */
  size_t cols, col;
} vb_mean;

/* Bytes of memory for the sums (cols <= SIZE_MAX / 128). */
size_t vb_mean_memory(size_t cols);
/* Start the mean of rows x cols elements. `memory` is aligned for float, and the caller's. */
void vb_mean_init(vb_mean *m, void *memory, uint64_t rows, size_t cols);
/* Take in the next n elements, in C order; cut anywhere. No alignment is assumed. */
void vb_mean_add(vb_mean *m, const void *data, size_t n);
/* Write the mean (cols elements) when all of rows x cols elements have been taken in. The state
 * must be initialised again before further use. */
void vb_mean_final(vb_mean *m, void *out);

#endif
