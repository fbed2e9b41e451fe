/* run_table.c - a table, run and told as text (contract: vb_run_table). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "program.h"

static const char *status_name(vb_status status) {
  switch (status) {
    case VB_OK: return "ok";
    case VB_STOPPED: return "stopped";
    case VB_READ_FAILED: return "read-failed";
    case VB_READ_SHORT: return "read-short";
    case VB_WRITE_FAILED: return "write-failed";
    case VB_NONFINITE: return "nonfinite";
    case VB_NO_MEMORY: return "no-memory";
  }
  return "unknown";
}

/* Room for the digests of `n` things, of its exact size. */
static uint8_t *digests(size_t n) { return vb_allocate(32 * n); }

/* All fields of vb_difference; the distance in f64 as its bits. */
static void print_difference(uint32_t tensor, const vb_difference *d) {
  uint64_t max_abs;
  memcpy(&max_abs, &d->max_abs, sizeof max_abs);
  printf("difference %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIx64 " %" PRIx64, tensor, d->count,
         d->first, d->first_bits[0], d->first_bits[1]);
  printf(" %" PRIu64 " %" PRIu64 " %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", d->max_ulp,
         d->max_ulp_at, max_abs, d->max_abs_at, d->unordered);
}

static void print_result(const vb_table *t, const vb_job *job) {
  char name[32];
  vb_print_digest("output", job->out_digest);
  for (uint32_t i = 0; i < t->nsources; i++) {
    snprintf(name, sizeof name, "source %" PRIu32, i);
    if (vb_table_source(t, i).mode == VB_SOURCE_PLAIN)
      printf("%s -\n", name);
    else
      vb_print_digest(name, job->source_digest + 32 * (size_t)i);
  }
  for (uint32_t i = 0; i < t->ntensors; i++) {
    snprintf(name, sizeof name, "tensor %" PRIu32, i);
    vb_print_digest(name, job->tensor_digest + 32 * (size_t)i);
  }
  for (uint32_t i = 0; job->difference && i < t->ntensors; i++) print_difference(i, &job->difference[i]);
}

static void print_fault(const vb_fault *f) {
  printf("fault %s", status_name(f->status));
  if (f->status == VB_READ_FAILED || f->status == VB_READ_SHORT)
    printf(" source %" PRIu32, f->source);
  if (f->status == VB_NONFINITE)
    printf(" segment %" PRIu32 " index %" PRIu64 " bits %" PRIx64 " %" PRIx64 " %" PRIx64,
           f->segment, f->index, f->bits[0], f->bits[1], f->bits[2]);
  putchar('\n');
}

/* Regions are tagged under this key. What the tags are is no format (tag.h), so none is printed. */
static const uint8_t tag_key[VB_TAG_KEY_SIZE] = {1, 2, 3};

static int run(const vb_kernels *k, const vb_table *t, const int *fds, int out_fd) {
  vb_control control = {0};
  const char *spare = getenv("SPARE_THREADS");
  vb_control_lend(&control, spare ? atoi(spare) : 0);
  vb_fault fault;
  vb_job job = {.table = t,
                .kernels = k,
                .fds = fds,
                .out_fd = out_fd,
                .scratch_fd = -1,
                .hash_output = true,
                .control = &control,
                .tag_key = tag_key,
                .source_digest = digests(t->nsources),
                .tensor_digest = digests(t->ntensors),
                .region_tag = vb_allocate(16 * (size_t)t->nregions)};
  if (vb_table_compares(t)) {
    job.difference = vb_allocate(t->ntensors * sizeof *job.difference);
    memset(job.difference, 0, t->ntensors * sizeof *job.difference);
  }
  vb_status status = vb_run(&job, &fault);
  if (status == VB_OK)
    print_result(t, &job);
  else
    print_fault(&fault);
  free(job.source_digest);
  free(job.tensor_digest);
  free(job.region_tag);
  free(job.difference);
  return status == VB_OK ? 0 : 1;
}

int vb_run_table(const vb_kernels *k, vb_bytes table, const int *fds, size_t nfds, int out_fd,
                 uint64_t limit) {
  uint32_t n = vb_table_nsources(table.data, table.size);
  if (n > table.size) n = 0; /* the parser refuses it before it looks at a source */
  uint64_t *scratch = vb_allocate(n * sizeof *scratch);
  vb_table t;
  vb_table_error error;
  bool parsed = vb_table_parse(&t, table.data, table.size, scratch, &error);
  free(scratch);
  if (!parsed) {
    if (error.segment == UINT32_MAX)
      printf("refused - %s\n", error.what);
    else
      printf("refused %" PRIu32 " %s\n", error.segment, error.what);
    return 2;
  }
  if (t.out_size > limit || t.work > limit) {
    puts("large");
    return 2;
  }
  if (nfds != t.nsources) vb_die("the table has %" PRIu32 " sources, got %zu", t.nsources, nfds);
  return run(k, &t, fds, out_fd);
}
