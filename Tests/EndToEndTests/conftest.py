import os

import pytest

from harness import Farebox
from prepaid import PrepaidWallet
from upstream import Upstream


# The files that take longest begin first, so that no worker of pytest-xdist is left alone with one at the end.
SLOWEST = ("test_x402_upto.py", "test_channel_tempo.py", "test_evm_charge.py", "test_tempo_charge.py", "test_chain_operations.py", "test_crash.py", "test_disk_faults.py", "test_upgrade_faults.py", "test_agent.py", "test_counts.py", "test_http2.py", "test_tokens.py", "test_faults.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: SLOWEST.index(item.path.name) if item.path.name in SLOWEST else len(SLOWEST))


@pytest.fixture(scope="session")
def binary():
    path = os.environ.get("FAREBOX")
    assert path, "set FAREBOX to the release binary (scripts/build prints its path)"
    return path


@pytest.fixture(scope="session")
def upstream():
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def farebox(binary, upstream, tmp_path_factory):
    """A proxy of the test file's own, over a ledger of its own; its books must balance when the file is done."""
    proxy = Farebox(binary, tmp_path_factory.mktemp("farebox"), upstream.port)
    yield proxy
    proxy.stop()
    proxy.assert_books_balance()


@pytest.fixture
def wallet(farebox):
    wallet = PrepaidWallet.new()
    farebox.create_wallet(wallet, "10 USDC")
    return wallet


@pytest.fixture
def connection(farebox):
    with farebox.connection() as connection:
        yield connection


@pytest.fixture(scope="module")
def rich():
    """Who has gas money on the test file's chain, mints its tokens and deploys."""
    from chain.wallet import new_account

    return new_account()


@pytest.fixture(scope="module")
def node(rich):
    """A chain of the test file's own, with the tests' contracts on it."""
    from chain.node import Node

    with Node(accounts={rich.address: 10**24}) as node:
        yield node


@pytest.fixture(scope="module")
def usdc(node):
    from chain.contracts import Contract

    return Contract(node.rpc, "Token", "usdc")


@pytest.fixture
def payer(node, usdc, rich):
    """A new key with a coin for gas and one USDC."""
    from chain.wallet import new_account

    account = new_account()
    node.fund(account.address)
    usdc.run(rich, "mint", account.address, 1_000_000)
    return account


@pytest.fixture(scope="module")
def facilitator(node):
    """The PyPI package x402's facilitator, settling on the test file's chain."""
    from chain.facilitator import Facilitator

    with Facilitator(node.url) as facilitator:
        node.fund(facilitator.address)
        yield facilitator


@pytest.fixture(scope="module")
def own(binary, upstream, node, usdc, rich, tmp_path_factory):
    """A proxy that settles itself."""
    from paystage import Stage

    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("own"), node, usdc, rich)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def by_facilitator(binary, upstream, node, usdc, rich, facilitator, tmp_path_factory):
    """A proxy whose payments a facilitator settles."""
    from paystage import Stage

    stage = Stage.settled_by(facilitator, binary, upstream, tmp_path_factory.mktemp("by"), node, usdc, rich)
    yield stage
    stage.close()


@pytest.fixture(params=["own", "by_facilitator"])
def stage(request):
    """Each kind of proxy that is paid on a chain."""
    return request.getfixturevalue(request.param)
