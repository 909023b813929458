"""An HTTP/2 connection with the face of `harness.Connection`, so that what is tested over HTTP/1.1 is tested again over HTTP/2, and with as
many streams at once as a test wants. Frames of any form go through `send`."""

import collections
import socket
import struct
import time

import h2.config
import h2.connection
import h2.events

from harness import Connection, Response

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0, 1, 3, 5, 6, 7, 8, 9, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Stream:
    """One request and what came of it."""

    def __init__(self, method):
        self.method = method
        self.interim = []
        self.head = None
        self.body = bytearray()
        self.trailers = []
        self.ended = False
        self.reset = None
        # A stream that does not acknowledge what it gets has a window that runs out.
        self.acknowledges = True
        self.waiting = 0

    @property
    def is_over(self):
        return self.ended or self.reset is not None

    def response(self):
        complete = self.ended and self.reset in (None, NO_ERROR)
        return Response(self.head.status, "", self.head.headers, bytes(self.body), self.trailers, complete)


class H2Connection:
    def __init__(self, port, timeout=15, host="127.0.0.1", context=None, server_name=None):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.scheme = "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname=server_name)
            assert self.socket.selected_alpn_protocol() == "h2"
            self.scheme = "https"
        self.authority = f"127.0.0.1:{port}"
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1", validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.streams = {}
        self.unread = collections.deque()
        self.current = None
        self.goaways = []
        self.is_open = True
        self.flush()

    # Writing.

    def flush(self):
        if octets := self.h2.data_to_send():
            self.socket.sendall(octets)

    def send(self, octets):
        """Sends octets beside the library, as frames that it would not write."""
        self.flush()
        self.socket.sendall(octets)

    def request(self, method, target, headers=(), body=None, ends=True):
        headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
        names = {name.lower(): value for name, value in headers}
        fields = [(":method", method), (":scheme", self.scheme), (":path", target), (":authority", names.get("host", self.authority))]
        fields += [(name.lower(), value) for name, value in headers if name.lower() not in ("host", "connection")]
        if body and "content-length" not in names and ends:
            fields.append(("content-length", str(len(body))))
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, fields, end_stream=ends and not body)
        self.streams[number] = Stream(method)
        self.unread.append(number)
        self.current = number
        self.flush()
        if body:
            self.write(number, body, ends)
        return number

    def write(self, number, octets, ends=False):
        octets = memoryview(octets)
        while len(octets):
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(octets))
            if room == 0:
                self.pump()
                if self.streams[number].is_over:
                    return
                continue
            self.h2.send_data(number, bytes(octets[:room]), end_stream=ends and room == len(octets))
            octets = octets[room:]
            self.flush()

    def finish(self, number):
        self.h2.end_stream(number)
        self.flush()

    def reset(self, number, code=CANCEL):
        self.h2.reset_stream(number, code)
        self.flush()

    # Reading.

    def pump(self):
        """Reads once and does what the frames say."""
        octets = self.socket.recv(262144)
        if not octets:
            self.is_open = False
            raise ConnectionError("closed")
        for event in self.h2.receive_data(octets):
            self.handle(event)
        self.flush()

    def handle(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        match event:
            case h2.events.ConnectionTerminated():
                self.goaways.append((event.last_stream_id, int(event.error_code)))
                # What came before the end is still to be read.
                self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
            case h2.events.InformationalResponseReceived():
                stream.interim.append(int(dict(event.headers)[":status"]))
            case h2.events.ResponseReceived():
                fields = [(n, v) for n, v in event.headers]
                assert fields[0][0] == ":status" and all(n == n.lower() for n, _ in fields), fields
                stream.head = Response(int(fields[0][1]), "", fields[1:])
            case h2.events.DataReceived():
                stream.body += event.data
                if stream.acknowledges:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                else:
                    self.h2.increment_flow_control_window(event.flow_controlled_length or 1)
                    stream.waiting += event.flow_controlled_length
            case h2.events.TrailersReceived():
                stream.trailers = list(event.headers)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                stream.reset = int(event.error_code)

    def until(self, condition, seconds=15):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(str([(n, s.head and s.head.status, len(s.body), s.ended, s.reset) for n, s in self.streams.items()][-5:]))
            self.pump()

    def finished(self, number):
        """The whole response of a stream."""
        stream = self.streams[number]
        try:
            self.until(lambda: stream.is_over)
        except ConnectionError:
            if stream.head is None:
                raise
        if stream.head is None:
            raise ConnectionError(f"stream {number} was reset with {stream.reset}")
        return stream.response()

    # The face of a connection of HTTP/1.1: one response at a time, in the order of the requests.

    def head(self):
        stream = self.streams[self.unread[0]]
        self.until(lambda: stream.head is not None or stream.is_over)
        return stream.head

    def exactly(self, count):
        stream = self.streams[self.unread[0]]
        while len(stream.body) < count:
            if stream.is_over:
                raise ConnectionError(f"ended with {count - len(stream.body)} octets missing")
            self.pump()
        octets = bytes(stream.body[:count])
        del stream.body[:count]
        return octets

    def chunks(self):
        """Yields content as it comes, until its end."""
        stream = self.streams[self.unread[0]]
        while True:
            if stream.body:
                octets = bytes(stream.body)
                stream.body.clear()
                yield octets
            elif stream.ended:
                return
            elif stream.reset is not None:
                raise ConnectionError(f"reset with {stream.reset}")
            else:
                self.pump()

    def read(self, method="GET", interim=None):
        number = self.unread.popleft()
        response = self.finished(number)
        if interim is not None:
            interim += self.streams[number].interim
        del self.streams[number]
        return response

    def is_closed(self, seconds=3):
        self.socket.settimeout(seconds)
        try:
            while True:
                self.pump()
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(text):
    """A string of HPACK without Huffman coding."""
    octets = text if isinstance(text, bytes) else text.encode("latin-1")
    if len(octets) < 127:
        return bytes([len(octets)]) + octets
    rest, head = len(octets) - 127, bytearray([127])
    while rest >= 128:
        head.append(rest & 127 | 128)
        rest >>= 7
    return bytes(head) + bytes([rest]) + octets


def block(fields):
    """A header block of literals that no table keeps."""
    return b"".join(b"\0" + literal(name) + literal(value) for name, value in fields)


class RawH2:
    """A connection spoken to in frames, and read in frames."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.frames = []
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, octets):
        self.socket.sendall(octets)

    def next(self):
        """The next frame as (type, flags, stream, payload); nothing at the end."""
        while True:
            if len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) >= 9 + length:
                    kind, flags = self.buffer[3], self.buffer[4]
                    number = int.from_bytes(self.buffer[5:9], "big")
                    payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
                    self.frames.append((kind, flags, number, payload))
                    return self.frames[-1]
            try:
                octets = self.socket.recv(65536)
            except ConnectionError:
                octets = b""
            if not octets:
                return None
            self.buffer += octets

    def until(self, kind):
        """The next frame of a kind; nothing if the connection ends before."""
        while seen := self.next():
            if seen[0] == kind and not (kind in (SETTINGS, PING) and seen[1] & ACK):
                return seen
        return None

    def goaway(self):
        """The code of the GOAWAY that ends the connection."""
        seen = self.until(GOAWAY)
        return seen and int.from_bytes(seen[3][4:8], "big")

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
