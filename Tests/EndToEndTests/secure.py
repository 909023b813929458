"""A proxy whose listeners speak TLS, the upstreams that do, and connections to either."""

import re
import ssl
import time

from certificates import Authority, common_name
from harness import CONFIGURATION, Connection, Farebox, challenge_of, fetch, free_port
from prepaid import PrepaidWallet, SessionSecret
from upstream import Upstream

LISTENERS = """
[[listen]]
address = "127.0.0.1:{tls}"
[listen.tls]
[[listen.tls.certificates]]
chain = "{folder}/used.pem"
key = "{folder}/used.key"
[[listen.tls.certificates]]
chain = "{folder}/wild.pem"
key = "{folder}/wild.key"
[[listen.tls.certificates]]
chain = "{folder}/other.pem"
key = "{folder}/other.key"

[[listen]]
address = "127.0.0.1:{required}"
[listen.tls]
client-ca = "{folder}/clients.pem"
[[listen.tls.certificates]]
chain = "{folder}/used.pem"
key = "{folder}/used.key"

[[listen]]
address = "127.0.0.1:{optional}"
[listen.tls]
client-ca = "{folder}/clients.pem"
client-certificates = "optional"
client-subject-field = "X-Who"
[[listen.tls.certificates]]
chain = "{folder}/used.pem"
key = "{folder}/used.key"

[[listen]]
address = "127.0.0.1:{redirect}"
redirect = true
"""

class SecureUpstream(Upstream):
    """The upstream of the tests, over TLS."""

    def __init__(self, context):
        self.context = context
        self.resumed = []
        self.names = []
        context.sni_callback = lambda connection, name, _: self.names.append(name)
        super().__init__()

    def serve(self, connection):
        try:
            connection = self.context.wrap_socket(connection, server_side=True)
            self.resumed.append(connection.session_reused)
        except (ssl.SSLError, OSError):
            return
        super().serve(connection)

    def exchange(self, connection, reader):
        goes_on = super().exchange(connection, reader)
        if not goes_on:
            connection.settimeout(2)
            connection.unwrap()
        return goes_on


class SecureConnection(Connection):
    """One HTTP/1.1 connection over TLS."""

    def __init__(self, port, context, name="127.0.0.1", session=None, timeout=15):
        super().__init__(port, timeout=timeout)
        self.socket = context.wrap_socket(self.socket, server_hostname=name, session=session)

    @property
    def shown(self):
        return common_name(self.socket.getpeercert(binary_form=True))


class Place:
    """A proxy with certificates and upstreams of its own."""

    def __init__(self, binary, folder, upstream):
        self.authority = Authority(folder / "certificates")
        self.clients = Authority(folder / "certificates", "clients")
        issue = self.authority.issue
        issue("first", ["127.0.0.1", "first.test"])
        issue("second", ["127.0.0.1", "first.test"])
        issue("third", ["127.0.0.1", "first.test"], kind="rsa")
        issue("ended", ["127.0.0.1", "first.test"], days=3, since=-5)
        issue("wild", ["*.wild.test"])
        issue("other", ["other.test"])
        issue("upstream", ["127.0.0.1"])
        issue("named", ["upstream.test"])
        issue("agent", client=True)
        self.clients.issue("alice", client=True, organization="Acme, Inc")
        self.authority.issue("mallory", client=True)
        self.authority.install("first", "used")
        self.ports = {name: free_port() for name in ("tls", "required", "optional", "redirect")}
        text = CONFIGURATION.replace('origin = "http://127.0.0.1:{port}"', f'origin = "https://127.0.0.1:{self.ports["tls"]}"')
        text = re.sub(r'(\[\[route\]\]\nid = )', r'[[route]]\nupstream = "api"\nid = ', text)
        text += LISTENERS.format(folder=self.authority.folder, **self.ports) + self.further(upstream)
        self.farebox = Farebox(binary, folder / "farebox", upstream.port, configuration=text)

    def further(self, upstream):
        """What else stands in the configuration."""
        return ""

    def connect(self, port="tls", name="127.0.0.1", **options):
        session = options.pop("session", None)
        return SecureConnection(self.ports[port], self.authority.client(**options), name=name, session=session)

    def shown(self, **options):
        with self.connect(**options) as connection:
            return connection.shown

    def await_shown(self, name, seconds=8):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.shown() == name:
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.shown()} is shown, not {name}:\n{self.log()[-2000:]}")

    def log(self):
        return self.farebox.log_path.read_text()

    def await_log(self, pattern, since=0, seconds=8):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if re.search(pattern, self.log()[since:]):
                return
            time.sleep(0.1)
        raise AssertionError(f"{pattern} is not in the log:\n{self.log()[since:][-3000:]}")

    def open_session(self, path, deposit=1_000_000):
        wallet = PrepaidWallet.new()
        self.farebox.create_wallet(wallet, "10 USDC")
        with self.connect() as connection:
            challenge = challenge_of(fetch(connection, "HEAD", path), "session")
            secret = SessionSecret.new()
            response = fetch(connection, "HEAD", path, {"Authorization": wallet.open(challenge, secret, deposit)})
            assert response.status == 200, (response.status, response.body)
        return secret
