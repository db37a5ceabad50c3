/* A disk whose syncs end when somebody says so.
 *
 * Preloaded into a process: each fdatasync and fsync connects to the socket $DISK_GATE and returns when that is closed. Nothing is synced.
 * Where nobody listens there, it returns at once.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int wait_at_gate(void) {
  struct sockaddr_un gate = {.sun_family = AF_UNIX};
  const char *path = getenv("DISK_GATE");
  if (!path || strlen(path) >= sizeof gate.sun_path) return 0;
  strcpy(gate.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  char byte;
  if (connect(fd, (struct sockaddr *)&gate, sizeof gate) == 0) (void)!read(fd, &byte, 1);
  close(fd);
  return 0;
}

int fdatasync(int fd) {
  (void)fd;
  return wait_at_gate();
}

int fsync(int fd) {
  (void)fd;
  return wait_at_gate();
}
