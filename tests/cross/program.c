/* program.c - files, the ISA level and lines of text (contracts: program.h). */
#include "program.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vb_die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fflush(stdout);
  fprintf(stderr, "%s: ", program_invocation_short_name);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(3);
}

void *vb_allocate(size_t size) {
  void *memory = malloc(size ? size : 1);
  if (!memory) vb_die("no memory for %zu bytes", size);
  return memory;
}

vb_bytes vb_read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END) != 0) vb_die("%s: %s", path, strerror(errno));
  long size = ftell(file);
  rewind(file);
  vb_bytes bytes = {.data = vb_allocate((size_t)size), .size = (size_t)size};
  if (fread(bytes.data, 1, bytes.size, file) != bytes.size) vb_die("%s: cannot be read", path);
  fclose(file);
  return bytes;
}

const uint8_t *vb_take(vb_reader *r, uint64_t size) {
  if (size > (uint64_t)(r->end - r->at)) vb_die("the file ends too early");
  const uint8_t *bytes = r->at;
  r->at += size;
  return bytes;
}

uint32_t vb_take32(vb_reader *r) { return vb_load32(vb_take(r, 4)); }

uint64_t vb_take64(vb_reader *r) { return vb_load64(vb_take(r, 8)); }

vb_kernels vb_chosen_kernels(void) {
  const char *level = getenv("VBUILD_ISA");
  unsigned features;
  const char *bad;
  if (!vb_isa_parse(level && *level ? level : "native", &features, &bad))
    vb_die("VBUILD_ISA: no such instruction set here: %s", bad);
  vb_kernels k;
  vb_kernels_init(&k, features);
  return k;
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void vb_print_features(void) {
  const char *names[32];
  size_t n = 0;
  for (unsigned i = 0; i < 32; i++)
    if (vb_cpu_features() & 1u << i) names[n++] = vb_feature_name(1u << i);
  qsort(names, n, sizeof *names, by_name);
  fputs("features ", stdout);
  for (size_t i = 0; i < n; i++) printf("%s%s", i ? "," : "", names[i]);
  puts(n ? "" : "-");
}

void vb_print_digest(const char *name, const uint8_t digest[32]) {
  printf("%s ", name);
  for (int i = 0; i < 32; i++) printf("%02x", digest[i]);
  putchar('\n');
}
