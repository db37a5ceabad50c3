/* A disk that forgets at a power cut what was not synced.
 *
 * Preloaded into a process, this notes before every write or truncation of a file below $FORGET_BELOW what was there before, in one undo
 * log per file in $FORGET_UNDO, and drops a file's log when that file is synced. Whoever cuts the power kills the process and plays the
 * logs back (power.rs does). With $FORGET_SYNC=ignored a sync is answered and does nothing, as in a program that forgot to call it.
 *
 * While the file $FORGET_FULL is there the disk is full: what would make a file longer fails with ENOSPC, or, where it is not empty, with EDQUOT.
 *
 * While the file $FORGET_EIO is there, so many of a thousand reads of a database's files as it says fail with EIO.
 *
 * One record of a log: offset, length of the old bytes, old size of the file (64 bits each, native order), then the old bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The path of the undo log of the file behind fd, or 0 where the file is none of ours. */
static int log_path(int fd, char *out, size_t size) {
  const char *below = getenv("FORGET_BELOW"), *undo = getenv("FORGET_UNDO");
  char link[64], path[PATH_MAX];
  if (!below || !undo) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  if (strncmp(path, below, strlen(below)) != 0) return 0;
  /* Shared memory is gone after a power cut anyway, and is never written through here. */
  if (length > 4 && strcmp(path + length - 4, "-shm") == 0) return 0;
  for (char *c = path; *c; c++)
    if (*c == '/') *c = '%';
  snprintf(out, size, "%s/%s", undo, path);
  return 1;
}

/* The error of writing up to `end` where that would need room that is not there, else 0. */
static int no_room(int fd, uint64_t end) {
  const char *full = getenv("FORGET_FULL");
  char path[PATH_MAX * 2];
  struct stat now, mark;
  if (!full || stat(full, &mark) != 0 || !log_path(fd, path, sizeof path) || fstat(fd, &now) != 0) return 0;
  if (end <= (uint64_t)now.st_size) return 0;
  return mark.st_size > 0 ? EDQUOT : ENOSPC;
}

/* Whether a read fails: of a database and its log, and only so often. */
static int read_fails(int fd) {
  const char *failing = getenv("FORGET_EIO");
  char path[PATH_MAX * 2], often[16] = "";
  static _Thread_local unsigned seed;
  if (!failing) return 0;
  int file = (int)syscall(SYS_openat, AT_FDCWD, failing, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  syscall(SYS_read, file, often, sizeof often - 1);
  close(file);
  if (!log_path(fd, path, sizeof path) || !strstr(path, "journal.db")) return 0;
  if (!seed) seed = (unsigned)getpid() * 31 + (unsigned)syscall(SYS_gettid);
  return rand_r(&seed) % 1000 < atoi(often);
}

ssize_t read(int fd, void *bytes, size_t count) {
  if (read_fails(fd)) {
    errno = EIO;
    return -1;
  }
  return syscall(SYS_read, fd, bytes, count);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) {
  if (read_fails(fd)) {
    errno = EIO;
    return -1;
  }
  return syscall(SYS_pread64, fd, bytes, count, offset);
}
ssize_t pread(int fd, void *bytes, size_t count, off_t offset) { return pread64(fd, bytes, count, offset); }

static void note(int fd, uint64_t offset, uint64_t count) {
  char path[PATH_MAX * 2];
  struct stat before;
  if (!log_path(fd, path, sizeof path) || fstat(fd, &before) != 0 || !S_ISREG(before.st_mode)) return;
  uint64_t size = (uint64_t)before.st_size, kept = offset < size ? size - offset : 0;
  if (kept > count) kept = count;
  char *record = malloc(24 + kept);
  if (!record) abort();
  memcpy(record, &offset, 8);
  memcpy(record + 16, &size, 8);
  /* The file may be open for writing only: read it by a descriptor of our own. */
  if (kept > 0) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int own = open(link, O_RDONLY | O_CLOEXEC);
    ssize_t got = own < 0 ? -1 : syscall(SYS_pread64, own, record + 24, kept, offset);
    if (own >= 0) close(own);
    if (got < 0) abort();
    kept = (uint64_t)got;
  }
  memcpy(record + 8, &kept, 8);
  pthread_mutex_lock(&lock);
  int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0 || syscall(SYS_write, log, record, 24 + kept) != (long)(24 + kept)) abort();
  close(log);
  pthread_mutex_unlock(&lock);
  free(record);
}

static int synced(int fd) {
  const char *ignored = getenv("FORGET_SYNC");
  char path[PATH_MAX * 2];
  if (ignored && strcmp(ignored, "ignored") == 0) return 0;
  if (log_path(fd, path, sizeof path)) {
    pthread_mutex_lock(&lock);
    unlink(path);
    pthread_mutex_unlock(&lock);
  }
  return 0;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  int full = no_room(fd, (uint64_t)offset + count);
  if (full) {
    errno = full;
    return -1;
  }
  note(fd, (uint64_t)offset, count);
  return syscall(SYS_pwrite64, fd, bytes, count, offset);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset) {
  uint64_t length = 0;
  for (int i = 0; i < count; i++) length += pieces[i].iov_len;
  note(fd, (uint64_t)offset, length);
  return syscall(SYS_pwritev, fd, pieces, count, offset, 0);
}
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset) { return pwritev64(fd, pieces, count, offset); }

ssize_t write(int fd, const void *bytes, size_t count) {
  off_t at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
  if (at >= 0) note(fd, (uint64_t)at, count);
  return syscall(SYS_write, fd, bytes, count);
}

int ftruncate64(int fd, off64_t length) {
  note(fd, (uint64_t)length, UINT64_MAX - (uint64_t)length);
  return (int)syscall(SYS_ftruncate, fd, length);
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* The real sync is left out: the process is killed, not the machine, so the page cache stays. */
int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }
