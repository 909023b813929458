"""Which content codings the upstream is asked for, where something of ours reads what it answers."""

import pytest

from harness import SHOP, Farebox, challenge_of, fetch
from prepaid import SessionSecret

CONFIGURATION = SHOP + """
[[upstream]]
name = "api"
url = "http://127.0.0.1:{upstream}"

[[route]]
id = "narrow"
prefix = "/narrow/"
price = "1 USDC per M input tokens + 2 USDC per M output tokens"
default-output-tokens = 10

[[route]]
id = "decode"
prefix = "/decode/"
price = "1 USDC per M output tokens"
content-coding = "decode"
default-output-tokens = 10

[[route]]
id = "events"
prefix = "/events/"
price = "0.000001 USDC per event"

[[route]]
id = "plain"
prefix = "/plain/"
price = "0.001 USDC per request"
"""


@pytest.fixture(scope="module")
def farebox(binary, upstream, tmp_path_factory):
    proxy = Farebox(binary, tmp_path_factory.mktemp("farebox"), upstream.port, configuration=CONFIGURATION)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.mark.parametrize(
    "route,asked,got",
    [
        ("narrow", ["gzip, br"], ["identity"]),
        ("narrow", [], ["identity"]),
        ("events", ["gzip"], ["identity"]),
        ("decode", ["gzip;q=0.5, compress, br", "zstd"], ["gzip;q=0.5, br, zstd"]),
        ("decode", ["*"], ["identity"]),
        ("decode", [], ["identity"]),
        ("plain", ["gzip, compress"], ["gzip, compress"]),
        ("plain", [], []),
    ],
)
def test_what_the_upstream_is_asked_for(farebox, connection, wallet, upstream, route, asked, got):
    path = f"/{route}/echo"
    secret = SessionSecret.new()
    challenge = challenge_of(fetch(connection, "POST", path, body=b"{}"), "session")
    headers = [("Authorization", wallet.open(challenge, secret, 1_000_000)), *(("Accept-Encoding", value) for value in asked)]
    response = fetch(connection, "POST", path, headers, b'{"max_tokens":5}')
    assert response.status == 200, response.body
    assert [v for n, v in response.json()["headers"] if n.lower() == "accept-encoding"] == got
