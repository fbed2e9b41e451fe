/* mean.c - torch's cascade sum over rows (contracts: mean.h). */
#include "mean.h"

#include "arith_scalar.h"

enum { QUARTERS = 4 };

/* How many columns are left by the groups: torch's are four vectors of AVX2, or four scalars. */
static size_t rest_of(size_t cols) { return cols % (cols < 8 ? 4 : 32); }

size_t vb_mean_memory(size_t cols) {
  const size_t rest = rest_of(cols);
  return VB_MEAN_LEVELS * (cols - rest + QUARTERS * rest) * sizeof(float);
}

static vb_cascade cascade(float *sums, uint64_t rows, size_t cols) {
  unsigned log2 = 0; /* of rows, rounded up */
  while (log2 < 64 && (uint64_t)1 << log2 < rows) log2++;
  const unsigned power = log2 / VB_MEAN_LEVELS;
  return (vb_cascade){.sums = sums, .cols = cols, .power = power < 4 ? 4 : power};
}

void vb_mean_init(vb_mean *m, void *memory, uint64_t rows, size_t cols) {
  const size_t rest = rest_of(cols), groups = cols - rest;
  float *sums = memory;
  *m = (vb_mean){.rows = rows, .cols = cols};
  m->groups = cascade(sums, rows, groups);
  m->rest = cascade(sums + VB_MEAN_LEVELS * groups, rows / QUARTERS, QUARTERS * rest);
  if (cols != 0) memset(memory, 0, vb_mean_memory(cols));
}

/* sums[i] += addends[i]; the two do not overlap. */
static void add(float *restrict sums, const float *restrict addends, size_t n) {
  for (size_t i = 0; i < n; i++) sums[i] += addends[i];
}

static void add_elements(float *sums, const uint8_t *data, size_t n) {
  for (size_t i = 0; i < n; i++) sums[i] += vb_float(vb_load_f32(data, i));
}

/* A row is complete: add each level that is full to the next. */
static void carry(vb_cascade *c) {
  const uint64_t mask = ((uint64_t)1 << c->power) - 1;
  c->done++;
  if (c->done & mask) return;
  for (unsigned level = 1; level < VB_MEAN_LEVELS; level++) {
    float *below = c->sums + (level - 1) * c->cols;
    add(below + c->cols, below, c->cols);
    memset(below, 0, c->cols * sizeof *below);
    if (c->done & mask << level * c->power) break;
  }
}

/* The sum of all levels, in the lowest. */
static void collapse(const vb_cascade *c) {
  for (unsigned level = 1; level < VB_MEAN_LEVELS; level++)
    add(c->sums, c->sums + level * c->cols, c->cols);
}

/* Go on to the next row. */
static void end_row(vb_mean *m) {
  m->col = 0;
  m->row++;
  carry(&m->groups);
  if (m->row % QUARTERS == 0) carry(&m->rest);
  if (m->row == m->rows - m->rows % QUARTERS) collapse(&m->rest);
}

void vb_mean_add(vb_mean *m, const void *data, size_t n) {
  const vb_fp_env env = vb_fp_begin();
  const uint64_t whole = m->rows - m->rows % QUARTERS;
  const size_t groups = m->groups.cols;
  for (size_t at = 0; at < n;) {
    const bool grouped = m->col < groups;
    const size_t quarter = m->row < whole ? (size_t)(m->row % QUARTERS) : 0;
    const size_t left = (grouped ? groups : m->cols) - m->col;
    const size_t take = n - at < left ? n - at : left;
    float *sums = grouped ? m->groups.sums + m->col
                          : m->rest.sums + quarter * (m->cols - groups) + (m->col - groups);
    add_elements(sums, VB_AT(data, f32, at), take);
    at += take;
    m->col += take;
    if (m->col == m->cols) end_row(m);
  }
  vb_fp_end(env);
}

static void divide(void *out, const float *sums, size_t n, float by) {
  for (size_t i = 0; i < n; i++) {
    const vb_f32 mean = vb_float_bits(sums[i] / by);
    vb_store32(VB_AT_OUT(out, f32, i), vb_nan_f32(mean) ? 0x7FC00000u : mean);
  }
}

void vb_mean_final(vb_mean *m, void *out) {
  const vb_fp_env env = vb_fp_begin();
  const size_t groups = m->groups.cols, rest = m->cols - groups;
  collapse(&m->groups);
  for (size_t i = 1; i < QUARTERS; i++) add(m->rest.sums, m->rest.sums + i * rest, rest);
  divide(out, m->groups.sums, groups, (float)m->rows);
  divide(VB_AT_OUT(out, f32, groups), m->rest.sums, rest, (float)m->rows);
  vb_fp_end(env);
}
