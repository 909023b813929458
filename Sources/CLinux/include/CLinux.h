#pragma once
#include <stdint.h>
#include <stddef.h>

// What Glibc's module map leaves out of Linux: epoll, eventfd, accept4. Plain integers only, so that
// _GNU_SOURCE stays inside CLinux.c. All functions return a result >= 0, or -errno.

// One readiness report; `token` is what was registered.
struct clinux_event {
  uint64_t token;
  uint32_t events;
  uint32_t reserved;
};

extern const uint32_t clinux_readable;     // EPOLLIN
extern const uint32_t clinux_writable;     // EPOLLOUT
extern const uint32_t clinux_peer_closed;  // EPOLLRDHUP
extern const uint32_t clinux_hung_up;      // EPOLLHUP
extern const uint32_t clinux_failed;       // EPOLLERR
extern const uint32_t clinux_edge;         // EPOLLET

int clinux_epoll_create(void);
int clinux_epoll_add(int epoll, int descriptor, uint32_t events, uint64_t token);
int clinux_epoll_remove(int epoll, int descriptor);
int clinux_epoll_wait(int epoll, struct clinux_event *events, int capacity, int timeout_ms);

int clinux_eventfd(void);
int clinux_eventfd_wake(int descriptor);

// Accepts without blocking, close-on-exec. `address` receives 16 octets (IPv4 mapped as ::ffff:a.b.c.d),
// `port` the peer's port in host order, `family` 4, 6, or 0 for a Unix socket.
int clinux_accept(int listener, uint8_t *address, uint16_t *port, int *family);

// Opens a non-blocking, close-on-exec stream socket of the family (4, 6, 0 = Unix).
int clinux_stream_socket(int family);
int clinux_bind_inet(int descriptor, const uint8_t *address, uint16_t port, int family, int reuse_port);
int clinux_bind_unix(int descriptor, const char *path);
int clinux_listen(int descriptor, int backlog);
int clinux_connect_inet(int descriptor, const uint8_t *address, uint16_t port, int family);
int clinux_connect_unix(int descriptor, const char *path);
int clinux_local_port(int descriptor);
// The address that the socket is bound to, as clinux_accept gives the peer's.
int clinux_local_address(int descriptor, uint8_t *address, uint16_t *port, int *family);
int clinux_no_delay(int descriptor);
int clinux_keep_alive(int descriptor, int idle_s, int interval_s, int count);
int clinux_socket_error(int descriptor);
int clinux_reset_on_close(int descriptor);
// Whether `path` is a Unix socket on which a connect is refused: then its file is left over from a dead process.
int clinux_unix_is_stale(const char *path);
// Whether a process listens on the Unix socket at `path`.
int clinux_unix_is_listening(const char *path);

long clinux_receive(int descriptor, void *octets, size_t capacity);
// Receives what stays to be received again.
long clinux_peek(int descriptor, void *octets, size_t capacity);
long clinux_send(int descriptor, const void *octets, size_t count, int more_follows);
long clinux_send_two(int descriptor, const void *first, size_t first_count, const void *second, size_t second_count);
// A non-blocking, close-on-exec pipe of so many octets; its ends are for reading and writing.
int clinux_pipe(int ends[2], int capacity);
// Moves octets between a pipe and a socket inside the kernel, without waiting for either.
long clinux_splice(int from, int to, size_t count);
int clinux_shutdown_write(int descriptor);
int clinux_close(int descriptor);
int clinux_open_null(void);

int clinux_pin_thread(int core);
int clinux_name_thread(unsigned long thread, const char *name);
int clinux_core_count(void);
int clinux_raise_descriptor_limit(void);  // to the hard limit; returns the limit
void clinux_forbid_core_dumps(void);
void clinux_tune_allocator(void);

// Resolves; writes up to `capacity` entries of 17 octets (family 4 or 6, then 16 address octets). Blocks.
int clinux_resolve(const char *host, uint8_t *entries, int capacity);

// ---- Processes: starting another program, passing sockets on, systemd, privileges.

// The process's variables, NULL behind the last.
const char *clinux_environment(int index);
// Two connected SOCK_SEQPACKET sockets, close-on-exec.
int clinux_socket_pair(int ends[2]);
// Sends one message, with a descriptor where it is >= 0; waits for room for `timeout_ms` at most.
long clinux_send_message(int socket, const void *octets, size_t count, int descriptor, int timeout_ms);
// Receives one message: -EAGAIN where none came in time, 0 at the peer's end; `descriptor` is close-on-exec, or -1.
long clinux_receive_message(int socket, void *octets, size_t capacity, int *descriptor, int timeout_ms);
// Starts a program with `descriptors` as 3, 4 …, no signal blocked; returns the process.
int clinux_spawn(const char *path, char *const *arguments, char *const *variables, const int *descriptors, int count);
// Whether a child has ended (1, status set: 128 + signal where killed), or not (0).
int clinux_wait_child(int process, int *status);
int clinux_close_on_exec(int descriptor);
int clinux_set_nonblocking(int descriptor);
int clinux_is_listening(int descriptor);
// Where a socket is bound: 4 or 6 with address and port, 0 with the path of a Unix socket.
int clinux_local_place(int descriptor, uint8_t *address, uint16_t *port, char *path, size_t path_capacity);
// Sends a datagram to systemd's notification socket; a path that begins with @ is an abstract one.
int clinux_notify(const char *path, const char *text);
int clinux_user(const char *name, unsigned *user, unsigned *group);
int clinux_group(const char *name, unsigned *group);
// Gives up every right but those of the user and group, for good, and verifies it; no new privileges from here on.
int clinux_become(const char *name, unsigned user, unsigned group);
int clinux_no_new_privileges(void);
