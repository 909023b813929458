"""Pays an MCP endpoint behind a Farebox: a small layer around the session of the `mcp` package's client.

A challenge of `error.data` becomes the credential of `_meta` (draft-payment-transport-mcp-00): `request` and `opaque` are objects there,
and the b64u of their canonical form in what a wallet signs.
"""

import json

import rfc8785
from mcp.shared.exceptions import MCPError

from prepaid import b64u, b64u_decode

CREDENTIAL, RECEIPT, INFORMATION = "org.paymentauth/credential", "org.paymentauth/receipt", "org.paymentauth/payment-info"


def text_form(challenge):
    """A challenge as `WWW-Authenticate` would carry it."""
    return {name: b64u(rfc8785.dumps(value)) if name in ("request", "opaque") else value for name, value in challenge.items()}


def in_message(challenge, credential):
    """The `_meta` for a credential that a wallet made for `text_form(challenge)`."""
    members = json.loads(b64u_decode(credential.split()[1]))
    return {CREDENTIAL: {**members, "challenge": challenge}}


def offer(error, intent):
    return next(c for c in error.data["challenges"] if c["intent"] == intent)


async def challenged(call, code=-32042):
    """The error that a call gets, which must have this code."""
    try:
        result = await call
    except MCPError as error:
        assert error.code == code, (error.code, error.message, error.data)
        return error
    raise AssertionError(f"it was not refused: {result}")


class Payer:
    """Calls what has a price: asks, pays by charge, and calls again."""

    def __init__(self, client, wallet):
        self.client, self.wallet = client, wallet

    async def charge(self, name, arguments=None, **more):
        error = await challenged(self.client.call_tool(name, arguments or {}))
        challenge = offer(error, "charge")
        meta = in_message(challenge, self.wallet.transfer(text_form(challenge)))
        return await self.client.call_tool(name, arguments or {}, meta=meta, **more)

    async def open(self, name, arguments, secret, deposit):
        challenge = offer(await challenged(self.client.call_tool(name, arguments)), "session")
        result = await self.client.call_tool(name, arguments, meta=in_message(challenge, self.wallet.open(text_form(challenge), secret, deposit)))
        return result, challenge

    def bearer(self, challenge, secret, action="bearer"):
        return in_message(challenge, self.wallet.bearer(text_form(challenge), secret, action))

    def top_up(self, challenge, secret, units):
        return in_message(challenge, self.wallet.top_up(text_form(challenge), secret.session_id, units))
