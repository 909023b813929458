"""What a connection takes in memory that is open and says nothing: plain, over TLS, and with an HTTP/2 session."""

import resource
import socket
import ssl
import time

from counted import resident
from processes import process_tree

WORKS = ["idle-plain", "idle-tls", "idle-h2c"]
CONNECTIONS = 10_000
QUICK_CONNECTIONS = 2_000
# The preface of RFC 9113, section 3.4, an empty SETTINGS frame, and the acknowledgement of the server's.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
ACKNOWLEDGEMENT = bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])


def raise_limit():
    """Lets this process and those that it starts have a descriptor for every connection."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in (max(hard, 4 * CONNECTIONS + 25_000), hard):
        try:
            return resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        except (ValueError, PermissionError):
            pass


def reach(wanted):
    """As many of the connections as every proxy can have under the limit: HAProxy counts two descriptors for each."""
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 600)


def connected(work, port, context):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    if work == "idle-tls":
        connection = context.wrap_socket(connection, server_hostname="localhost")
    elif work == "idle-h2c":
        connection.sendall(PREFACE)
        if not connection.recv(4096):
            raise SystemExit(f"{work}: the server closed the connection")
        connection.sendall(ACKNOWLEDGEMENT)
    return connection


def memory(proxy):
    return sum(resident(pid) for pid in process_tree(proxy.pid))


def measure(work, name, proxy, port, connections):
    """Octets resident for each of so many connections, on a proxy that has had a few before."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for connection in [connected(work, port, context) for _ in range(100)]:
        connection.close()
    time.sleep(0.5)
    before = memory(proxy)
    opened = [connected(work, port, context) for _ in range(connections)]
    time.sleep(0.5)
    after = memory(proxy)
    for connection in opened:
        connection.setblocking(False)
        try:
            if connection.recv(1) == b"":
                raise SystemExit(f"{work} {name}: a connection was closed")
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
    for connection in opened:
        connection.close()
    time.sleep(0.5)
    return {"octets": (after - before) / connections}
