"""Scheme upto of x402: a maximum is signed, the answer is metered as it passes, and what was used is settled afterwards. The official client pays; the proxy
settles itself, or the official facilitator does."""

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from x402 import x402Client, x402ClientSync
from x402.http.clients import x402_requests, x402HttpxClient
from x402.mechanisms.evm.upto import UptoEvmClientScheme

from chain.contracts import Contract
from chain.wallet import EXACT_WITNESS, MAXIMUM, PERMIT2, UPTO_WITNESS, hexadecimal, new_account, permit2_message, sign
from paystage import NETWORK, Stage, packed, poll, unpacked

EXACT_PROXY = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001"
UPTO_PROXY = "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002"
METERED = """
[[route]]
id = "octets"
prefix = "/octets/"
upstream = "api"
price = "0.001 USDC per KB"
rails = ["x402"]
upto = "0.01 USDC"

[[route]]
id = "units"
prefix = "/units/"
upstream = "api"
price = "0.0001 USDC per unit, at most 0.05 USDC"
rails = ["x402"]

[[route]]
id = "events"
prefix = "/events/"
upstream = "api"
price = "0.0005 USDC per event"
rails = ["prepaid", "x402"]
upto = "0.002 USDC"

[x402]
payment-identifier = "optional"
"""


@pytest.fixture(scope="module")
def own(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("own"), node, usdc, rich, routes=METERED)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def by_facilitator(binary, upstream, node, usdc, rich, facilitator, tmp_path_factory):
    stage = Stage.settled_by(facilitator, binary, upstream, tmp_path_factory.mktemp("by"), node, usdc, rich, routes=METERED)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def without_node(binary, upstream, node, usdc, rich, facilitator, tmp_path_factory):
    stage = Stage.settled_by(facilitator, binary, upstream, tmp_path_factory.mktemp("alone"), node, usdc, rich, routes=METERED, nodes=[])
    yield stage
    stage.close()


@pytest.fixture(params=["own", "by_facilitator"])
def stage(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def calm(node, facilitator):
    yield
    facilitator.heal()
    node.heal()
    node.release()


def payer(stage, units=1_000_000):
    account = stage.payer(units=units, coins=1)
    stage.token.run(account, "approve", PERMIT2, MAXIMUM)
    return account


def session(account):
    return x402_requests(x402ClientSync().register(NETWORK, UptoEvmClientScheme(account)))


def offer_of(stage, path):
    (offer,) = [offer for offer in stage.offered(path) if offer["scheme"] == "upto"]
    return offer


def payment(stage, account, path, seconds=300, signer=None, **changes):
    """A payment that is made by hand: the field's value."""
    offer = {**offer_of(stage, path), **changes}
    nonce, deadline = int.from_bytes(os.urandom(31), "big"), int(time.time()) + seconds
    settler = changes.pop("settler", offer["extra"]["facilitatorAddress"])
    values = {"to": offer["payTo"], "facilitator": settler, "validAfter": 0}
    permitted = (offer["asset"], int(offer["amount"]))
    message = permit2_message(stage.node.chain_id, permitted, UPTO_PROXY, nonce, deadline, UPTO_WITNESS, values)
    terms = {
        "permitted": {"token": offer["asset"], "amount": offer["amount"]},
        "from": account.address,
        "spender": UPTO_PROXY,
        "nonce": str(nonce),
        "deadline": str(deadline),
        "witness": {"to": offer["payTo"], "facilitator": settler, "validAfter": "0"},
    }
    payload = {"signature": hexadecimal(sign(signer or account, message)), "permit2Authorization": terms}
    return packed({"x402Version": 2, "accepted": offer, "payload": payload})


def settles(stage, before, amount, seconds=20):
    """Waits until the chain has what is owed, and the books say the same."""
    poll(lambda: stage.received == before + amount, seconds, f"a settlement of {amount}")
    poll(lambda: stage.booked == stage.received - stage.unbooked and stage.earned == stage.received, seconds, "the books")


def told(response):
    return unpacked(response.headers["PAYMENT-RESPONSE"])


def test_the_offer_is_a_maximum(stage):
    assert offer_of(stage, "/octets/a")["amount"] == "10000" and offer_of(stage, "/units/a")["amount"] == "50000"
    extra = offer_of(stage, "/octets/a")["extra"]
    assert extra["facilitatorAddress"] == (stage.signer or stage.facilitator).address and extra["assetTransferMethod"] == "permit2"
    assert [offer["scheme"] for offer in stage.offered("/octets/a")] == ["upto"]


# The official clients.


@pytest.mark.parametrize("path, amount", [("/octets/bytes/3500", 3500), ("/units/units/7", 700), ("/events/events/2", 2000), ("/octets/chunked/1001", 1001)])
def test_requests_pays_what_was_used(stage, path, amount):
    account, before = payer(stage), stage.received
    response = session(account).get(stage.farebox.origin + path, timeout=30)
    assert response.status_code == 200, response.text
    settles(stage, before, amount)
    assert stage.token.call("balanceOf", account.address) == 1_000_000 - amount


def test_httpx_pays_what_was_used(stage):
    account, before = payer(stage), stage.received

    async def run():
        client = x402Client().register(NETWORK, UptoEvmClientScheme(account))
        async with x402HttpxClient(client, timeout=30) as http:
            return [await http.get(stage.farebox.origin + f"/units/units/{number}") for number in (1, 2)]

    assert [response.status_code for response in asyncio.run(run())] == [200, 200]
    settles(stage, before, 300)


def test_a_post_is_bound_to_its_content(stage):
    account, before, path = payer(stage), stage.received, "/units/units/3"
    value = payment(stage, account, path)
    assert stage.send(value, path, "POST", data=b"a").status_code == 200
    assert stage.send(value, path, "POST", data=b"b").status_code == 409
    settles(stage, before, 300)


# The maximum.


def test_content_stops_at_the_maximum(stage):
    account, before, path = payer(stage), stage.received, "/octets/chunked/200000"
    with pytest.raises(requests.RequestException):
        stage.send(payment(stage, account, path), path)
    # What would cost more than the maximum does not begin to leave, or is paid for as far as it did.
    poll(lambda: not stage.farebox.command("payment", "list", "--open")["payments"], what="an end")
    assert stage.received - before <= 10_000
    settles(stage, before, stage.received - before)


def test_an_event_stream_ends_at_the_maximum_between_two_events(stage):
    account, before, path = payer(stage), stage.received, "/events/events/9"
    response = stage.send(payment(stage, account, path), path)
    assert response.status_code == 200 and response.content.endswith(b"\n\n") and response.content.count(b"event: tick") <= 4
    settles(stage, before, 2000)


def test_nothing_used_settles_nothing_and_uses_the_payment_up(own):
    account, before, sent, path = payer(own), own.received, own.sent, "/units/units/0"
    value, asked = payment(own, account, path), own.served(path)
    response = own.send(value, path)
    assert response.status_code == 200
    # While the first is being ended it is in flight.
    again = poll(lambda: (answer if (answer := own.send(value, path)).status_code != 409 else None), what="its end")
    assert again.status_code == 200 and told(again)["success"] and told(again)["amount"] == "0" and told(again)["transaction"] == ""
    assert own.served(path) == asked + 1 and own.received == before and own.sent == sent


# What it does not cost.


def test_an_upstreams_failure_costs_nothing_and_leaves_the_payment_good(stage, upstream):
    account, before, path = payer(stage), stage.received, "/units/units/5"
    value = payment(stage, account, path)
    upstream.status = 503
    assert stage.send(value, path).status_code == 503
    upstream.status = None
    assert stage.send(value, path).status_code == 200
    settles(stage, before, 500)


def test_who_cannot_pay_the_maximum_is_not_served(stage):
    account, before, path = payer(stage, units=9_999), stage.received, "/octets/bytes/10"
    response = stage.send(payment(stage, account, path), path)
    assert response.status_code == 402 and told(response)["success"] is False
    without = stage.payer(units=1_000_000)
    response = stage.send(payment(stage, without, path), path)
    assert response.status_code == 402 and stage.received == before and stage.served(path) == 0


@pytest.mark.parametrize("changes, reason", [
    ({"signer": new_account()}, "invalid_permit2_signature"), ({"amount": "9999"}, "invalid_payment_requirements"),
    ({"settler": "0x" + "11" * 20}, "upto_facilitator_mismatch"), ({"seconds": 3}, "permit2_deadline_expired"),
])
def test_what_is_wrong_is_told(own, changes, reason):
    path, before = "/octets/bytes/10", own.received
    changes = dict(changes)
    settler = changes.pop("settler", None)
    value = payment(own, payer(own), path, **changes)
    if settler:
        value = named(own, payer(own), path, settler)
    response = own.send(value, path)
    assert response.status_code == 402 and unpacked(response.headers["PAYMENT-REQUIRED"])["error"] == reason
    assert own.received == before and own.served(path) == 0


def named(stage, account, path, settler):
    members = unpacked(payment(stage, account, path))
    members["payload"]["permit2Authorization"]["witness"]["facilitator"] = settler
    return packed(members)


# More than once.


def test_a_repetition_gets_the_same_answer_and_learns_of_the_settlement(stage):
    account, before, path = payer(stage), stage.received, f"/octets/{time.monotonic_ns()}/chunked/2000"
    value = payment(stage, account, path)
    first = stage.send(value, path)
    settles(stage, before, 2000)
    again = stage.send(value, path)
    assert first.content == again.content and told(again)["success"] and told(again)["amount"] == "2000"
    assert stage.node.rpc("eth_getTransactionReceipt", told(again)["transaction"])["status"] == "0x1"
    assert stage.served(path) == 1 and stage.received == before + 2000


def test_of_16_at_once_one_is_served_and_settled(own):
    account, before, path = payer(own), own.received, f"/units/{time.monotonic_ns()}/units/9"
    value = payment(own, account, path)
    with ThreadPoolExecutor(16) as pool:
        statuses = {response.status_code for response in pool.map(lambda _: own.send(value, path), range(16))}
    assert statuses <= {200, 409} and 200 in statuses and own.served(path) == 1
    settles(own, before, 900)


def test_promises_are_covered_together(own):
    """The payer's money covers one maximum, not two at once."""
    account, before = payer(own, units=15_000), own.received
    slow, quick = "/octets/slow/1500", "/octets/bytes/10"
    first = own.sending(payment(own, account, slow), slow)
    poll(lambda: own.served(slow), what="the first")
    assert own.send(payment(own, account, quick), quick).status_code == 402
    assert first.result(timeout=20).status_code == 200
    settles(own, before, len(first.result().content))
    assert own.send(payment(own, account, quick), quick).status_code == 200
    settles(own, before, len(first.result().content) + 10)


# Names of payments.


def named_so(stage, account, path, name):
    members = unpacked(payment(stage, account, path))
    return packed({**members, "extensions": {"payment-identifier": {"info": {"required": False, "id": name}}}})


def test_a_name_of_what_was_not_served_is_free_again(own, upstream):
    """His payer signs anew, under the same name: the first promise was kept by nobody, and is in nobody's way."""
    account, before, path = payer(own), own.received, f"/units/{time.monotonic_ns()}/units/5"
    upstream.status = 503
    assert own.send(named_so(own, account, path, "upto_0123456789abcdef"), path).status_code == 503
    upstream.status = None
    assert own.send(named_so(own, account, path, "upto_0123456789abcdef"), path).status_code == 200
    settles(own, before, 500)


def test_a_name_of_what_was_served_and_not_kept_tells_that_it_was_paid(own):
    account, before, path = payer(own), own.received, f"/units/{time.monotonic_ns()}/bytes/70000"
    first = own.send(named_so(own, account, path, "upto_fedcba9876543210"), path)
    assert first.status_code == 200 and len(first.content) == 70_000
    again = own.send(named_so(own, account, path, "upto_fedcba9876543210"), path)
    assert again.status_code in (403, 409) and "Retry-After" not in again.headers and told(again)["success"], again.text
    assert own.served(path) == 1 and own.received == before


# Between service and settlement.


def test_what_is_owed_is_settled_after_a_crash(own):
    account, before, path = payer(own), own.received, "/units/units/11"
    own.node.hold()
    assert own.send(payment(own, account, path), path).status_code == 200
    # The answer has a length: its last octet may be there before what was used is written down.
    owed = lambda: [entry for entry in own.farebox.command("payment", "list", "--open")["payments"] if entry["payer"] == account.address.lower()]
    poll(lambda: [entry["amount"] for entry in owed()] == ["1100"], what="what is owed")
    own.farebox.kill()
    own.node.release()
    own.farebox.start()
    settles(own, before, 1100)


def test_what_the_payer_takes_away_is_owed_until_it_comes_back(own):
    account, before, path = payer(own, units=60_000), own.received, "/octets/slow/1500"
    asked = own.served(path)
    answer = own.sending(payment(own, account, path), path)
    poll(lambda: own.served(path) > asked, what="the request")
    own.token.run(account, "transfer", own.rich.address, 60_000)
    assert answer.result(timeout=20).status_code == 200
    time.sleep(1)
    listed = own.farebox.command("payment", "list", "--open")["payments"]
    assert [entry["amount"] for entry in listed if entry["payer"] == account.address.lower()] == ["13"] and own.received == before
    own.token.run(own.rich, "mint", account.address, 1000)
    settles(own, before, 13, seconds=40)


def test_a_client_that_takes_trailers_is_told_in_one(own):
    account, path = payer(own), "/octets/chunked/500"
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", own.farebox.port, timeout=20)
    connection.putrequest("GET", path)
    connection.putheader("PAYMENT-SIGNATURE", payment(own, account, path))
    connection.putheader("TE", "trailers")
    connection.endheaders()
    before = own.received
    raw = b""
    while not raw.endswith(b"\r\n\r\n") or raw.count(b"\r\n\r\n") < 2:
        piece = connection.sock.recv(65536)
        if not piece:
            break
        raw += piece
    connection.close()
    (line,) = [line for line in raw.split(b"\r\n") if line.startswith(b"PAYMENT-RESPONSE: ")]
    said = unpacked(line.split(b": ")[1])
    assert said["amount"] == "500" and said["errorReason"] == "settlement_pending" and json.dumps(said)
    settles(own, before, 500)


# Where a facilitator settles, and what it says is not all there is.


def lose_the_answer(stage, facilitator, account, path, kind="lost", **terms):
    """Has the facilitator settle what is owed, and its answer lost; then the proxy is killed and started again."""
    before = stage.received
    facilitator.fail(kind, 1, "/settle")
    facilitator.fail("error", 1000, "/settle")
    assert stage.send(payment(stage, account, path, **terms), path).status_code == 200
    poll(lambda: stage.received > before, what="the money")
    poll(lambda: [entry["state"] for entry in stage.open_payments(account)] == ["submitted"], what="its state")
    stage.farebox.kill()
    facilitator.heal()
    stage.farebox.start()


def test_an_answer_that_was_lost_is_made_up_for_after_a_crash(by_facilitator, facilitator):
    """Whether a call may have landed stands in the ledger: the next process knows it, and finds it on the chain."""
    account, before = payer(by_facilitator), by_facilitator.received
    lose_the_answer(by_facilitator, facilitator, account, "/units/units/12")
    settles(by_facilitator, before, 1200, seconds=40)
    assert not by_facilitator.open_payments(account)


@pytest.mark.parametrize("kind", ["denied", "refusing"])
def test_what_the_facilitator_denies_and_has_done_is_found(by_facilitator, facilitator, kind):
    """It settles, and says that it did not: only the chain's word counts."""
    account, before = payer(by_facilitator), by_facilitator.received
    facilitator.fail(kind, 1, "/settle")
    facilitator.fail("error", 1000, "/settle")
    path = "/units/units/16"
    assert by_facilitator.send(payment(by_facilitator, account, path), path).status_code == 200
    settles(by_facilitator, before, 1600, seconds=40)
    assert not by_facilitator.open_payments(account)


def test_what_is_owed_is_lost_when_the_chain_has_said_so_twice(own, node):
    """The payer takes his money away for good: nothing is given up before his signature has run out in a block, and in the next one."""
    account, before, path = payer(own, units=60_000), own.received, f"/octets/{time.monotonic_ns()}/slow/1500"
    value = payment(own, account, path, seconds=74)
    answer = own.sending(value, path)
    poll(lambda: own.served(path), what="the request")
    own.token.run(account, "transfer", own.rich.address, 60_000)
    assert answer.result(timeout=20).status_code == 200
    time.sleep(75)
    node.mine()
    time.sleep(30)
    assert own.open_payments(account)
    deadline = time.monotonic() + 120
    while own.open_payments(account):
        assert time.monotonic() < deadline
        node.mine()
        time.sleep(2)
    assert own.received == before and own.booked == own.received - own.unbooked
    # Who was served for what he took away is not served so again.
    own.token.run(own.rich, "mint", account.address, 60_000)
    assert own.send(payment(own, account, path), path).status_code == 402


@pytest.mark.parametrize("kind", ["lost", "denied"])
def test_what_may_have_landed_is_never_given_up_without_a_node(without_node, facilitator, kind):
    """The facilitator says that it cannot be settled, and nobody else can be asked: an operator has to look."""
    stage = without_node
    account, before = payer(stage), stage.received
    lose_the_answer(stage, facilitator, account, "/units/units/12", kind, seconds=73)
    (known,) = stage.open_payments(account)
    # The permit runs out, and the keeper looks once more.
    time.sleep(90)
    assert [entry["state"] for entry in stage.open_payments(account)] == ["submitted"]
    logs = stage.node.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": stage.token.address})
    parties = [account.address[2:].lower(), stage.merchant.address[2:].lower()]
    (transaction,) = {log["transactionHash"] for log in logs if [topic[-40:] for topic in log["topics"][1:3]] == parties}
    assert stage.farebox.run("payment", "resolve", known["payment"], "--settled", transaction).returncode != 0
    done = stage.farebox.run("payment", "resolve", known["payment"], "--settled", transaction, "--force")
    assert done.returncode == 0, done.stderr
    settles(stage, before, 1200)


def test_a_nonce_that_the_payer_used_is_no_money(by_facilitator, node, facilitator):
    """The call was lost before it did anything, and the payer cancels his permit: the facilitator says that it was used, and only the chain says how."""
    stage, path = by_facilitator, "/units/units/13"
    account, booked = payer(stage), stage.booked
    facilitator.fail("refused", 1, "/settle")
    facilitator.fail("error", 1000, "/settle")
    value = payment(stage, account, path)
    assert stage.send(value, path).status_code == 200
    poll(lambda: [entry["state"] for entry in stage.open_payments(account)] == ["submitted"], what="a call")
    nonce = int(unpacked(value)["payload"]["permit2Authorization"]["nonce"])
    Contract(node.rpc, "Permit2", PERMIT2).run(account, "invalidateUnorderedNonces", nonce >> 8, 1 << (nonce & 255))
    facilitator.heal()
    time.sleep(14)
    assert stage.booked == booked and [entry["amount"] for entry in stage.open_payments(account)] == ["1300"]


def test_a_facilitators_transaction_has_to_be_deep_too(binary, upstream, node, usdc, rich, facilitator, tmp_path):
    stage = Stage.settled_by(facilitator, binary, upstream, tmp_path, node, usdc, rich, more="confirmations = 3\n", routes=METERED)
    account, path = payer(stage), "/units/units/14"
    assert stage.send(payment(stage, account, path), path).status_code == 200
    poll(lambda: stage.received == 1400, what="the money")
    (known,) = poll(lambda: [entry for entry in stage.open_payments(account) if "transaction" in entry], what="its transaction in the books")
    time.sleep(6)
    assert stage.booked == 0 and facilitator.calls["/settle"] > 0
    node.mine(2)
    settles(stage, 0, 1400, seconds=40)
    assert stage.farebox.command("payment", "show", known["payment"])["transaction"] == known["transaction"]
    stage.close()


# What else is under way.


def test_what_is_paid_exactly_at_the_moment_is_no_cover(own):
    """The payer's money covers the maximum, or the payment that waits to be mined, and not both."""
    account, before = payer(own, units=10_500), own.received
    own.node.hold()
    exact = own.sending(own.payment(account, "/paid/beside"), "/paid/beside")
    poll(lambda: [entry["state"] for entry in own.open_payments(account)] == ["submitted"], what="the exact payment")
    path = "/octets/bytes/20"
    refused = own.send(payment(own, account, path), path)
    assert refused.status_code == 402 and unpacked(refused.headers["PAYMENT-REQUIRED"])["error"] == "permit2_insufficient_balance"
    own.node.release()
    assert exact.result(timeout=40).status_code == 200 and own.received == before + 1000


def test_what_was_promised_is_not_spent_twice(stage):
    """While an answer passes its maximum is promised: an exact payment that would leave less is refused, and nothing is lost."""
    account, before, slow = payer(stage, units=10_500), stage.received, f"/octets/slow/{2500 + (stage.signer is None)}"
    asked = stage.served(slow)
    answer = stage.sending(payment(stage, account, slow), slow)
    poll(lambda: stage.served(slow) > asked, what="the request")
    exact = stage.payment(account, "/paid/twice")
    assert stage.send(exact, "/paid/twice").status_code == 402 and stage.received == before
    assert answer.result(timeout=20).status_code == 200
    settles(stage, before, len(answer.result().content))
    assert stage.send(exact, "/paid/twice").status_code == 200


def test_an_exact_payment_by_the_same_nonce_is_another_one(own):
    """The nonce is public after the settlement: who brings it again without the payer's signature gets nothing."""
    account, before, path = payer(own), own.received, f"/units/{time.monotonic_ns()}/units/4"
    value = payment(own, account, path)
    assert own.send(value, path).status_code == 200
    settles(own, before, 400)
    known = unpacked(value)["payload"]["permit2Authorization"]
    terms = {**known, "spender": EXACT_PROXY, "witness": {"to": known["witness"]["to"], "validAfter": "0"}}
    accepted = {**unpacked(value)["accepted"], "scheme": "exact", "extra": {"assetTransferMethod": "permit2"}}
    forged = packed({"x402Version": 2, "accepted": accepted, "payload": {"signature": "0x" + "11" * 65, "permit2Authorization": terms}})
    assert own.send(forged, path).status_code == 409 and own.send(value, path).status_code == 200
