/* vbreplay.c - vbreplay CORPUS
 *
 * Runs many tables in one process, valid and malformed ones, and prints for each the line "case I"
 * and what vb_run_table prints; then, if it ran, "written HEX", the digest of what is in its file.
 *
 * A corpus is little-endian, one case after the other: size of the table (u32), number of sources
 * (u32), size of each source (u64), the table, the sources' contents.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

enum { LIMIT = 16 << 20 }; /* bytes of output, elements; a mutated table may ask for 2^60 */

/* An unnamed file that holds `size` bytes. */
static int memory_file(const uint8_t *data, uint64_t size) {
  int fd = memfd_create("case", MFD_CLOEXEC);
  if (fd < 0) vb_die("memfd_create: %s", strerror(errno));
  for (uint64_t done = 0; done < size;) {
    ssize_t put = write(fd, data + done, size - done);
    if (put < 0) vb_die("write: %s", strerror(errno));
    done += (uint64_t)put;
  }
  return fd;
}

static void print_written(const vb_kernels *k, int fd) {
  struct stat about;
  if (fstat(fd, &about) != 0) vb_die("fstat: %s", strerror(errno));
  vb_bytes content = {.data = vb_allocate((size_t)about.st_size), .size = (size_t)about.st_size};
  if (pread(fd, content.data, content.size, 0) != about.st_size) vb_die("the output is short");
  vb_sha256 stream;
  vb_sha256_init(&stream);
  vb_sha256_job job = {.stream = &stream, .data = content.data, .size = content.size};
  vb_sha256_update(k, &job, 1);
  uint8_t digest[32];
  vb_sha256_final(k, &stream, digest);
  vb_print_digest("written", digest);
  free(content.data);
}

static void replay(const vb_kernels *k, vb_reader *r) {
  uint32_t size = vb_take32(r), n = vb_take32(r);
  const uint8_t *sizes = vb_take(r, 8 * (uint64_t)n);
  vb_bytes table = {.data = vb_allocate(size), .size = size};
  memcpy(table.data, vb_take(r, size), size);
  int *fds = vb_allocate(n * sizeof *fds);
  for (uint32_t i = 0; i < n; i++) {
    uint64_t length = vb_load64(sizes + 8 * (size_t)i);
    fds[i] = memory_file(vb_take(r, length), length);
  }
  int out = memory_file(NULL, 0);
  if (vb_run_table(k, table, fds, n, out, LIMIT) == 0) print_written(k, out);
  close(out);
  for (uint32_t i = 0; i < n; i++) close(fds[i]);
  free(fds);
  free(table.data);
}

int main(int argc, char **argv) {
  if (argc != 2) vb_die("usage: vbreplay CORPUS");
  const vb_kernels k = vb_chosen_kernels();
  vb_bytes corpus = vb_read_file(argv[1]);
  vb_reader r = {.at = corpus.data, .end = corpus.data + corpus.size};
  for (unsigned long i = 0; r.at < r.end; i++) {
    printf("case %lu\n", i);
    fflush(stdout); /* whatever happens next, it is known in which case */
    replay(&k, &r);
  }
  free(corpus.data);
  return 0;
}
