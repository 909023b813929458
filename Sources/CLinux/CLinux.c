#define _GNU_SOURCE
#include "CLinux.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

const uint32_t clinux_readable = EPOLLIN;
const uint32_t clinux_writable = EPOLLOUT;
const uint32_t clinux_peer_closed = EPOLLRDHUP;
const uint32_t clinux_hung_up = EPOLLHUP;
const uint32_t clinux_failed = EPOLLERR;
const uint32_t clinux_edge = EPOLLET;

static int checked(int result) { return result < 0 ? -errno : result; }

int clinux_epoll_create(void) { return checked(epoll_create1(EPOLL_CLOEXEC)); }

int clinux_epoll_add(int epoll, int descriptor, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events, .data.u64 = token};
  return checked(epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event));
}

int clinux_epoll_remove(int epoll, int descriptor) {
  struct epoll_event event = {0};
  return checked(epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, &event));
}

int clinux_epoll_wait(int epoll, struct clinux_event *events, int capacity, int timeout_ms) {
  // The kernel's structure is packed on some architectures only, so it stays on this side.
  struct epoll_event ready[256];
  if (capacity > 256) capacity = 256;
  int count = epoll_wait(epoll, ready, capacity, timeout_ms);
  if (count < 0) return -errno;
  for (int i = 0; i < count; i++) {
    events[i].token = ready[i].data.u64;
    events[i].events = ready[i].events;
    events[i].reserved = 0;
  }
  return count;
}

int clinux_eventfd(void) { return checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

int clinux_eventfd_wake(int descriptor) {
  uint64_t one = 1;
  return write(descriptor, &one, sizeof one) < 0 ? -errno : 0;
}

static socklen_t inet_address(struct sockaddr_storage *storage, const uint8_t *address, uint16_t port, int family) {
  memset(storage, 0, sizeof *storage);
  if (family == 4) {
    struct sockaddr_in *in = (struct sockaddr_in *)storage;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, address + 12, 4);
    return sizeof *in;
  }
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)storage;
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(port);
  memcpy(&in6->sin6_addr, address, 16);
  return sizeof *in6;
}

static int unix_address(struct sockaddr_un *un, const char *path) {
  size_t count = strlen(path);
  if (count == 0 || count >= sizeof un->sun_path) return -ENAMETOOLONG;
  memset(un, 0, sizeof *un);
  un->sun_family = AF_UNIX;
  memcpy(un->sun_path, path, count);
  return 0;
}

static void internet_address(const struct sockaddr_storage *storage, uint8_t *address, uint16_t *port, int *family) {
  memset(address, 0, 16);
  *port = 0;
  *family = 0;
  if (storage->ss_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)storage;
    address[10] = address[11] = 0xff;
    memcpy(address + 12, &in->sin_addr, 4);
    *port = ntohs(in->sin_port);
    *family = 4;
  } else if (storage->ss_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)storage;
    memcpy(address, &in6->sin6_addr, 16);
    *port = ntohs(in6->sin6_port);
    *family = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? 4 : 6;
  }
}

int clinux_accept(int listener, uint8_t *address, uint16_t *port, int *family) {
  struct sockaddr_storage peer;
  socklen_t count = sizeof peer;
  int descriptor = accept4(listener, (struct sockaddr *)&peer, &count, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (descriptor < 0) return -errno;
  internet_address(&peer, address, port, family);
  return descriptor;
}

int clinux_stream_socket(int family) {
  int domain = family == 4 ? AF_INET : family == 6 ? AF_INET6 : AF_UNIX;
  return checked(socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

int clinux_bind_inet(int descriptor, const uint8_t *address, uint16_t port, int family, int reuse_port) {
  int one = 1;
  if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0) return -errno;
  if (reuse_port && setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) < 0) return -errno;
  if (family == 6 && setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0) return -errno;
  struct sockaddr_storage storage;
  socklen_t count = inet_address(&storage, address, port, family);
  return checked(bind(descriptor, (struct sockaddr *)&storage, count));
}

int clinux_bind_unix(int descriptor, const char *path) {
  struct sockaddr_un un;
  int bad = unix_address(&un, path);
  if (bad < 0) return bad;
  return checked(bind(descriptor, (struct sockaddr *)&un, sizeof un));
}

int clinux_listen(int descriptor, int backlog) { return checked(listen(descriptor, backlog)); }

int clinux_connect_inet(int descriptor, const uint8_t *address, uint16_t port, int family) {
  struct sockaddr_storage storage;
  socklen_t count = inet_address(&storage, address, port, family);
  return checked(connect(descriptor, (struct sockaddr *)&storage, count));
}

int clinux_connect_unix(int descriptor, const char *path) {
  struct sockaddr_un un;
  int bad = unix_address(&un, path);
  if (bad < 0) return bad;
  return checked(connect(descriptor, (struct sockaddr *)&un, sizeof un));
}

static int probe_unix(const char *path) {
  int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -errno;
  int result = clinux_connect_unix(descriptor, path);
  close(descriptor);
  return result;
}

int clinux_unix_is_stale(const char *path) {
  struct stat status;
  // Connecting to a file of another kind is refused as well, and that file must not be replaced.
  if (lstat(path, &status) != 0 || !S_ISSOCK(status.st_mode)) return 0;
  return probe_unix(path) == -ECONNREFUSED;
}

int clinux_unix_is_listening(const char *path) {
  int result = probe_unix(path);
  // A full backlog answers EAGAIN.
  return result >= 0 || result == -EAGAIN || result == -EINPROGRESS;
}

int clinux_local_port(int descriptor) {
  struct sockaddr_storage own;
  socklen_t count = sizeof own;
  if (getsockname(descriptor, (struct sockaddr *)&own, &count) < 0) return -errno;
  if (own.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&own)->sin_port);
  if (own.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&own)->sin6_port);
  return 0;
}

int clinux_local_address(int descriptor, uint8_t *address, uint16_t *port, int *family) {
  struct sockaddr_storage own;
  socklen_t count = sizeof own;
  if (getsockname(descriptor, (struct sockaddr *)&own, &count) < 0) return -errno;
  internet_address(&own, address, port, family);
  return 0;
}

int clinux_no_delay(int descriptor) {
  int one = 1;
  return checked(setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
}

int clinux_keep_alive(int descriptor, int idle_s, int interval_s, int count) {
  int one = 1;
  if (setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) < 0) return -errno;
  if (setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s) < 0) return -errno;
  if (setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s) < 0) return -errno;
  return checked(setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count));
}

int clinux_socket_error(int descriptor) {
  int error = 0;
  socklen_t count = sizeof error;
  if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &count) < 0) return -errno;
  return -error;
}

int clinux_reset_on_close(int descriptor) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  return checked(setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof now));
}

long clinux_receive(int descriptor, void *octets, size_t capacity) {
  ssize_t count;
  do count = recv(descriptor, octets, capacity, 0);
  while (count < 0 && errno == EINTR);
  return count < 0 ? -errno : count;
}

long clinux_peek(int descriptor, void *octets, size_t capacity) {
  ssize_t count;
  do count = recv(descriptor, octets, capacity, MSG_PEEK);
  while (count < 0 && errno == EINTR);
  return count < 0 ? -errno : count;
}

long clinux_send(int descriptor, const void *octets, size_t count, int more_follows) {
  ssize_t sent;
  do sent = send(descriptor, octets, count, MSG_NOSIGNAL | (more_follows ? MSG_MORE : 0));
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

long clinux_send_two(int descriptor, const void *first, size_t first_count, const void *second, size_t second_count) {
  struct iovec parts[2] = {{(void *)first, first_count}, {(void *)second, second_count}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  ssize_t sent;
  do sent = sendmsg(descriptor, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

int clinux_pipe(int ends[2], int capacity) {
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) return -errno;
  if (fcntl(ends[0], F_SETPIPE_SZ, capacity) >= capacity) return 0;
  int code = errno;
  close(ends[0]);
  close(ends[1]);
  return -code;
}

long clinux_splice(int from, int to, size_t count) {
  ssize_t moved;
  do moved = splice(from, NULL, to, NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  while (moved < 0 && errno == EINTR);
  return moved < 0 ? -errno : moved;
}

int clinux_shutdown_write(int descriptor) { return checked(shutdown(descriptor, SHUT_WR)); }
int clinux_close(int descriptor) { return checked(close(descriptor)); }
int clinux_open_null(void) { return checked(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

int clinux_pin_thread(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  return checked(sched_setaffinity(0, sizeof set, &set));
}

int clinux_name_thread(unsigned long thread, const char *name) { return -pthread_setname_np((pthread_t)thread, name); }

int clinux_core_count(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  return CPU_COUNT(&set);
}

int clinux_raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) < 0) getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur > 1 << 30 ? 1 << 30 : (int)limit.rlim_cur;
}

void clinux_forbid_core_dumps(void) {
  struct rlimit none = {0, 0};
  if (getrlimit(RLIMIT_CORE, &none) == 0) none.rlim_cur = 0;
  setrlimit(RLIMIT_CORE, &none);
}

void clinux_tune_allocator(void) {
  // Trimming the heap's top again and again costs a system call and page faults each time.
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

int clinux_resolve(const char *host, uint8_t *entries, int capacity) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
  int failure = getaddrinfo(host, NULL, &hints, &list);
  if (failure != 0) return failure == EAI_SYSTEM ? -errno : -EHOSTUNREACH;
  int count = 0;
  for (struct addrinfo *item = list; item && count < capacity; item = item->ai_next) {
    uint8_t *entry = entries + 17 * count;
    memset(entry, 0, 17);
    if (item->ai_family == AF_INET) {
      entry[0] = 4;
      entry[11] = entry[12] = 0xff;
      memcpy(entry + 13, &((struct sockaddr_in *)item->ai_addr)->sin_addr, 4);
    } else if (item->ai_family == AF_INET6) {
      entry[0] = 6;
      memcpy(entry + 1, &((struct sockaddr_in6 *)item->ai_addr)->sin6_addr, 16);
    } else {
      continue;
    }
    count++;
  }
  freeaddrinfo(list);
  return count;
}
