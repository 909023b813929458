import os
from pathlib import Path

import pytest

from harness import Farebox
from prepaid import PrepaidWallet
from upstream import Upstream


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
