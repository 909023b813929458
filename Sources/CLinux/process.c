#define _GNU_SOURCE
#include "CLinux.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <netinet/in.h>
#include <stddef.h>
#include <unistd.h>

extern char **environ;

const char *clinux_environment(int index) { return environ[index]; }

int clinux_socket_pair(int ends[2]) {
  return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
}

static long long milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

long clinux_send_message(int socket, const void *octets, size_t count, int descriptor, int timeout_ms) {
  struct iovec part = {(void *)octets, count};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (descriptor >= 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = control.space;
    message.msg_controllen = sizeof control.space;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  long long end = milliseconds() + timeout_ms;
  for (;;) {
    ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return sent;
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != ETOOMANYREFS) return -errno;
    long long left = end - milliseconds();
    if (left <= 0) return -ETIMEDOUT;
    // With too many descriptors under way the socket itself has room, and would be ready at once.
    struct pollfd polled = {.fd = socket, .events = POLLOUT};
    int ready = errno == ETOOMANYREFS ? poll(NULL, 0, left < 5 ? (int)left : 5) : poll(&polled, 1, (int)left);
    if (ready < 0 && errno != EINTR) return -errno;
  }
}

long clinux_receive_message(int socket, void *octets, size_t capacity, int *descriptor, int timeout_ms) {
  *descriptor = -1;
  struct pollfd polled = {.fd = socket, .events = POLLIN};
  int ready = poll(&polled, 1, timeout_ms);
  if (ready == 0) return -EAGAIN;
  if (ready < 0) return errno == EINTR ? -EAGAIN : -errno;
  struct iovec part = {octets, capacity};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  ssize_t count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (count < 0) return errno == EINTR ? -EAGAIN : -errno;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)))
      memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
  return count;
}

int clinux_spawn(const char *path, char *const *arguments, char *const *variables, const int *descriptors, int count) {
  // First out of the way of the places that they are to have, then into them: a copy made by dup2 stays open in the child.
  int *copies = calloc(count > 0 ? count : 1, sizeof *copies);
  if (!copies) return -ENOMEM;
  int made = 0, failure = 0;
  for (; made < count; made++) {
    copies[made] = fcntl(descriptors[made], F_DUPFD_CLOEXEC, 3 + count);
    if (copies[made] < 0) {
      failure = errno;
      break;
    }
  }
  pid_t process = -1;
  if (failure == 0) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    for (int i = 0; i < count && failure == 0; i++) failure = posix_spawn_file_actions_adddup2(&actions, copies[i], 3 + i);
    sigset_t none, usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (failure == 0) failure = posix_spawn(&process, path, &actions, &attributes, arguments, variables);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
  }
  for (int i = 0; i < made; i++) close(copies[i]);
  free(copies);
  return failure == 0 ? (int)process : -failure;
}

int clinux_wait_child(int process, int *status) {
  pid_t result = waitpid(process, status, WNOHANG);
  if (result < 0) return -errno;
  if (result > 0) *status = WIFEXITED(*status) ? WEXITSTATUS(*status) : 128 + WTERMSIG(*status);
  return (int)result;
}

int clinux_close_on_exec(int descriptor) {
  int flags = fcntl(descriptor, F_GETFD);
  if (flags < 0 || fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) < 0) return -errno;
  return 0;
}

int clinux_set_nonblocking(int descriptor) {
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
  return 0;
}

int clinux_is_listening(int descriptor) {
  int listens = 0;
  socklen_t count = sizeof listens;
  if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &count) < 0) return -errno;
  return listens;
}

int clinux_local_place(int descriptor, uint8_t *address, uint16_t *port, char *path, size_t path_capacity) {
  struct sockaddr_storage own;
  socklen_t count = sizeof own;
  memset(&own, 0, sizeof own);
  if (getsockname(descriptor, (struct sockaddr *)&own, &count) < 0) return -errno;
  memset(address, 0, 16);
  *port = 0;
  if (own.ss_family == AF_INET) {
    struct sockaddr_in *in = (struct sockaddr_in *)&own;
    address[10] = address[11] = 0xff;
    memcpy(address + 12, &in->sin_addr, 4);
    *port = ntohs(in->sin_port);
    return 4;
  }
  if (own.ss_family == AF_INET6) {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&own;
    memcpy(address, &in6->sin6_addr, 16);
    *port = ntohs(in6->sin6_port);
    return 6;
  }
  if (own.ss_family != AF_UNIX) return -EAFNOSUPPORT;
  strncpy(path, ((struct sockaddr_un *)&own)->sun_path, path_capacity - 1);
  path[path_capacity - 1] = 0;
  return 0;
}

int clinux_notify(const char *path, const char *text) {
  struct sockaddr_un un;
  size_t count = strlen(path);
  if (count < 2 || count >= sizeof un.sun_path || (path[0] != '/' && path[0] != '@')) return -EINVAL;
  memset(&un, 0, sizeof un);
  un.sun_family = AF_UNIX;
  memcpy(un.sun_path, path, count);
  if (path[0] == '@') un.sun_path[0] = 0;
  int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -errno;
  socklen_t length = offsetof(struct sockaddr_un, sun_path) + count;
  ssize_t sent = sendto(descriptor, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&un, length);
  int failure = sent < 0 ? -errno : 0;
  close(descriptor);
  return failure;
}

int clinux_user(const char *name, unsigned *user, unsigned *group) {
  errno = 0;
  struct passwd *entry = getpwnam(name);
  if (!entry) return errno ? -errno : -ENOENT;
  *user = entry->pw_uid;
  *group = entry->pw_gid;
  return 0;
}

int clinux_group(const char *name, unsigned *group) {
  errno = 0;
  struct group *entry = getgrnam(name);
  if (!entry) return errno ? -errno : -ENOENT;
  *group = entry->gr_gid;
  return 0;
}

int clinux_become(const char *name, unsigned user, unsigned group) {
  // In this order: without the user's rights neither of the first two can be done any more.
  if (initgroups(name, group) < 0) return -errno;
  if (setresgid(group, group, group) < 0) return -errno;
  if (setresuid(user, user, user) < 0) return -errno;
  uid_t users[3];
  gid_t groups[3];
  if (getresuid(&users[0], &users[1], &users[2]) < 0 || getresgid(&groups[0], &groups[1], &groups[2]) < 0) return -errno;
  for (int i = 0; i < 3; i++)
    if (users[i] != user || groups[i] != group) return -EPERM;
  // Proof that there is no way back.
  if (user != 0 && (setuid(0) == 0 || seteuid(0) == 0)) return -EPERM;
  return clinux_no_new_privileges();
}

int clinux_no_new_privileges(void) {
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}
