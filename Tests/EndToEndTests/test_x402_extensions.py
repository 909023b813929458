"""The extensions of x402: a payment's own name, signed offers and receipts, what catalogues are told, and who comes back for what he has paid."""

import base64
import json
import time
import uuid

import pytest
import requests
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from eth_account.messages import encode_defunct
from x402.extensions.payment_identifier import append_payment_identifier_to_extensions

from chain.contracts import deploy
from chain.wallet import hexadecimal, new_account
from paystage import NETWORK, PRICE, Stage, assert_is_later, packed, poll, session, settlement, unpacked
from prepaid import b64u_decode

ROUTES = """
[x402]
payment-identifier = "optional"
signed = true

[[route]]
id = "back"
prefix = "/back/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["x402"]
sign-in = "1 h"

[[route]]
id = "brief"
prefix = "/brief/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["x402"]
sign-in = "1 s"

[[route]]
id = "listed"
prefix = "/listed/"
upstream = "api"
price = "0.001 USDC per request"
rails = ["x402"]

[route.bazaar]
method = "GET"
query = '{{"city": "Berlin"}}'
query-schema = '{{"properties": {{"city": {{"type": "string"}}}}}}'
output = '{{"weather": "sunny"}}'
template = "/listed/:city"
"""


@pytest.fixture(scope="module")
def stage(binary, upstream, node, usdc, rich, tmp_path_factory):
    stage = Stage.settling_itself(binary, upstream, tmp_path_factory.mktemp("extensions"), node, usdc, rich, routes=ROUTES)
    yield stage
    stage.close()


# payment-identifier.


def identified(stage, account, name, path="/paid/a", **changes):
    members = unpacked(stage.payment(account, path, **changes))
    members["extensions"] = append_payment_identifier_to_extensions(stage.offers(path)["extensions"], name)
    members["extensions"].pop("offer-receipt", None)
    return packed(members)


def test_a_name_buys_once_whatever_is_signed(stage):
    account, before, name, path = stage.payer(), stage.received, uuid.uuid4().hex, "/paid/named"
    first = stage.send(identified(stage, account, name, path), path)
    # Signed anew, as a client does that has lost its answer.
    again = stage.send(identified(stage, account, name, path), path)
    assert first.status_code == again.status_code == 200 and first.content == again.content
    assert settlement(first) == settlement(again) and stage.served(path) == 1 and stage.received == before + PRICE


def test_another_request_by_the_same_name_is_refused(stage):
    account, name = stage.payer(), uuid.uuid4().hex
    assert stage.send(identified(stage, account, name)).status_code == 200
    before = stage.received
    other = stage.send(identified(stage, account, name, "/paid/b"), "/paid/b")
    assert other.status_code == 409 and "PAYMENT-REQUIRED" not in other.headers and stage.received == before


def test_a_name_is_its_payers_own(stage):
    name, before = uuid.uuid4().hex, stage.received
    answers = [stage.send(identified(stage, stage.payer(), name, path), path) for path in ("/paid/mine", "/paid/yours")]
    assert [answer.status_code for answer in answers] == [200, 200] and stage.received == before + 2 * PRICE


def test_a_name_survives_a_restart(stage):
    """The first payment was sent and its client has lost its answer; it signs another one after the proxy was killed."""
    account, before, name, path = stage.payer(), stage.received, uuid.uuid4().hex, "/paid/survives"
    stage.node.hold()
    try:
        first = stage.sending(identified(stage, account, name, path), path)
        poll(lambda: stage.pooled, what="a transaction")
        stage.farebox.kill()
        assert_is_later(first)
        stage.farebox.start()
        stage.wait_for_offers()
        again = identified(stage, account, name, path)
        other = stage.send(identified(stage, account, name, "/paid/other"), "/paid/other")
        assert other.status_code == 409
    finally:
        stage.node.release()
    response = stage.send_until_served(again, path)
    assert stage.received == before + PRICE and stage.served(path) == 1 and settlement(response)["success"]
    assert stage.send(again, path).content == response.content


def test_a_name_of_a_contract_buys_once_too(stage):
    """Nothing tells who has signed before the contract was asked: of two that are asked about at once, one is claimed."""
    owner, before, name, path = new_account(), stage.received, uuid.uuid4().hex, "/paid/contract"
    stage.node.fund(owner.address)
    wallet = deploy(stage.node.rpc, stage.rich, "SmartWallet", owner.address)
    stage.token.run(stage.rich, "mint", wallet.address, 10_000)
    values = [identified(stage, owner, name, path, sender=wallet.address, change=lambda signature: signature + bytes(32)) for _ in range(2)]
    first, second = [answer.result(timeout=40) for answer in [stage.sending(value, path) for value in values]]
    assert sorted([first.status_code, second.status_code])[0] == 200 and {first.status_code, second.status_code} <= {200, 403, 409}
    time.sleep(2)
    assert stage.received == before + PRICE and stage.served(path) == 1


@pytest.mark.parametrize("name", ["short", "x" * 129, "sixteen octets!!", 7])
def test_what_is_no_name_is_answered_400(stage, name):
    members, before = unpacked(stage.payment(stage.payer())), stage.received
    members["extensions"] = {"payment-identifier": {"info": {"required": False, "id": name}}}
    assert stage.send(packed(members)).status_code == 400 and stage.received == before


def test_a_declaration_that_is_echoed_otherwise_is_told(stage):
    members = unpacked(stage.payment(stage.payer()))
    members["extensions"] = {"payment-identifier": {"info": {"required": True}}}
    response = stage.send(packed(members))
    assert response.status_code == 402 and unpacked(response.headers["PAYMENT-REQUIRED"])["error"] == "extension_echo_mismatch"


def test_it_can_be_asked_for(binary, upstream, node, usdc, rich, tmp_path):
    stage = Stage.settling_itself(binary, upstream, tmp_path, node, usdc, rich, routes='[x402]\npayment-identifier = "required"\n')
    try:
        assert stage.offers()["extensions"]["payment-identifier"]["info"] == {"required": True}
        assert stage.send(stage.payment(stage.payer())).status_code == 400
        assert stage.send(identified(stage, stage.payer(), uuid.uuid4().hex)).status_code == 200
    finally:
        stage.close()


# offer-receipt.


def opened(stage, token):
    """A JWS by the proxy's published key: its payload."""
    header, payload, signature = token.split(".")
    kid = json.loads(b64u_decode(header))["kid"]
    assert json.loads(b64u_decode(header))["alg"] == "EdDSA" and kid.startswith("did:key:z") and kid.split("#")[0].endswith(kid.split("#")[1])
    (key,) = [Ed25519PublicKey.from_public_bytes(b64u_decode(key["x"])) for key in keys(stage)]
    key.verify(b64u_decode(signature), f"{header}.{payload}".encode())
    members = json.loads(b64u_decode(payload))
    assert rfc8785.dumps(members) == b64u_decode(payload)
    return members


def keys(stage):
    return requests.get(stage.farebox.origin + "/.well-known/jwks.json", timeout=5).json()["keys"]


def test_offers_and_receipts_are_signed(stage):
    path = "/paid/signed"
    required = stage.offers(path)
    offers = required["extensions"]["offer-receipt"]["info"]["offers"]
    for entry in offers:
        terms, offer = opened(stage, entry["signature"]), required["accepts"][entry["acceptIndex"]]
        assert entry["format"] == "jws" and terms["resourceUrl"] == stage.farebox.origin + path
        assert all(terms[name] == offer[name] for name in ("scheme", "network", "asset", "payTo", "amount")) and terms["validUntil"] > time.time()
    assert [entry["acceptIndex"] for entry in offers] == list(range(len(required["accepts"])))
    account = stage.payer()
    told = settlement(session(account).get(stage.farebox.origin + path, timeout=30))
    receipt = opened(stage, told["extensions"]["offer-receipt"]["info"]["receipt"]["signature"])
    assert receipt["payer"].lower() == account.address.lower() and receipt["transaction"] == told["transaction"] and receipt["network"] == NETWORK
    assert receipt["resourceUrl"] == stage.farebox.origin + path and abs(receipt["issuedAt"] - time.time()) < 60


# bazaar.


def test_what_catalogues_are_told(stage):
    bazaar = stage.offers("/listed/berlin")["extensions"]["bazaar"]
    assert bazaar["info"]["input"] == {"type": "http", "method": "GET", "queryParams": {"city": "Berlin"}}
    assert bazaar["routeTemplate"] == "/listed/:city" and bazaar["schema"]["properties"]["input"]["properties"]["queryParams"]["properties"]["city"]
    assert "bazaar" not in stage.offers("/paid/a")["extensions"]
    response = session(stage.payer()).get(stage.farebox.origin + "/listed/berlin", timeout=30)
    assert response.status_code == 200


# sign-in-with-x.


def proof(stage, account, path, **changes):
    """What a wallet makes of a 402: the message of EIP-4361, and its signature."""
    declared = stage.offers(path)["extensions"]["sign-in-with-x"]
    info = {**declared["info"], **declared["supportedChains"][0], "address": account.address, **changes}
    lines = [f"{info['domain']} wants you to sign in with your Ethereum account:", info["address"], ""]
    if info.get("statement"):
        lines.append(info["statement"])
    lines += ["", f"URI: {info['uri']}", "Version: 1", f"Chain ID: {info['chainId'].split(':')[1]}", f"Nonce: {info['nonce']}"]
    lines += [f"Issued At: {info['issuedAt']}", f"Expiration Time: {info['expirationTime']}", "Resources:"]
    lines += [f"- {resource}" for resource in info["resources"]]
    signed = account.sign_message(encode_defunct(text="\n".join(lines)))
    return packed({**info, "signature": hexadecimal(bytes(signed.signature))})


def back(stage, value, path, method="GET", **more):
    return requests.request(method, stage.farebox.origin + path, headers={"SIGN-IN-WITH-X": value}, timeout=10, **more)


def test_who_has_paid_comes_back_and_pays_nothing(stage):
    account, path = stage.payer(), "/back/a?q=1"
    assert session(account).get(stage.farebox.origin + path, timeout=30).status_code == 200
    before, served = stage.received, stage.served(path)
    for _ in range(2):
        response = back(stage, proof(stage, account, path), path)
        assert response.status_code == 200 and "private" in response.headers["Cache-Control"]
    assert stage.served(path) == served + 2 and stage.received == before
    for other in ("/back/b", "/back/a?q=2", "/back/a"):
        assert back(stage, proof(stage, account, other), other).status_code == 402
    assert back(stage, proof(stage, account, path), path, "POST", data=b"x").status_code == 402
    assert stage.received == before


def test_the_upstream_never_sees_the_proof(stage):
    account, path = stage.payer(), "/back/echo"
    assert session(account).get(stage.farebox.origin + path, timeout=30).status_code == 200
    response = back(stage, proof(stage, account, path), path)
    assert "sign-in-with-x" not in {name.lower() for name, _ in response.json()["headers"]}


def test_who_has_not_paid_is_asked_to(stage):
    path = "/back/other"
    assert session(stage.payer()).get(stage.farebox.origin + path, timeout=30).status_code == 200
    response = back(stage, proof(stage, new_account(), path), path)
    assert response.status_code == 402 and response.headers["PAYMENT-REQUIRED"]


def test_a_proof_is_used_once(stage):
    account, path = stage.payer(), "/back/once"
    assert session(account).get(stage.farebox.origin + path, timeout=30).status_code == 200
    value = proof(stage, account, path)
    assert back(stage, value, path).status_code == 200
    again = back(stage, value, path)
    assert again.status_code == 402 and "invalid_siwx_nonce" in again.text


def test_a_proof_is_used_once_over_restarts_too(stage):
    account, path = stage.payer(), "/back/twice"
    assert session(account).get(stage.farebox.origin + path, timeout=30).status_code == 200
    value = proof(stage, account, path)
    assert back(stage, value, path).status_code == 200
    stage.farebox.kill()
    stage.farebox.start()
    stage.wait_for_offers()
    again = back(stage, value, path)
    assert again.status_code == 402 and "invalid_siwx_nonce" in again.text
    assert back(stage, proof(stage, account, path), path).status_code == 200


def altered(value, **changes):
    members = {**json.loads(base64.b64decode(value)), **changes}
    return base64.b64encode(json.dumps(members).encode()).decode()


def test_proofs_that_do_not_hold(stage):
    account, other, path = stage.payer(), new_account(), "/back/faults"
    assert session(account).get(stage.farebox.origin + path, timeout=30).status_code == 200
    good = proof(stage, account, path)
    members = json.loads(base64.b64decode(good))
    evil = {"domain": "evil.example", "uri": "https://evil.example/back/faults"}
    early = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 400))
    cases = [
        (proof(stage, account, path, nonce="a" * 32), "invalid_siwx_nonce"),
        (proof(stage, account, path, issuedAt=early), "invalid_siwx_issued_at_too_old"),
        (proof(stage, account, path, expirationTime=early), "invalid_siwx_expired"),
        (proof(stage, account, path, chainId="eip155:1"), "invalid_siwx_unsupported_chain"),
        (proof(stage, account, path, **evil), "invalid_siwx_domain_mismatch"),
        (altered(good, address=other.address), "invalid_siwx_signature"),
        (altered(good, statement="more"), "invalid_siwx_signature"),
        (altered(proof(stage, other, path), address=account.address), "invalid_siwx_signature"),
    ]
    for value, fault in cases:
        response = back(stage, value, path)
        assert response.status_code == 402 and fault in response.text, (fault, response.text)
    for value in ("", "x", "e30=", altered(good, nonce="a\nb"), altered(good, type="ed25519")):
        assert back(stage, value, path).status_code in (400, 402)
    assert members["domain"] == stage.farebox.authority and back(stage, good, path).status_code == 200


def test_it_ends_after_its_time(stage):
    account, path = stage.payer(), "/brief/a"
    assert session(account).get(stage.farebox.origin + path, timeout=30).status_code == 200
    time.sleep(1.2)
    assert back(stage, proof(stage, account, path), path).status_code == 402


def test_it_survives_a_restart(stage):
    account, path = stage.payer(), "/back/restart"
    assert session(account).get(stage.farebox.origin + path, timeout=30).status_code == 200
    stage.farebox.kill()
    stage.farebox.start()
    stage.wait_for_offers()
    assert back(stage, proof(stage, account, path), path).status_code == 200


def test_a_route_without_it_takes_no_proof(stage):
    account = stage.payer()
    assert session(account).get(stage.farebox.origin + "/paid/a", timeout=30).status_code == 200
    assert "sign-in-with-x" not in stage.offers("/paid/a")["extensions"]
    assert back(stage, proof(stage, account, "/back/a"), "/paid/a").status_code == 402


def test_a_client_of_version_2_that_knows_no_extensions_pays(stage):
    account = stage.payer()
    assert session(account).get(stage.farebox.origin + "/back/plain", timeout=30).status_code == 200

