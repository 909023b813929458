"""gRPC through Farebox: grpcio's client and server, all four kinds of calls, free and paid."""

import queue
from concurrent import futures

import grpc
import pytest

from harness import CONFIGURATION, Farebox, open_session
from prepaid import PrepaidWallet

CALLS = """
[[upstream]]
name = "grpc"
url = "http://127.0.0.1:{grpc}"
http2 = "always"

[[route]]
id = "calls"
prefix = "/test.Calls/"
price = "0.001 USDC per request"
upstream = "grpc"
grpc-status = true

[[route]]
id = "metered-calls"
prefix = "/test.Metered/"
price = "0.01 USDC per MB"
upstream = "grpc"
grpc-status = true
hold-timeout = "1 s"

[[route]]
id = "plain-calls"
prefix = "/test.Plain/"
price = "0.001 USDC per request"
upstream = "grpc"

[[route]]
id = "free-calls"
prefix = "/test.Free/"
free = true
upstream = "grpc"
"""


class Handlers(grpc.GenericRpcHandler):
    """Echoes: unary and streaming in either direction; `Fail` ends with a status of its own."""

    def service(self, details):
        kind = details.method.rsplit("/", 1)[-1]
        if kind == "Unary":
            return grpc.unary_unary_rpc_method_handler(self.unary)
        if kind == "Download":
            return grpc.unary_stream_rpc_method_handler(lambda request, context: (request + b"%d" % n for n in range(100)))
        if kind == "Upload":
            return grpc.stream_unary_rpc_method_handler(lambda requests, context: b"".join(requests))
        if kind == "Talk":
            return grpc.stream_stream_rpc_method_handler(lambda requests, context: (request[::-1] for request in requests))
        if kind == "Flood":
            return grpc.unary_stream_rpc_method_handler(lambda request, context: (bytes(100_000) for _ in range(50)))
        if kind == "Fail":
            return grpc.unary_unary_rpc_method_handler(self.fail)
        return None

    def unary(self, request, context):
        context.set_trailing_metadata((("x-count", str(len(request))),))
        # What pays stays with the proxy.
        assert not any(name in ("prepaid-session", "authorization") for name, _ in context.invocation_metadata())
        return request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")


@pytest.fixture(scope="module")
def proxy(binary, upstream, tmp_path_factory):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), handlers=(Handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    # Routes name their upstream where there are two.
    configuration = CONFIGURATION.replace("[[route]]\n", '[[route]]\nupstream = "api"\n') + CALLS.replace("{grpc}", str(port))
    farebox = Farebox(binary, tmp_path_factory.mktemp("grpc"), upstream.port, configuration=configuration)
    yield farebox
    farebox.stop()
    farebox.assert_books_balance()
    server.stop(None)


@pytest.fixture
def channel(proxy):
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        yield channel


@pytest.fixture
def session(proxy):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    return open_session(proxy, wallet, "/test.Plain/Unary", 100_000)


def spent(proxy, session):
    return int(proxy.session(session.session_id)["spent"])


def every_kind(channel, service, metadata=()):
    """Makes a call of each kind, and looks at what comes back."""
    call = channel.unary_unary(f"/{service}/Unary")
    answer, state = call.with_call(b"hello", metadata=metadata, timeout=10)
    assert answer == b"hello" and dict(state.trailing_metadata())["x-count"] == "5"
    big = b"x" * 1_000_000
    assert call(big, metadata=metadata, timeout=10) == big
    assert list(channel.unary_stream(f"/{service}/Download")(b"n", metadata=metadata, timeout=10)) == [b"n%d" % n for n in range(100)]
    assert channel.stream_unary(f"/{service}/Upload")(iter([b"a"] * 500), metadata=metadata, timeout=10) == b"a" * 500
    words = [b"one", b"two", b"three"]
    assert list(channel.stream_stream(f"/{service}/Talk")(iter(words), metadata=metadata, timeout=10)) == [word[::-1] for word in words]
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(f"/{service}/Fail")(b"", metadata=metadata, timeout=10)
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND and failure.value.details() == "no such thing"


def test_calls_of_every_kind_pass(channel):
    every_kind(channel, "test.Free")


def test_calls_of_every_kind_are_paid_by_session(proxy, channel, session):
    before = spent(proxy, session)
    every_kind(channel, "test.Plain", (("prepaid-session", session.short_form),))
    # Six calls; a status in the trailers of a 200 is an answer like any other.
    assert spent(proxy, session) - before == 6_000


def test_each_word_is_answered_before_the_next_is_said(channel):
    words = queue.Queue()
    answers = channel.stream_stream("/test.Free/Talk")(iter(words.get, None), timeout=10)
    for word in (b"ab", b"cd", b"ef"):
        words.put(word)
        assert next(answers) == word[::-1]
    words.put(None)
    assert list(answers) == []


def test_a_client_that_has_not_paid_is_told_in_its_own_words(channel):
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary("/test.Calls/Unary")(b"hello", timeout=10)
    assert failure.value.code() == grpc.StatusCode.UNAUTHENTICATED
    metadata = [*(failure.value.initial_metadata() or ()), *(failure.value.trailing_metadata() or ())]
    challenges = [value for name, value in metadata if name == "www-authenticate"]
    assert challenges and all(value.startswith("Payment ") for value in challenges), metadata


def test_without_that_it_is_an_http_status(channel):
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary("/test.Plain/Unary")(b"hello", timeout=10)
    # grpcio's word for a status of HTTP that it has no other for.
    assert failure.value.code() == grpc.StatusCode.UNKNOWN and "402" in failure.value.details()


def test_a_call_that_fails_at_once_costs_nothing_where_that_is_known(proxy, channel):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    session = open_session(proxy, wallet, "/test.Calls/Unary", 100_000)
    metadata, before = (("prepaid-session", session.short_form),), spent(proxy, session)
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as failure:
            channel.unary_unary("/test.Calls/Fail")(b"", metadata=metadata, timeout=10)
        assert failure.value.code() == grpc.StatusCode.NOT_FOUND
    assert spent(proxy, session) == before
    assert channel.unary_unary("/test.Calls/Unary")(b"x", metadata=metadata, timeout=10) == b"x"
    assert spent(proxy, session) == before + 1_000


def test_a_budget_that_runs_out_is_exhausted(proxy, channel):
    wallet = PrepaidWallet.new()
    proxy.create_wallet(wallet, "10 USDC")
    session = open_session(proxy, wallet, "/test.Metered/Unary", 20_000)
    got = []
    with pytest.raises(grpc.RpcError) as failure:
        for piece in channel.unary_stream("/test.Metered/Flood")(b"", metadata=(("prepaid-session", session.short_form),), timeout=20):
            got.append(len(piece))
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, failure.value
    assert "budget" in failure.value.details() and 10 <= len(got) <= 20
