"""TLS towards the upstreams of a real proxy: verified, resumed, and nothing sent to whoever is not the upstream."""

import re

import pytest

from harness import challenge_of, fetch
from prepaid import PrepaidWallet
from secure import Place, SecureUpstream

UPSTREAMS = """
[[upstream]]
name = "tls"
url = "https://127.0.0.1:{good}"
ca = "{folder}/root.pem"

[[upstream]]
name = "named"
url = "https://127.0.0.1:{named}"
ca = "{folder}/root.pem"
server-name = "upstream.test"

[[upstream]]
name = "misnamed"
url = "https://127.0.0.1:{named}"
ca = "{folder}/root.pem"

[[upstream]]
name = "untrusted"
url = "https://127.0.0.1:{good}"
ca = "{folder}/clients.pem"

[[upstream]]
name = "insecure"
url = "https://127.0.0.1:{named}"
verify = "insecure"

[[upstream]]
name = "mutual"
url = "https://127.0.0.1:{mutual}"
ca = "{folder}/root.pem"
certificate = "{folder}/agent.pem"
key = "{folder}/agent.key"

[[upstream]]
name = "refusing"
url = "https://127.0.0.1:{mutual}"
ca = "{folder}/root.pem"

[[upstream]]
name = "plain"
url = "https://127.0.0.1:{upstream}"
ca = "{folder}/root.pem"
"""

NAMES = ["tls", "named", "misnamed", "untrusted", "insecure", "mutual", "refusing", "plain"]


class UpstreamPlace(Place):
    """The proxy in front of upstreams with good certificates, with other names, and with a demand for the proxy's own."""

    def further(self, upstream):
        self.good = SecureUpstream(self.authority.server("upstream"))
        self.named = SecureUpstream(self.authority.server("named"))
        self.mutual = SecureUpstream(self.authority.server("upstream", clients=self.authority.path))
        text = UPSTREAMS.format(
            folder=self.authority.folder, good=self.good.port, named=self.named.port, mutual=self.mutual.port, upstream=upstream.port)
        for name in NAMES:
            text += f'\n[[route]]\nid = "up-{name}"\nprefix = "/up-{name}/"\nprice = "0.001 USDC per request"\nupstream = "{name}"\n'
        return text


@pytest.fixture(scope="module")
def place(binary, upstream, tmp_path_factory):
    place = UpstreamPlace(binary, tmp_path_factory.mktemp("tls"), upstream)
    yield place
    place.farebox.stop()
    place.farebox.assert_books_balance()


@pytest.mark.parametrize("name", ["tls", "named", "insecure", "mutual"])
def test_upstreams_are_reached_by_tls(place, name):
    secret = place.open_session(f"/up-{name}/echo")
    with place.connect() as connection:
        for _ in range(3):
            response = fetch(connection, "POST", f"/up-{name}/echo", {"Prepaid-Session": secret.short_form}, b"y" * 50_000)
            assert response.status == 200, (response.status, response.body)
        response = fetch(connection, "GET", f"/up-{name}/bytes/2000000", {"Prepaid-Session": secret.short_form})
        assert len(response.body) == 2_000_000
    if name == "named":
        assert "upstream.test" in place.named.names


@pytest.mark.parametrize("name", ["misnamed", "untrusted", "refusing", "plain"])
def test_upstreams_that_are_not_what_they_should_be_get_nothing(place, upstream, name):
    wallet = PrepaidWallet.new()
    place.farebox.create_wallet(wallet, "10 USDC")
    servers = (place.good, place.named, place.mutual, upstream)
    before = [server.count("/echo") for server in servers]
    with place.connect() as connection:
        challenge = challenge_of(fetch(connection, "GET", f"/up-{name}/echo"), "charge")
        response = fetch(connection, "GET", f"/up-{name}/echo", {"Authorization": wallet.transfer(challenge)})
        # One that takes a handshake for the beginning of a request closes, or waits for the rest of it.
        assert response.status in ((502, 504) if name == "plain" else (502, 503)), (response.status, response.body)
        assert response.get("payment-receipt") is None
    assert [server.count("/echo") for server in servers] == before
    assert place.farebox.balance(wallet) == 10_000_000


def test_insecurity_is_logged_at_start(place):
    assert re.search(r"warning.*whoever answers is taken for the upstream", place.log())


def test_sessions_with_upstreams_resume(place):
    place.good.resumed.clear()
    secret = place.open_session("/up-tls/echo")
    with place.connect() as connection:
        for _ in range(6):
            # The upstream ends each connection, so each request needs a new one.
            response = fetch(connection, "GET", "/up-tls/close/1", {"Prepaid-Session": secret.short_form})
            assert response.status == 200, (response.status, response.body)
    assert sum(place.good.resumed) >= 2, place.good.resumed
