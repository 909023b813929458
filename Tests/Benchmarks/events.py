"""Events through Farebox, metered, and through nginx with `proxy_buffering off`: CPU for each event, and how long it is on its way.

The upstream and the clients are this process: it sends one event on every stream, and reads until each client has its event.
"""

import selectors
import signal
import socket
import subprocess
import threading
import time

from harness import SHOP, Farebox, free_port, open_session
from prepaid import PrepaidWallet
from processes import PROXY_CORE, cpu_nanoseconds, pinned, wait_for_port

WORK = "events-h1"
STREAMS = 64
PAYLOAD = b"x" * 120

CONFIGURATION = SHOP + """
[rate-limits]
challenges-per-second = 0

[[upstream]]
name = "events"
url = "http://127.0.0.1:{upstream}"

[[route]]
id = "ticks"
path = "/ticks"
price = "0.000001 USDC per event"
"""


class Source:
    """An upstream whose responses are event streams that `Events` writes."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]

    def accept(self, timeout=10):
        """Takes the next request, and gives its connection and head."""
        self.listener.settimeout(timeout)
        connection, _ = self.listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, self.request(connection)

    @staticmethod
    def request(connection):
        head = b""
        while b"\r\n\r\n" not in head:
            octets = connection.recv(65536)
            if not octets:
                return None
            head += octets
        return head


class Events:
    def __init__(self, options, folder):
        self.options = options
        self.source = Source()
        port = free_port()
        config = folder / "events-nginx.conf"
        names = " ".join(f"{kind}_temp_path {folder}/events-{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(f"""
            worker_processes 1; daemon off; pid {folder}/events-nginx.pid; error_log {folder}/events-nginx.log;
            events {{ worker_connections 4096; }}
            http {{ access_log off; client_body_temp_path {folder}/events-body; {names}
              upstream api {{ server 127.0.0.1:{self.source.port}; keepalive 128; }}
              server {{ listen 127.0.0.1:{port};
                location / {{ proxy_pass http://api; proxy_buffering off; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}""")
        self.nginx = subprocess.Popen(pinned(PROXY_CORE, ["nginx", "-c", str(config), "-p", str(folder)]))
        self.nginx_port = port
        wait_for_port(port)
        self.farebox = Farebox(
            options.farebox, folder / "events", self.source.port, workers=1, prefix=pinned(PROXY_CORE, []), configuration=CONFIGURATION)
        self.wallet = PrepaidWallet.new()
        self.farebox.create_wallet(self.wallet, "100000 USDC")
        self.sessions = [self.open() for _ in range(STREAMS)]

    def open(self):
        """Opens a session by a HEAD, which the source answers."""
        def answer():
            connection, _ = self.source.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        secret = open_session(self.farebox, self.wallet, "/ticks", 100_000_000)
        thread.join()
        return secret.short_form

    def stop(self):
        self.nginx.send_signal(signal.SIGQUIT)
        self.farebox.process.send_signal(signal.SIGTERM)
        for process in (self.nginx, self.farebox.process):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.source.listener.close()

    def measure(self):
        yield "farebox", self.run(self.farebox.port, self.farebox.pid, self.sessions)
        yield "nginx", self.run(self.nginx_port, self.nginx.pid, None)

    def run(self, port, pid, sessions):
        clients, writers = [], []
        for number in range(STREAMS):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            field = f"Prepaid-Session: {sessions[number]}\r\n" if sessions else ""
            client.sendall(f"GET /ticks HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{field}\r\n".encode())
            writer, _ = self.source.accept()
            writer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            assert head.startswith(b"HTTP/1.1 200"), head
            clients.append(client)
            writers.append(writer)
        try:
            return self.pump(pid, clients, writers)
        finally:
            for writer in writers:
                writer.sendall(b"0\r\n\r\n")
            for end in clients + writers:
                end.close()

    def pump(self, pid, clients, writers):
        selector = selectors.EpollSelector()
        for client in clients:
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ)
        event = b"data: " + PAYLOAD + b"\n\n"
        chunk = b"%x\r\n%s\r\n" % (len(event), event)
        latencies = []
        count = 0
        for phase in ("warm", "measured"):
            end = time.monotonic() + (0.3 if phase == "warm" else self.options.seconds)
            latencies.clear()
            count, before, began = 0, cpu_nanoseconds(pid), time.monotonic()
            while time.monotonic() < end:
                sent = {}
                for client, writer in zip(clients, writers):
                    writer.send(chunk)
                    sent[client.fileno()] = time.perf_counter_ns()
                waiting = len(clients)
                while waiting:
                    for key, _ in selector.select(5):
                        received = key.fileobj.recv(65536)
                        if not received:
                            raise SystemExit(f"{WORK}: a stream has ended")
                        if PAYLOAD in received:
                            latencies.append(time.perf_counter_ns() - sent[key.fd])
                            waiting -= 1
                count += len(clients)
        cpu, elapsed = cpu_nanoseconds(pid) - before, time.monotonic() - began
        selector.close()
        latencies.sort()
        return {
            "cpu_us": cpu / 1000 / count, "rps": count / elapsed, "p50_us": latencies[len(latencies) // 2] // 1000,
            "p99_us": latencies[len(latencies) * 99 // 100] // 1000, "gb_per_cpu_s": None,
        }
