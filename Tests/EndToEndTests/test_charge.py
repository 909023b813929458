"""Charges end to end: the 402, the payment, its receipt, and every way of paying wrongly that must move no money."""

import base64
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import challenge_of, fetch, parse_challenges, request_of
from prepaid import PrepaidWallet, b64u, b64u_decode

PRICE = 1000  # 0.001 USDC
PATH = "/api/echo"


def pay(connection, wallet, path=PATH, method="GET", headers=(), body=None, credential=None):
    challenge = challenge_of(fetch(connection, method, path, headers, body), "charge")
    value = credential(challenge) if credential else wallet.transfer(challenge)
    return fetch(connection, method, path, [*headers, ("Authorization", value)], body), challenge, value


def test_bare_402(farebox, connection):
    response = fetch(connection, "GET", PATH)
    assert response.status == 402
    assert response.get("cache-control") == "no-store"
    assert response.problem() == "payment-required"
    lines = response.all("www-authenticate")
    assert all(line.startswith("Payment ") for line in lines) and len(lines) == 2
    charge, session = challenge_of(response, "charge"), challenge_of(response, "session")
    assert charge["method"] == session["method"] == "prepaid"
    request = request_of(charge)
    assert request["amount"] == str(PRICE) and request["currency"] == "usdc" and request["recipient"] == "acme"
    assert request["methodDetails"]["resource"] == {"method": "GET", "url": f"{farebox.origin}{PATH}"}
    assert len(b64u_decode(charge["id"])) == 32 and charge["expires"].endswith("Z")
    opaque = json.loads(b64u_decode(charge["opaque"]))
    assert all(isinstance(value, str) for value in opaque.values()) and len(b64u_decode(opaque["n"])) == 16
    assert response.json()["invoice"] == response.get("payment-invoice")


def test_two_challenges_never_share_an_id(connection):
    ids = {challenge_of(fetch(connection, "GET", PATH), "charge")["id"] for _ in range(50)}
    assert len(ids) == 50


def test_invoice_verifies_and_lists_the_offers(farebox, connection):
    response = fetch(connection, "GET", PATH)
    header, payload, signature = response.get("payment-invoice").split(".")
    head, claims = json.loads(b64u_decode(header)), json.loads(b64u_decode(payload))
    assert head["alg"] == "EdDSA" and head["typ"] == "payment-invoice+jwt"
    keys = fetch(connection, "GET", "/.well-known/jwks.json").json()["keys"]
    key = next(k for k in keys if k["kid"] == head["kid"])
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    Ed25519PublicKey.from_public_bytes(b64u_decode(key["x"])).verify(b64u_decode(signature), f"{header}.{payload}".encode())
    assert claims["iss"] == farebox.origin and claims["resource"]["url"] == f"{farebox.origin}{PATH}"
    challenges = {c["id"]: c for c in parse_challenges(response.headers)}
    assert {offer["id"] for offer in claims["offers"]} == set(challenges)
    for offer in claims["offers"]:
        assert offer["request"] == b64u(hashlib.sha256(challenges[offer["id"]]["request"].encode()).digest())


def test_paid_request_and_receipt(farebox, connection, wallet, upstream):
    before = farebox.balance(wallet)
    response, challenge, _ = pay(connection, wallet)
    assert response.status == 200, response.body
    receipt = response.receipt()
    assert receipt["method"] == "prepaid" and receipt["status"] == "success" and receipt["intent"] == "charge"
    assert receipt["challengeId"] == challenge["id"] and receipt["amount"] == str(PRICE)
    assert receipt["resource"] == {"method": "GET", "url": f"{farebox.origin}{PATH}"}
    assert None not in receipt.values()
    assert "private" in response.get("cache-control")
    assert farebox.balance(wallet) == before - PRICE
    seen = {name.lower() for name, _ in upstream.last()["headers"]}
    assert not seen & {"authorization", "payment-authorization", "prepaid-session", "accept-payment"}


def test_replay_is_403_and_free(farebox, connection, wallet, upstream):
    response, challenge, value = pay(connection, wallet)
    reference = response.receipt()["reference"]
    before, served = farebox.balance(wallet), upstream.count()
    replay = fetch(connection, "GET", PATH, {"Authorization": value})
    assert replay.status == 403 and not replay.all("www-authenticate")
    assert reference in json.dumps(replay.json())
    assert farebox.balance(wallet) == before and upstream.count() == served


def test_64_concurrent_uses_of_one_credential_serve_one(farebox, wallet, upstream):
    with farebox.connection() as connection:
        value = wallet.transfer(challenge_of(fetch(connection, "GET", "/api/slow/100"), "charge"))
    before, served = farebox.balance(wallet), upstream.count()

    def use(_):
        with farebox.connection() as c:
            return fetch(c, "GET", "/api/slow/100", {"Authorization": value}).status

    with ThreadPoolExecutor(64) as pool:
        statuses = list(pool.map(use, range(64)))
    assert statuses.count(200) == 1, statuses
    assert set(statuses) <= {200, 409, 403}
    assert farebox.balance(wallet) == before - PRICE and upstream.count() == served + 1


@pytest.mark.parametrize("path,method", [("/api/echo2", "GET"), ("/dear/echo", "GET"), (PATH + "?a=1", "GET"), (PATH, "POST"), ("/files/bytes/10", "GET")])
def test_credential_buys_only_what_it_was_quoted_for(farebox, connection, wallet, path, method, upstream):
    value = wallet.transfer(challenge_of(fetch(connection, "GET", PATH), "charge"))
    before, served = farebox.balance(wallet), upstream.count()
    response = fetch(connection, method, path, {"Authorization": value}, b"{}" if method == "POST" else None)
    assert response.status == 402, response.body
    assert response.problem() in ("invalid-challenge", "verification-failed")
    assert parse_challenges(response.headers)
    assert farebox.balance(wallet) == before and upstream.count() == served


def altered(name):
    def alter(challenge):
        challenge = dict(challenge)
        if name in ("amount", "currency", "recipient"):
            request = request_of(challenge)
            request[name] = {"amount": "1", "currency": "eurc", "recipient": "mallory"}[name]
            challenge["request"] = b64u(json.dumps(request, separators=(",", ":"), sort_keys=True).encode())
        elif name == "expires":
            challenge["expires"] = "2099-01-01T00:00:00Z"
        elif name == "opaque":
            opaque = json.loads(b64u_decode(challenge["opaque"]))
            opaque["n"] = b64u(b"0" * 16)
            challenge["opaque"] = b64u(json.dumps(opaque, separators=(",", ":"), sort_keys=True).encode())
        elif name == "id":
            challenge["id"] = b64u(bytes(32))
        elif name == "no expires":
            del challenge["expires"]
        else:
            challenge[name] = {"realm": "other.example", "intent": "session", "method": "tempo"}[name]
        return challenge

    return alter


@pytest.mark.parametrize("name", ["amount", "currency", "recipient", "expires", "opaque", "id", "realm", "intent", "method", "no expires"])
def test_an_altered_challenge_is_refused(farebox, connection, wallet, name):
    before = farebox.balance(wallet)
    response, _, _ = pay(connection, wallet, credential=lambda c: wallet.transfer(altered(name)(c)))
    assert response.status in (400, 402) and response.problem() in ("invalid-challenge", "malformed-credential", "verification-failed", "method-unsupported", "invalid-payload")
    assert farebox.balance(wallet) == before


def test_a_wrong_signature_is_refused(farebox, connection, wallet):
    other = PrepaidWallet.new()
    other.did = wallet.did
    before = farebox.balance(wallet)
    response, _, _ = pay(connection, wallet, credential=other.transfer)
    assert response.status == 402 and response.problem() == "verification-failed"
    assert farebox.balance(wallet) == before


@pytest.mark.parametrize("value", ["Payment", "Payment !", "Payment e30", "Payment " + b64u(b"[]"), "Payment " + b64u(b'{"challenge":{},"payload":{}}'), "Payment " + b64u(b"\xff\xfe"), "Payment " + "A" * 5000,
                                   "Payment " + b64u(b'{"a":1,"a":2}'), "Payment e30=", "payment e30", "PAYMENT\te30"])
def test_garbage_is_402_malformed_credential(connection, value):
    response = fetch(connection, "GET", PATH, {"Authorization": value})
    assert response.status == 402 and response.problem() == "malformed-credential"
    assert response.get("cache-control") == "no-store" and parse_challenges(response.headers)


def test_several_credentials_are_400(connection, wallet):
    value = wallet.transfer(challenge_of(fetch(connection, "GET", PATH), "charge"))
    response = fetch(connection, "GET", PATH, [("Authorization", value), ("Authorization", value)])
    assert response.status == 400
    with_both = [("Authorization", value), ("Payment-Authorization", value)]
    assert fetch(connection, "GET", PATH, with_both).status == 400


def test_too_little_money_and_unknown_wallet(farebox, connection):
    poor = PrepaidWallet.new()
    response, _, _ = pay(connection, poor)
    assert response.status == 402 and response.problem() == "payment-insufficient"
    farebox.create_wallet(poor, "0.0005 USDC")
    response, _, _ = pay(connection, poor)
    assert response.status == 402 and response.problem() == "payment-insufficient"
    assert farebox.balance(poor) == 500


def test_policies_refuse_with_403_and_name_the_limit(farebox, connection):
    for option, value, name in [("--daily-cap", "0.0005 USDC", "daily-cap"), ("--payment-cap", "0.0005 USDC", "payment-cap"), ("--allow", "somebody", "allow"), ("--expires", "2020-01-01T00:00:00Z", "expires")]:
        wallet = PrepaidWallet.new()
        farebox.create_wallet(wallet, "1 USDC", option, value)
        response, _, _ = pay(connection, wallet)
        assert response.status == 403 and response.problem() == "policy-denied", (name, response.body)
        assert name in response.json()["detail"] and not response.all("www-authenticate")
        assert farebox.balance(wallet) == 1_000_000


def test_frozen_wallet_pays_nothing_until_thawed(farebox, connection, wallet):
    farebox.command("wallet", "freeze", wallet.did)
    response, _, _ = pay(connection, wallet)
    assert response.status == 403 and response.problem() == "policy-denied" and "frozen" in response.json()["detail"]
    farebox.command("wallet", "thaw", wallet.did)
    assert pay(connection, wallet)[0].status == 200


@pytest.mark.parametrize("path,status", [("/api/status/500", 500), ("/api/status/404", 404), ("/api/die", 502), ("/api/status/301", 301)])
def test_an_upstream_that_fails_costs_nothing(farebox, connection, wallet, path, status):
    before = farebox.balance(wallet)
    response, challenge, value = pay(connection, wallet, path)
    assert response.status == status and response.receipt() is None
    assert farebox.balance(wallet) == before
    # The claim is released: the same credential may be tried again, and costs nothing again.
    assert fetch(connection, "GET", path, {"Authorization": value}).status == status
    assert farebox.balance(wallet) == before


def test_charge_with_a_body(farebox, connection, wallet, upstream):
    body = json.dumps({"prompt": "x" * 10_000}).encode()
    response, _, _ = pay(connection, wallet, method="POST", headers=[("Content-Type", "application/json")], body=body)
    assert response.status == 200
    assert response.json()["sha256"] == hashlib.sha256(body).hexdigest()


def test_digest_route_binds_the_body(farebox, connection, wallet):
    path, body = "/digest/echo", b'{"buy":"this"}'
    first = fetch(connection, "POST", path, (), body)
    challenge = challenge_of(first, "charge")
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert challenge["digest"] == f"sha-256=:{digest}:"
    value = wallet.transfer(challenge)
    before = farebox.balance(wallet)
    assert fetch(connection, "POST", path, {"Authorization": value}, b'{"buy":"that"}').status == 402
    assert farebox.balance(wallet) == before
    assert fetch(connection, "POST", path, {"Authorization": value}, body).status == 200


def test_payment_authorization_leaves_authorization_free(farebox, connection, wallet, upstream):
    path = "/header/echo"
    challenge = challenge_of(fetch(connection, "GET", path), "charge")
    assert challenge["header"] == "Payment-Authorization"
    value = wallet.transfer(challenge)
    assert fetch(connection, "GET", path, {"Authorization": value}).status == 402
    response = fetch(connection, "GET", path, {"Payment-Authorization": value, "Authorization": "Bearer upstream-key"})
    assert response.status == 200 and "private" in response.get("cache-control")
    seen = {name.lower(): value for name, value in upstream.last()["headers"]}
    assert seen["authorization"] == "Bearer upstream-key" and "payment-authorization" not in seen


def test_accept_payment_ranks_and_excludes(connection):
    def offered(value):
        return [c["intent"] for c in parse_challenges(fetch(connection, "GET", PATH, {"Accept-Payment": value}).headers)]

    assert offered("prepaid/session, prepaid/charge;q=0.5") == ["session", "charge"]
    assert offered("prepaid/*, prepaid/session;q=0") == ["charge"]
    assert set(offered("tempo/charge")) == {"charge", "session"}
    assert set(offered(";;;")) == {"charge", "session"}


def test_idempotency_key(farebox, connection, wallet, upstream):
    headers = [("Idempotency-Key", "order-1"), ("Content-Type", "application/json")]
    first, challenge, value = pay(connection, wallet, method="POST", headers=headers, body=b'{"n":1}')
    assert first.status == 200
    before, served = farebox.balance(wallet), upstream.count()
    again = fetch(connection, "POST", PATH, [*headers, ("Authorization", value)], b'{"n":1}')
    assert again.status == 200 and again.body == first.body and again.receipt() == first.receipt()
    fresh, _, _ = pay(connection, wallet, method="POST", headers=headers, body=b'{"n":1}')
    assert fresh.status == 200 and fresh.receipt() == first.receipt()
    other, _, _ = pay(connection, wallet, method="POST", headers=headers, body=b'{"n":2}')
    assert other.status == 422
    assert farebox.balance(wallet) == before and upstream.count() == served


def test_idempotent_answer_survives_a_kill(farebox, wallet):
    headers = [("Idempotency-Key", "order-kill")]
    with farebox.connection() as c:
        first, _, value = pay(c, wallet, method="POST", headers=headers, body=b"{}")
    farebox.kill()
    farebox.start()
    with farebox.connection() as c:
        again = fetch(c, "POST", PATH, [*headers, ("Authorization", value)], b"{}")
    assert again.status == 200 and again.body == first.body and again.receipt() == first.receipt()


def test_every_method_of_a_priced_route_is_priced(connection):
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "BREW"):
        response = fetch(connection, method, PATH)
        assert response.status in (402, 405, 501), (method, response.status)


def test_preflight_is_free_and_headers_are_exposed(connection):
    response = fetch(connection, "OPTIONS", PATH, {"Origin": "https://app.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"})
    assert response.status == 204
    assert "Authorization" in response.get("access-control-allow-headers")
    quoted = fetch(connection, "GET", PATH, {"Origin": "https://app.example"})
    assert quoted.status == 402 and "WWW-Authenticate" in quoted.get("access-control-expose-headers")


def test_forged_receipts_of_the_upstream_are_scrubbed(connection, wallet):
    response, _, _ = pay(connection, wallet, "/api/forge")
    assert response.status == 200 and len(response.all("payment-receipt")) == 1
    assert response.receipt()["method"] == "prepaid"
    for name in ("payment-response", "www-authenticate", "payment-invoice", "x-hop"):
        assert response.get(name) is None, name


def test_discovery_equals_the_402(farebox, connection):
    document = fetch(connection, "GET", "/openapi.json")
    assert document.status == 200 and document.get("content-type").startswith("application/json")
    paths = document.json()["paths"]
    operation = next(v for k, v in paths.items() if k.startswith("/api"))["get"]
    assert "402" in operation["responses"]
    offers = {o["intent"]: o for o in operation["x-payment-info"]["offers"]}
    for challenge in parse_challenges(fetch(connection, "GET", PATH).headers):
        request = request_of(challenge)
        assert offers[challenge["intent"]]["amount"] == request["amount"]
        assert offers[challenge["intent"]]["currency"] == request["currency"]
    assert fetch(connection, "GET", "/llms.txt").status == 200


def test_wallet_query(farebox, connection, wallet):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = wallet.query(now)
    response = fetch(connection, "POST", "/.well-known/prepaid/wallet", {"Content-Type": "application/json"}, json.dumps(body).encode())
    assert response.status == 200 and "10000000" in json.dumps(response.json()), response.body
    again = fetch(connection, "POST", "/.well-known/prepaid/wallet", {"Content-Type": "application/json"}, json.dumps(body).encode())
    assert again.status in (400, 401, 403, 409), "the nonce serves once"
    stale = wallet.query("2020-01-01T00:00:00Z")
    assert fetch(connection, "POST", "/.well-known/prepaid/wallet", {"Content-Type": "application/json"}, json.dumps(stale).encode()).status >= 400


def test_no_secret_stands_in_any_log(farebox, connection, wallet):
    _, _, value = pay(connection, wallet)
    farebox.settle_log()
    token = value.split(" ")[1]
    for path in (farebox.audit_path, farebox.log_path):
        text = path.read_text()
        assert token not in text and token[-60:] not in text
