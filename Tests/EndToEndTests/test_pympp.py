"""A client that others wrote: pympp's, with the small prepaid method of prepaid.py."""

import asyncio

from mpp import Receipt
from mpp.client import Mpp

from harness import challenge_of, fetch
from prepaid import PrepaidWallet


def test_pympp_pays_a_charge(farebox, wallet):
    async def run():
        async with Mpp(methods=[wallet.charge(max_units=10_000)]) as mpp:
            return await mpp.fetch(f"{farebox.origin}/api/echo"), await mpp.fetch(f"{farebox.origin}/api/echo", method="POST", json={"a": 1})

    for response in asyncio.run(run()):
        assert response.status_code == 200
        receipt = Receipt.from_payment_receipt(response.headers["payment-receipt"])
        assert receipt.status == "success" and receipt.method == "prepaid" and receipt.reference
    assert farebox.balance(wallet) == 10_000_000 - 2_000


def test_pympp_does_not_pay_above_its_limit(farebox, wallet):
    async def run():
        async with Mpp(methods=[wallet.charge(max_units=10)]) as mpp:
            return await mpp.fetch(f"{farebox.origin}/api/echo")

    assert asyncio.run(run()).status_code == 402
    assert farebox.balance(wallet) == 10_000_000


def test_pympp_pays_once_when_it_lacks_money(farebox):
    """pympp pays again on every 402; a refusal must never have cost anything."""
    poor = PrepaidWallet.new()
    farebox.create_wallet(poor, "0.0005 USDC")

    async def run():
        async with Mpp(methods=[poor.charge(max_units=10_000)]) as mpp:
            return await mpp.fetch(f"{farebox.origin}/api/echo")

    assert asyncio.run(run()).status_code == 402
    assert farebox.balance(poor) == 500


def test_a_credential_that_pympp_made_is_good_once_and_here_only(farebox, wallet):
    from mpp import Challenge

    with farebox.connection() as connection:
        field = next(v for v in fetch(connection, "GET", "/api/echo").all("www-authenticate") if 'intent="charge"' in v)
        echo = Challenge.from_www_authenticate(field).to_echo()
        names = ("id", "realm", "method", "intent", "request", "expires", "digest", "opaque", "header", "description")
        value = wallet.transfer({n: getattr(echo, n) for n in names if getattr(echo, n) is not None})
        assert fetch(connection, "GET", "/dear/echo", {"Authorization": value}).status == 402
        assert fetch(connection, "GET", "/api/echo", {"Authorization": value}).status == 200
        assert fetch(connection, "GET", "/api/echo", {"Authorization": value}).status == 403
    assert farebox.balance(wallet) == 10_000_000 - 1_000
