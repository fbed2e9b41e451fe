/* product_simd.h - the loops of the SIMD low-rank products, the same for every instruction set.
 *
 * Vectors run across columns, so the order of the terms does not depend on their width. The work is
 * cut in three:
 * - panels of PRODUCT_COLS columns by PRODUCT_DEPTH terms of `right`, copied so that they are
 *   dense, and used for all rows before the next; sums stay in `out` between panels;
 * - tiles of PRODUCT_ROWS rows, whose sums stay in registers all through a panel;
 * - a panel that has fewer columns is filled up with zeros, and the surplus sums are dropped.
 *
 * The file that includes this has included a vec_<isa>.h and says
 * - PRODUCT_ROWS (at most 8), PRODUCT_VECTORS (of a row of a tile) and PRODUCT_DEPTH;
 * - vec_set_f32(x): x in every lane; vec_mul_f32(x, y); vec_fma_f32(x, y, z): x * y + z;
 * - vec_one_nan_f32(v): v with every NaN as 0x7FC00000.
 */
#ifndef VB_PRODUCT_SIMD_H
#define VB_PRODUCT_SIMD_H

#include "arith.h"

enum { PRODUCT_COLS = PRODUCT_VECTORS * VEC_LANES_f32 };

/* Some terms of a product. Elements are at any address; strides and rank count elements. */
typedef struct product_part {
  const uint8_t *left, *right;
  uint8_t *out;
  size_t rank, right_stride, out_stride, depth;
  bool first, last; /* whether no terms come before these, or after them */
  float scale;
} product_part;

static inline vec_f32 product_scalar(const uint8_t *p) {
  float x;
  memcpy(&x, p, sizeof x);
  return vec_set_f32(x);
}

/* A tile of `rows` rows from row i on; rows is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void product_rows(const product_part *p, size_t i,
                                                               const int rows) {
  vec_f32 sum[PRODUCT_ROWS][PRODUCT_VECTORS];
  uint8_t *out = VB_AT_OUT(p->out, f32, i * p->out_stride);
  const uint8_t *left = VB_AT(p->left, f32, i * p->rank), *right = p->right;
#define PRODUCT_EACH                                  \
  _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++) \
      _Pragma("GCC unroll 8") for (int v = 0; v < PRODUCT_VECTORS; v++)
#define PRODUCT_OUT VB_AT_OUT(out, f32, (size_t)r * p->out_stride + (size_t)v * VEC_LANES_f32)
  PRODUCT_EACH sum[r][v] = p->first ? vec_set_f32(0) : vec_load_f32(PRODUCT_OUT);
  for (size_t k = 0; k < p->depth; k++) {
    vec_f32 b[PRODUCT_VECTORS];
    _Pragma("GCC unroll 8") for (int v = 0; v < PRODUCT_VECTORS; v++)
        b[v] = vec_load_f32(VB_AT(right, f32, (size_t)v * VEC_LANES_f32));
    _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++) {
      const vec_f32 a = product_scalar(VB_AT(left, f32, (size_t)r * p->rank + k));
      _Pragma("GCC unroll 8") for (int v = 0; v < PRODUCT_VECTORS; v++)
          sum[r][v] = vec_fma_f32(a, b[v], sum[r][v]);
    }
    right = VB_AT(right, f32, p->right_stride);
  }
  const vec_f32 scale = vec_set_f32(p->scale);
  PRODUCT_EACH {
    const vec_f32 result = vec_one_nan_f32(vec_mul_f32(sum[r][v], scale));
    (void)vec_store_f32(PRODUCT_OUT, p->last ? result : sum[r][v]);
  }
#undef PRODUCT_EACH
#undef PRODUCT_OUT
}

static void product_tile(const product_part *p, size_t i, size_t rows) {
  switch (rows) {
    case 1: product_rows(p, i, 1); break;
    case 2: product_rows(p, i, 2); break;
    case 3: product_rows(p, i, 3); break;
    case 4: product_rows(p, i, 4); break;
    case 5: product_rows(p, i, 5); break;
    default: product_rows(p, i, PRODUCT_ROWS); break;
  }
}

/* Copy `depth` rows of `width` elements from a matrix of `cols` columns. */
static void product_pack(float *panel, const uint8_t *right, size_t cols, size_t depth,
                         size_t width) {
  for (size_t k = 0; k < depth; k++, panel += PRODUCT_COLS) {
    const uint8_t *row = VB_AT(right, f32, k * cols);
    if (width == PRODUCT_COLS) {
      memcpy(panel, row, PRODUCT_COLS * sizeof *panel);
    } else {
      memset(panel, 0, PRODUCT_COLS * sizeof *panel);
      memcpy(panel, row, width * sizeof *panel);
    }
  }
}

/* A tile of a panel that is not full: its sums go through a tile of full width. */
static void product_narrow(const product_part *p, size_t i, size_t rows, size_t width) {
  float tile[PRODUCT_ROWS * PRODUCT_COLS] = {0};
  const size_t size = width * sizeof *tile;
  product_part q = *p;
  q.left = VB_AT(p->left, f32, i * p->rank);
  q.out = (uint8_t *)tile;
  q.out_stride = PRODUCT_COLS;
  for (size_t r = 0; r < rows && !p->first; r++)
    memcpy(tile + r * PRODUCT_COLS, VB_AT(p->out, f32, (i + r) * p->out_stride), size);
  product_tile(&q, 0, rows);
  for (size_t r = 0; r < rows; r++)
    memcpy(VB_AT_OUT(p->out, f32, (i + r) * p->out_stride), tile + r * PRODUCT_COLS, size);
}

static void product_panel(const product_part *p, size_t rows, size_t width) {
  for (size_t i = 0; i < rows; i += PRODUCT_ROWS) {
    const size_t count = rows - i < PRODUCT_ROWS ? rows - i : PRODUCT_ROWS;
    if (width == PRODUCT_COLS)
      product_tile(p, i, count);
    else
      product_narrow(p, i, count, width);
  }
}

/* vb_product_fn. A product of no terms is one part, too. */
static void product_simd(void *out, const void *left, const void *right, size_t rows, size_t rank,
                         size_t cols, float scale) {
  const vb_fp_env env = vb_fp_begin();
  _Alignas(64) float panel[PRODUCT_DEPTH * PRODUCT_COLS];
  for (size_t j = 0; j < cols; j += PRODUCT_COLS) {
    const size_t width = cols - j < PRODUCT_COLS ? cols - j : PRODUCT_COLS;
    size_t k = 0;
    do {
      const size_t depth = rank - k < PRODUCT_DEPTH ? rank - k : PRODUCT_DEPTH;
      const uint8_t *part = VB_AT(right, f32, k * cols + j);
      /* For a single tile a copy does not pay. */
      const bool dense = rows > PRODUCT_ROWS || width < PRODUCT_COLS;
      if (dense) product_pack(panel, part, cols, depth, width);
      product_panel(&(product_part){.left = VB_AT(left, f32, k),
                                    .right = dense ? (const uint8_t *)panel : part,
                                    .out = VB_AT_OUT(out, f32, j),
                                    .rank = rank,
                                    .right_stride = dense ? PRODUCT_COLS : cols,
                                    .out_stride = cols,
                                    .depth = depth,
                                    .first = k == 0,
                                    .last = k + depth == rank,
                                    .scale = scale},
                    rows, width);
      k += depth;
    } while (k < rank);
  }
  vb_fp_end(env);
}

#endif
