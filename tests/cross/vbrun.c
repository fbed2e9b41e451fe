/* vbrun.c - vbrun TABLE OUT SOURCE...
 *
 * Runs a serialized table over files and prints the digests of output, sources and tensors, after a
 * line with the CPU's features. "-" for OUT writes nothing. Without arguments, features only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

static int open_file(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC, 0666);
  if (fd < 0) vb_die("%s: %s", path, strerror(errno));
  return fd;
}

int main(int argc, char **argv) {
  vb_print_features();
  if (argc == 1) return 0;
  if (argc < 3) vb_die("usage: vbrun [TABLE OUT SOURCE...]");
  const vb_kernels k = vb_chosen_kernels();
  vb_bytes table = vb_read_file(argv[1]);
  size_t nfds = (size_t)argc - 3;
  int *fds = vb_allocate(nfds * sizeof *fds);
  for (size_t i = 0; i < nfds; i++) fds[i] = open_file(argv[3 + i], O_RDONLY);
  int out = strcmp(argv[2], "-") == 0 ? -1 : open_file(argv[2], O_WRONLY | O_CREAT | O_TRUNC);
  int status = vb_run_table(&k, table, fds, nfds, out, UINT64_MAX);
  if (out >= 0 && close(out) != 0) vb_die("%s: %s", argv[2], strerror(errno));
  for (size_t i = 0; i < nfds; i++) close(fds[i]);
  free(fds);
  free(table.data);
  return status;
}
