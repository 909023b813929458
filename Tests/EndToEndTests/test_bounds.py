"""What one client can make the proxy keep in memory before anybody has paid, and while it does not read."""

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness import SHOP, Connection, Farebox, fetch

LIMITED = SHOP + """
[rate-limits]
challenges-per-second = 0

[limits]
collected-per-client = "1 MiB"

[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[upstream]]
name = "calls"
url = "http://127.0.0.1:@CALLS@"

[[route]]
id = "chat"
prefix = "/chat/"
upstream = "api"
methods = "POST"
usage-body-limit = "2 MiB"
[route.models]
"*" = "0.001 USDC per request"

[[route]]
id = "calls"
path = "/calls"
type = "mcp"
upstream = "calls"
[route.calls]
"tools/call:dear" = "0.01 USDC per call"
"""

LIST = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "dear", "description": "a" * 6_000_000}]}}).encode()


@pytest.fixture(scope="module")
def calls():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(LIST)))
            self.end_headers()
            self.wfile.write(LIST)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture(scope="module")
def farebox(binary, upstream, calls, tmp_path_factory):
    configuration = LIMITED.replace("@CALLS@", str(calls))
    proxy = Farebox(binary, tmp_path_factory.mktemp("bounds"), upstream.port, workers=1, configuration=configuration)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


def gauge(farebox, name):
    return int(re.search(rf"^farebox_{name} (\d+)$", farebox.metrics(), re.M).group(1))


def awaits(farebox, name, predicate):
    deadline = time.monotonic() + 10
    while not predicate(value := gauge(farebox, name)):
        assert time.monotonic() < deadline, (name, value)
        time.sleep(0.05)


def begin(farebox, sent, total, source="127.0.0.1"):
    """Begins a request whose content does not come to its end."""
    connection = farebox.connection()
    if source != "127.0.0.1":
        connection.close()
        connection.socket = socket.create_connection(("127.0.0.1", farebox.port), timeout=15, source_address=(source, 0))
    connection.send(
        f"POST /chat/x HTTP/1.1\r\nHost: {farebox.authority}\r\nContent-Type: application/json\r\nContent-Length: {total}\r\n\r\n".encode())
    connection.send(b"{" + b" " * (sent - 1))
    return connection


def test_unpaid_content_of_one_client_is_bounded(farebox):
    """Half of requests from one address cannot take the memory that all share; others go on, and so does the address when they end."""
    first = begin(farebox, 700_000, 800_000)
    awaits(farebox, "collected_octets", lambda count: count >= 700_000)
    second = begin(farebox, 700_000, 800_000)
    refused = second.read()
    assert refused.status == 429 and int(refused.get("retry-after")) >= 1, refused
    awaits(farebox, "collected_octets", lambda count: count == 700_000)
    other = begin(farebox, 700_000, 800_000, source="127.0.0.2")
    other.send(b" " * 99_983 + b'"model":"x"     }')
    assert other.read().status == 402
    first.close()
    awaits(farebox, "collected_octets", lambda count: count == 0)
    # One alone may be as long as the route allows.
    third = begin(farebox, 1_900_000, 2_000_000)
    third.send(b" " * 99_983 + b'"model":"x"     }')
    assert third.read().status == 402
    for connection in (second, other, third):
        connection.close()
    awaits(farebox, "collected_octets", lambda count: count == 0)


def test_answers_of_slow_readers_are_counted(farebox):
    """An answer that was looked at counts among what a worker keeps until its client has read it."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection = Connection.__new__(Connection)
    connection.socket = socket.socket()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.socket.settimeout(15)
    connection.socket.connect(("127.0.0.1", farebox.port))
    connection.buffer, connection.authority = b"", farebox.authority
    connection.request("POST", "/calls", headers, body)
    awaits(farebox, "message_octets", lambda count: count > 1_000_000)
    time.sleep(0.3)
    assert gauge(farebox, "message_octets") > 1_000_000
    answer = connection.read()
    assert answer.status == 200 and b"payment-info" in answer.body and len(answer.body) > 6_000_000
    awaits(farebox, "message_octets", lambda count: count == 0)
    connection.close()
