/* reader.h - reading a view box after box, from its first element to its last.
 *
 * - A dense view is read as it lies in its file.
 * - Where a run of elements (a unit: a head of a permuted matrix) holds a whole range of the file and
 *   unit follows unit, the file is read as if the view were dense; a box that is less than a unit is
 *   taken from a window that has the unit.
 * - Any other view that is tagged is spooled: its span is read once, in file order, into a scratch
 *   file, and gathered from there. Without a tag it is gathered from its source.
 *
 * So whatever is tagged is read once, from its first byte to its last, into memory or a file of the
 * run's own, is tagged there, and is used from there (tag.h).
 */
#ifndef VB_READER_H
#define VB_READER_H

#include "fetch.h"

struct vb_machine;

enum { VB_READ_DENSE, VB_READ_UNITS, VB_READ_GATHERED, VB_READ_SPOOLED };

typedef struct vb_reader {
  vb_view view;
  int how;
  bool spooled;     /* the scratch file has it, and view.offset is an offset there */
  uint64_t unit;    /* elements */
  uint64_t held;    /* the unit in the window, or UINT64_MAX */
  uint8_t *window;  /* room for a unit */
} vb_reader;

/* How a view is read if windows may have `*room` bytes, of which it takes its own. */
vb_reader vb_reader_of(const vb_view *v, bool tagged, size_t *room);
/* Bytes of the reader's window. */
size_t vb_reader_window(const vb_reader *r);
/* Whether it needs large blocks and the large span. */
static inline bool vb_reader_gathers(const vb_reader *r) { return r->how >= VB_READ_GATHERED; }

/* The elements of a box of the view, which starts at its element `first`, into `out` with the strides
 * `to` (bytes). Boxes follow each other without gaps. The machine's span has room for the box. */
vb_status vb_reader_read(struct vb_machine *m, vb_reader *r, const vb_box *box, uint64_t first,
                         uint8_t *out, const uint64_t *to);

#endif
