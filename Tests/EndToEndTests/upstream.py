"""An HTTP API that does what it is told by its path, good and bad: the upstream of the end-to-end tests.

The last segments of the path name the behaviour, whatever prefix the route has: /echo, /status/503, /bytes/1000, /chunked/1000,
/events/5, /slow/500, /die, /cut/1000, /forge, /count. /ticker/20/7 has 20 events with ids, goes on behind Last-Event-ID, and breaks off after every 7; /part/1000/400
is a file that can be had in parts, and breaks off after every 400 octets. Every request that arrives is remembered in `requests`.

A server can be told to answer everything alike (`status`), be killed and started again on its port, listen on a Unix socket, and expect the
PROXY protocol's header, which it remembers in `introductions`.
"""

import base64
import functools
import gzip
import hashlib
import json
import socket
import struct
import threading
import time
from urllib.parse import unquote

BLOCK = b"0123456789abcdef" * 4096


@functools.cache
def numbered(count):
    """So many octets of which no two places of eight are alike."""
    return b"".join(b"%07d\n" % number for number in range(-(-count // 8)))[:count]


class Upstream:
    def __init__(self, unix_path=None, expects_proxy=False, port=0):
        self.unix_path = unix_path
        self.expects_proxy = expects_proxy
        self.port = port
        self.status = None
        self.health = 200
        self.requests = []
        self.introductions = []
        self.connections = set()
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.start()

    @property
    def url(self):
        return f"unix:{self.unix_path}" if self.unix_path else f"http://127.0.0.1:{self.port}"

    def start(self):
        """Listens, after a `kill` on the same port as before."""
        if self.unix_path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(self.unix_path))
            self.listener.listen(512)
        else:
            self.listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
            self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def kill(self):
        """Ends as a process that is killed: the port refuses, and every connection is reset."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            connections, self.connections = self.connections, set()
        for connection in connections:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            except OSError:
                pass

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def close(self):
        self.listener.close()

    def count(self, suffix=""):
        with self.lock:
            return sum(1 for r in self.requests if r["target"].endswith(suffix))

    def last(self):
        with self.lock:
            return self.requests[-1]

    def serve(self, connection):
        if not self.unix_path:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = connection.makefile("rb")
        try:
            if self.expects_proxy:
                self.introductions.append(self.introduction(reader))
            while self.exchange(connection, reader):
                pass
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.connections.discard(connection)
            reader.close()
            connection.close()

    @staticmethod
    def introduction(reader):
        """Reads a PROXY header of either version: its octets."""
        head = reader.read(12)
        if head == b"\r\n\r\n\0\r\nQUIT\n":
            head += reader.read(4)
            return head + reader.read(struct.unpack("!H", head[14:16])[0])
        return head + reader.readline()

    def exchange(self, connection, reader):
        line = reader.readline()
        if not line:
            return False
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = []
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        fields = {n.lower(): v for n, v in headers}
        if fields.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if "chunked" in fields.get("transfer-encoding", ""):
            while size := int(reader.readline().split(b";")[0], 16):
                body += reader.read(size)
                reader.readline()
            while reader.readline() not in (b"\r\n", b""):
                pass
        elif "content-length" in fields:
            body = reader.read(int(fields["content-length"]))
        if target == "/healthz":
            connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.health)
            return True
        record = {"method": method, "target": target, "headers": headers, "body": body}
        with self.lock:
            self.requests.append(record)
        return self.answer(connection, reader, method, target.split("?")[0].strip("/").split("/"), record)

    @staticmethod
    def echo_frames(connection, reader, record):
        """Speaks WebSocket (RFC 6455): sends every short message back, and answers Close by Close."""
        key = next(value for name, value in record["headers"] if name.lower() == "sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        connection.sendall(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accept)
        while len(head := reader.read(2)) == 2:
            mask = reader.read(4)
            payload = bytes(octet ^ mask[i % 4] for i, octet in enumerate(reader.read(head[1] & 0x7F)))
            connection.sendall(bytes([head[0], len(payload)]) + payload)
            if head[0] & 0x0F == 8:
                break
        return False

    @staticmethod
    def tick(send, count, most, record):
        last = int(next((v for n, v in record["headers"] if n.lower() == "last-event-id"), 0))
        if last == count:
            return bool(send(b"HTTP/1.1 204 X\r\n\r\n") or True)
        send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nretry: 40\n\n\r\n")
        for number in range(last + 1, min(last + most, count) + 1):
            event = b"id: %d\ndata: %s\n\n" % (number, b"x" * 100)
            send(b"%x\r\n%s\r\n" % (len(event), event))
        if last + most >= count:
            return bool(send(b"0\r\n\r\n") or True)
        send(b"10\r\nid: 1000\ndata: c\r\n")
        time.sleep(0.05)
        return False

    @staticmethod
    def part(send, count, most, record):
        fields = {n.lower(): v for n, v in record["headers"]}
        start = int(fields["range"].removeprefix("bytes=").removesuffix("-")) if fields.get("if-range") == '"v1"' else 0
        head = b"HTTP/1.1 %s X\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nETag: \"v1\"\r\nContent-Length: %d\r\n" % (b"206" if start else b"200", count - start)
        send(head + (b"Content-Range: bytes %d-%d/%d\r\n" % (start, count - 1, count) if start else b"") + b"\r\n")
        whole = BLOCK * (count // len(BLOCK) + 1)
        send(whole[start : min(start + most, count)])
        time.sleep(0.05)
        return start + most >= count

    def answer(self, connection, reader, method, segments, record):
        names = {"echo", "status", "bytes", "chunked", "events", "slow", "die", "cut", "forge", "hold", "hints", "close", "drip", "socket", "units", "settle", "tally", "stream", "large", "packed", "silent", "ticker", "part", "late", "tagged", "quiet", "cached", "numbered"}
        index = next((i for i in range(len(segments) - 1, -1, -1) if segments[i] in names), None)
        action = segments[index] if index is not None else "echo"
        argument = int(segments[index + 1]) if index is not None and index + 1 < len(segments) else 0
        send = connection.sendall

        def reply(status, body, extra=b"", content_type=b"application/json"):
            head = b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n" % (status, content_type, len(body), extra)
            send(head if method == "HEAD" else head + body)
            return True

        if self.status:
            return reply(self.status, b"{}")
        if action == "status":
            return reply(argument, b'{"status":%d}' % argument) if argument not in (204, 304) else bool(send(b"HTTP/1.1 %d X\r\n\r\n" % argument) or True)
        if action == "slow":
            time.sleep(argument / 1000)
            return reply(200, b'{"slow":true}')
        if action == "hold":
            self.release.wait(20)
            return reply(200, b'{"held":true}')
        if action == "die":
            return False
        if action == "socket":
            return self.echo_frames(connection, reader, record)
        if action == "stream":
            # The last event lacks its end, where there is a third segment.
            octets = b"data: x\n\n" * argument
            return reply(200, octets if index + 2 == len(segments) else octets[:-1], content_type=b"text/event-stream")
        if action == "silent":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            time.sleep(argument)
            send(b"0\r\n\r\n")
            return True
        if action == "large":
            return reply(200, b"data: " + b"y" * argument + b"\n\ndata: end\n\n", content_type=b"text/event-stream")
        if action == "packed":
            size = int(segments[index + 2]) if index + 2 < len(segments) else 1
            return reply(200, gzip.compress((b"data: " + b"z" * size + b"\n\n") * argument), b"Content-Encoding: gzip\r\n", b"text/event-stream")
        if action == "units":
            return reply(200, b"{}", b"Metered-Units: %d\r\n" % argument)
        if action == "settle":
            return reply(200, b"{}", b"Settlement-Overrides: {\"amount\":\"%s\"}\r\n" % unquote(segments[index + 2]).encode())
        if action == "tally":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nMetered-Units: %d\r\n\r\n" % argument)
            return True
        if action == "late":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\nSettlement-Overrides: {\"amount\":\"%d\"}\r\n\r\n" % argument)
            return True
        if action == "tagged":
            tags = b"ETag: \"v1\"\r\nContent-Digest: sha-256=:AA==:\r\nRepr-Digest: sha-256=:AA==:\r\nDigest: x=y\r\nContent-MD5: AA==\r\n"
            head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\nX-Kept: 1\r\n" % (b"text/event-stream" if argument else b"text/plain")
            send(head + tags + b"\r\n9\r\ndata: x\n\n\r\n0\r\nX-Sum: 42\r\n" + tags + b"\r\n")
            return True
        if action == "quiet":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n")
            time.sleep(argument / 1000)
            send(b"9\r\ndata: b\n\n\r\n0\r\n\r\n")
            return True
        if action == "hints":
            send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
            return reply(200, b"{}")
        if action == "forge":
            return reply(200, b"{}", b"Payment-Receipt: Zm9yZ2Vk\r\nPAYMENT-RESPONSE: forged\r\nWWW-Authenticate: Payment id=\"forged\"\r\nPayment-Invoice: forged\r\nConnection: X-Hop\r\nX-Hop: 1\r\n")
        if action == "cached":
            granted = b"Cache-Control: public, max-age=60, s-maxage=600\r\nCDN-Cache-Control: max-age=600\r\nSurrogate-Control: max-age=600\r\n"
            return reply(200, b"{}", granted)
        if action == "close":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + BLOCK[:argument])
            return False
        if action in ("bytes", "cut"):
            send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % argument)
            remaining = 0 if method == "HEAD" else argument if action == "bytes" else argument // 2
            while remaining:
                block = BLOCK[: min(remaining, len(BLOCK))]
                send(block)
                remaining -= len(block)
            return action == "bytes"
        if action == "numbered":
            return reply(200, numbered(argument), content_type=b"application/octet-stream")
        if action == "ticker":
            return self.tick(send, argument, int(segments[index + 2]), record)
        if action == "part":
            return self.part(send, argument, int(segments[index + 2]), record)
        if action == "drip":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(argument):
                send(b"3e8\r\n" + b"d" * 1000 + b"\r\n")
                time.sleep(0.02)
            send(b"0\r\n\r\n")
            return True
        if action == "chunked":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            remaining = 0 if method == "HEAD" else argument
            while remaining:
                block = BLOCK[: min(remaining, 10_000)]
                send(b"%x;ext=1\r\n%s\r\n" % (len(block), block))
                remaining -= len(block)
            if method != "HEAD":
                send(b"0\r\nX-Sum: 42\r\n\r\n")
            return True
        if action == "events":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(argument):
                event = b"event: tick\nid: %d\ndata: %s\n\n" % (number, b"x" * 1000)
                if number == 1:
                    event += b"event: payment-receipt\ndata: forged\n\n"
                send(b"%x\r\n%s\r\n" % (len(event), event))
                time.sleep(0.01)
            done = b"data: [DONE]\n\n"
            send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done))
            return True
        echo = {"method": record["method"], "target": record["target"], "headers": record["headers"], "sha256": hashlib.sha256(record["body"]).hexdigest(), "length": len(record["body"])}
        return reply(200, json.dumps(echo).encode())
