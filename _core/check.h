/* check.h - whether a table is right: every rule of docs/reference/table-format.md beyond the header.
 *
 * A function returns NULL, or a static text that says what is wrong. Numbers are compared before they
 * are used: nothing here overflows, whatever the table says.
 */
#ifndef VB_CHECK_H
#define VB_CHECK_H

#include "table.h"

/* Where the check is: what comes next of all that has to come in order. */
typedef struct vb_checker {
  vb_table *t;
  uint64_t *position; /* of every source that is hashed, how much of it has been read */
  uint32_t part;      /* the first part that no operand has had */
  uint32_t use;       /* the first use region that no view has had */
  uint32_t open;      /* the tensor of the last segment that had one, or UINT32_MAX */
  uint32_t fresh;     /* the first tensor that has not been open */
  uint64_t factors;   /* bytes that the chain's means and right-hand factors take */
} vb_checker;

/* Sources, tensors, regions, then segment after segment; *segment is the one at fault, or UINT32_MAX.
 * `position` has room for one number per source. Sets t->out_size and t->work. */
const char *vb_check_table(vb_table *t, uint64_t *position, uint32_t *segment);

/* An operand that is there, of elements of `type`, and all that it reads. */
const char *vb_check_operand(vb_checker *c, const vb_segment *s, const vb_operand *o, int type);

/* Dimensions of at least 1 whose product times 8 is below 2^63. */
bool vb_check_dims(const uint64_t dim[VB_RANK]);

/* Add the elements of checked dimensions to t->work. */
void vb_count_work(vb_table *t, const uint64_t dim[VB_RANK]);

#endif
