/* A disk that remembers what was promised: preloaded into the service, it journals every change to the files below
 * POWER_ROOT, and every flush, in the order in which they happen; and it cuts the power, by ending the process, after
 * as many of them as the file POWER_FUSE says. From the journal the test works out what a disk would still hold.
 *
 * Nothing is really flushed: whether a flush was asked for is what counts, and the test decides what survives.
 *
 * A record of the journal, numbers in the machine's order:
 *   u8 kind | u16 length of path | u16 length of second path | u32 length of data | u64 offset | path | path | data
 *
 * The fuse is a u64: 0 never burns, n lets n - 1 further changes happen and cuts before the n-th.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 'c', WRITE = 'w', TRUNCATE = 't', FLUSH = 'f', RENAME = 'r', UNLINK = 'u', FOLDER = 'd' };

static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int journal = -1;
static volatile uint64_t *fuse;

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void die(const char *why) {
  dprintf(2, "power: %s: %s\n", why, strerror(errno));
  abort();
}

__attribute__((constructor)) static void plug_in(void) {
  const char *folder = getenv("POWER_ROOT");
  if (!folder || !realpath(folder, root)) die("POWER_ROOT");
  root_length = strlen(root);
  journal = (int)syscall(SYS_openat, AT_FDCWD, getenv("POWER_JOURNAL"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  int control = (int)syscall(SYS_openat, AT_FDCWD, getenv("POWER_FUSE"), O_RDWR | O_CLOEXEC);
  if (journal < 0 || control < 0) die("journal or fuse");
  fuse = mmap(NULL, sizeof *fuse, PROT_READ | PROT_WRITE, MAP_SHARED, control, 0);
  if (fuse == MAP_FAILED) die("fuse");
}

/* The path below the root, or NULL for what is not on this disk. The shared memory of SQLite's WAL index is rebuilt
 * after every crash. */
static const char *below(const char *path) {
  if (strncmp(path, root, root_length) != 0) return NULL;
  if (path[root_length] != '/' && path[root_length] != 0) return NULL;
  size_t length = strlen(path);
  if (length > 4 && strcmp(path + length - 4, "-shm") == 0) return NULL;
  return path[root_length] == '/' ? path + root_length + 1 : "";
}

static const char *of_descriptor(int fd, char *buffer) {
  char link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
  if (length <= 0 || buffer[0] != '/') return NULL;
  buffer[length] = 0;
  return below(buffer);
}

static const char *of_path(int folder, const char *path, char *buffer) {
  if (path[0] == '/') {
    snprintf(buffer, PATH_MAX, "%s", path);
  } else if (folder == AT_FDCWD) {
    if (!getcwd(buffer, PATH_MAX)) return NULL;
    size_t length = strlen(buffer);
    snprintf(buffer + length, PATH_MAX - length, "/%s", path);
  } else {
    die("paths relative to a descriptor are not followed");
  }
  return below(buffer);
}

/* Burns the fuse: called with the lock held, before the change happens. Whoever holds the lock dies with it, so the
 * journal ends with a whole record. */
static void burn(void) {
  if (*fuse == 0) return;
  if (--*fuse == 0) {
    syscall(SYS_kill, (int)syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
  }
}

static void record(enum kind kind, const char *path, const char *second, const void *data, size_t length, uint64_t offset) {
  struct __attribute__((packed)) {
    uint8_t kind;
    uint16_t path, second;
    uint32_t length;
    uint64_t offset;
  } head = {(uint8_t)kind, (uint16_t)strlen(path), (uint16_t)strlen(second), (uint32_t)length, offset};
  struct iovec parts[] = {
    {&head, sizeof head}, {(void *)path, head.path}, {(void *)second, head.second}, {(void *)data, length}};
  ssize_t all = (ssize_t)(sizeof head + head.path + head.second + length);
  if (syscall(SYS_writev, journal, parts, 4) != all) die("the journal cannot be written");
}

/* Runs CALL as one change of the disk, recorded if it succeeds. */
#define CHANGE(CALL, GOOD, ...) \
  pthread_mutex_lock(&disk); \
  burn(); \
  __typeof__(CALL) result = CALL; \
  int failure = errno; \
  if (GOOD) record(__VA_ARGS__); \
  pthread_mutex_unlock(&disk); \
  errno = failure; \
  return result

static int opened(int (*call)(int, const char *, int, mode_t), int folder, const char *path, int flags, mode_t mode) {
  char buffer[PATH_MAX];
  const char *name = (flags & O_CREAT) || (flags & O_TRUNC) ? of_path(folder, path, buffer) : NULL;
  struct stat before;
  if (!name) return call(folder, path, flags, mode);
  pthread_mutex_lock(&disk);
  int was_there = syscall(SYS_newfstatat, folder, path, &before, 0) == 0;
  if (!was_there || (flags & O_TRUNC)) burn();
  int fd = call(folder, path, flags, mode);
  int failure = errno;
  if (fd >= 0 && !was_there) record(CREATE, name, "", NULL, 0, 0);
  if (fd >= 0 && was_there && (flags & O_TRUNC)) record(TRUNCATE, name, "", NULL, 0, 0);
  pthread_mutex_unlock(&disk);
  errno = failure;
  return fd;
}

static int system_open(int folder, const char *path, int flags, mode_t mode) {
  return (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE(flags) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list arguments; \
    va_start(arguments, flags); \
    mode = va_arg(arguments, mode_t); \
    va_end(arguments); \
  }

int open(const char *path, int flags, ...) { MODE(flags) return opened(system_open, AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(system_open, AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return opened(system_open, folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return opened(system_open, folder, path, flags, mode); }

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  char buffer[PATH_MAX];
  const char *path = of_descriptor(fd, buffer);
  if (!path) return syscall(SYS_pwrite64, fd, data, length, offset);
  CHANGE(syscall(SYS_pwrite64, fd, data, length, offset), result > 0, WRITE, path, "", data, (size_t)result, (uint64_t)offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
  char buffer[PATH_MAX];
  const char *path = of_descriptor(fd, buffer);
  if (!path) return syscall(SYS_write, fd, data, length);
  off_t offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
  CHANGE(syscall(SYS_write, fd, data, length), result > 0, WRITE, path, "", data, (size_t)result, (uint64_t)offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  char buffer[PATH_MAX];
  REAL(writev);
  if (of_descriptor(fd, buffer)) die("writev on this disk is not recorded");
  return real(fd, parts, count);
}

int ftruncate64(int fd, off64_t length) {
  char buffer[PATH_MAX];
  const char *path = of_descriptor(fd, buffer);
  if (!path) return (int)syscall(SYS_ftruncate, fd, length);
  CHANGE((int)syscall(SYS_ftruncate, fd, length), result == 0, TRUNCATE, path, "", NULL, 0, (uint64_t)length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fsync(int fd) {
  char buffer[PATH_MAX];
  const char *path = of_descriptor(fd, buffer);
  if (!path) return (int)syscall(SYS_fsync, fd);
  CHANGE(0, 1, FLUSH, path, "", NULL, 0, 0);
}

int fdatasync(int fd) { return fsync(fd); }

int rename(const char *from, const char *to) {
  char buffers[2][PATH_MAX];
  const char *old = of_path(AT_FDCWD, from, buffers[0]), *new = of_path(AT_FDCWD, to, buffers[1]);
  if (!old && !new) return (int)syscall(SYS_rename, from, to);
  if (!old || !new) die("a rename onto or off this disk is not recorded");
  CHANGE((int)syscall(SYS_rename, from, to), result == 0, RENAME, old, new, NULL, 0, 0);
}

int unlink(const char *path) {
  char buffer[PATH_MAX];
  const char *name = of_path(AT_FDCWD, path, buffer);
  if (!name) return (int)syscall(SYS_unlink, path);
  CHANGE((int)syscall(SYS_unlink, path), result == 0, UNLINK, name, "", NULL, 0, 0);
}

int mkdir(const char *path, mode_t mode) {
  char buffer[PATH_MAX];
  const char *name = of_path(AT_FDCWD, path, buffer);
  if (!name) return (int)syscall(SYS_mkdir, path, mode);
  CHANGE((int)syscall(SYS_mkdir, path, mode), result == 0, FOLDER, name, "", NULL, 0, 0);
}
