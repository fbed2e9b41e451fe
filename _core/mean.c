/* mean.c - torch's cascade sum over rows (contracts: mean.h). */
#include "mean.h"

#include "arith_scalar.h"

size_t vb_mean_memory(size_t cols) { return VB_MEAN_LEVELS * cols * sizeof(float); }

void vb_mean_init(vb_mean *m, void *memory, uint64_t rows, size_t cols) {
  unsigned log2 = 0; /* of rows, rounded up */
  while (log2 < 64 && (uint64_t)1 << log2 < rows) log2++;
  const unsigned power = log2 / VB_MEAN_LEVELS;
  *m = (vb_mean){.sums = memory, .rows = rows, .cols = cols, .power = power < 4 ? 4 : power};
  if (cols != 0) memset(memory, 0, vb_mean_memory(cols));
}

/* sums[i] += addends[i]; the two do not overlap. */
static void accumulate(float *restrict sums, const float *restrict addends, size_t n) {
  for (size_t i = 0; i < n; i++) sums[i] += addends[i];
}

static void accumulate_elements(float *sums, const void *data, size_t n) {
  for (size_t i = 0; i < n; i++) sums[i] += vb_float(vb_load_f32(data, i));
}

/* Add each level that is full to the next. */
static void carry(vb_mean *m) {
  const uint64_t mask = ((uint64_t)1 << m->power) - 1;
  if (m->done & mask) return;
  for (unsigned level = 1; level < VB_MEAN_LEVELS; level++) {
    float *below = m->sums + (level - 1) * m->cols;
    accumulate(below + m->cols, below, m->cols);
    memset(below, 0, m->cols * sizeof *below);
    if (m->done & mask << level * m->power) break;
  }
}

void vb_mean_add(vb_mean *m, const void *data, size_t n) {
  const vb_fp_env env = vb_fp_begin();
  for (size_t at = 0; at < n;) {
    const size_t left = m->cols - m->col, take = n - at < left ? n - at : left;
    accumulate_elements(m->sums + m->col, VB_AT(data, f32, at), take);
    at += take;
    m->col += take;
    if (m->col == m->cols) {
      m->col = 0;
      m->done++;
      carry(m);
    }
  }
  vb_fp_end(env);
}

void vb_mean_final(vb_mean *m, void *out) {
  const vb_fp_env env = vb_fp_begin();
  for (unsigned level = 1; level < VB_MEAN_LEVELS; level++)
    accumulate(m->sums, m->sums + level * m->cols, m->cols);
  for (size_t i = 0; i < m->cols; i++) {
    const vb_f32 mean = vb_float_bits(m->sums[i] / (float)m->rows);
    vb_store32(VB_AT_OUT(out, f32, i), vb_nan_f32(mean) ? 0x7FC00000u : mean);
  }
  vb_fp_end(env);
}
