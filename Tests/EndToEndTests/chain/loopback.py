"""A JSON service on a loopback port of its own that fails when it is told to."""

import signal
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAXIMUM_REQUEST = 4 << 20


@dataclass
class Fault:
    kind: str
    count: int
    names: tuple
    seconds: float


class Faults:
    """What is to happen to the next requests.

    `lost` (done, and the connection closed instead of an answer), `refused` (closed before it is done), `error` (500, not done), `limited` (429, not
    done), `late` (answered `seconds` after it was done), `malformed` (done, and half of the answer), and what a service adds.
    """

    KINDS = ("lost", "refused", "error", "limited", "late", "malformed")

    def __init__(self, *more):
        self.kinds = self.KINDS + more
        self.lock = threading.Lock()
        self.waiting = []

    def fail(self, kind, count=1, names=(), seconds=0.0):
        """Lets the next `count` requests that name one of `names` (any, if none) fail in this way."""
        assert kind in self.kinds, kind
        with self.lock:
            self.waiting.append(Fault(kind, count, (names,) if isinstance(names, str) else tuple(names), seconds))

    def heal(self):
        with self.lock:
            self.waiting.clear()

    def take(self, names):
        with self.lock:
            for fault in self.waiting:
                if not fault.names or any(name in fault.names for name in names):
                    fault.count -= 1
                    if fault.count == 0:
                        self.waiting.remove(fault)
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAXIMUM_REQUEST:
            return self.respond(413, b"too large", "text/plain")
        self.serve(self.rfile.read(length))

    def do_GET(self):
        self.serve(None)

    def serve(self, body):
        service = self.server.service
        names = service.names(self.path, body)
        fault = service.faults.take(names)
        kind = fault.kind if fault else None
        if kind == "refused":
            return self.hang_up()
        if kind in ("error", "limited"):
            return self.respond(500 if kind == "error" else 429, b"upstream connect error", "text/plain")
        status, answer = service.answer(self.path, body, fault)
        if kind == "lost":
            return self.hang_up()
        if kind == "late":
            time.sleep(fault.seconds)
        self.respond(status, answer[: len(answer) // 2] if kind == "malformed" else answer)

    def respond(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, service, port):
        super().__init__(("127.0.0.1", port), Handler)
        self.service = service
        self.lock = threading.Lock()
        self.connections = set()

    def process_request(self, request, client):
        with self.lock:
            self.connections.add(request)
        super().process_request(request, client)

    def shutdown_request(self, request):
        with self.lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client):
        """A connection that broke is the client's business, or a fault that was asked for."""

    def hang_up(self):
        with self.lock:
            connections, self.connections = self.connections, set()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Service:
    """What answers on the port. `names(path, body)` are the names by which faults know a request, `answer(path, body, fault)` a status and octets."""

    def __init__(self, port=0, faults=None):
        self.faults = faults or Faults()
        self.port = port
        self.server = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Listens on the port, the same as before if it was stopped."""
        assert self.server is None
        self.server = Server(self, self.port)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def serve_until_told(self):
        """Waits, in a process of its own, until it is told to end."""
        told = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: told.set())
        told.wait()
        self.stop()

    def stop(self):
        """Closes the connections and refuses new ones, until `start`."""
        if self.server is None:
            return
        server, self.server = self.server, None
        server.shutdown()
        server.server_close()
        server.hang_up()

    close = stop

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fail(self, kind, count=1, names=(), seconds=0.0):
        self.faults.fail(kind, count, names, seconds)

    def heal(self):
        self.faults.heal()
