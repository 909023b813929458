"""The servers of the PyPI packages x402 and pympp, each under FastAPI and uvicorn in one process, which sell what an upstream answers.

Alone: `python sellers.py x402|pympp PORT UPSTREAM FACILITATOR RECEIVER ASSET`, ports and addresses.
"""

import sys

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from mpp.methods.evm import server as evm
from mpp.server import Mpp
from mpp.server.decorator import pay
from x402 import x402ResourceServer
from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.middleware.fastapi import payment_middleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme

CHAIN = 84532
NETWORK = f"eip155:{CHAIN}"
DOMAIN = {"name": "USDC", "version": "2"}


def sell_by_x402(app, page, facilitator, receiver, asset):
    server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=facilitator)))
    server.register(NETWORK, ExactEvmServerScheme())
    price = {"amount": "1000", "asset": asset, "extra": DOMAIN}
    option = PaymentOption(scheme="exact", pay_to=receiver, price=price, network=NETWORK, max_timeout_seconds=300)
    app.middleware("http")(payment_middleware({"GET /paid": RouteConfig(accepts=option)}, server))
    app.get("/paid")(page)


def sell_by_pympp(app, page, facilitator, receiver, asset):
    """By pympp's method evm, which takes x402's payments too."""
    method = evm.charge(
        currency=asset, chain_id=CHAIN, decimals=6, authorization=DOMAIN, recipient=receiver, facilitator=facilitator, route_binding="resource")
    handler = Mpp(methods=[method], secret_key="secret" * 6, realm="127.0.0.1").charge(amount="0.001")

    @app.get("/paid")
    @pay(handler)
    async def paid(request: Request, credential, receipt):
        return await page()


def main(kind, port, upstream, facilitator, receiver, asset):
    app = FastAPI()
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{upstream}", limits=httpx.Limits(max_connections=128, max_keepalive_connections=128))

    async def page():
        answer = await client.get("/paid")
        return Response(answer.content, answer.status_code, media_type=answer.headers["Content-Type"])

    sell = {"x402": sell_by_x402, "pympp": sell_by_pympp}[kind]
    sell(app, page, f"http://127.0.0.1:{facilitator}", receiver, asset)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="critical", access_log=False, lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
