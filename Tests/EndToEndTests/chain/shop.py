"""Servers that others wrote, unmodified: x402's FastAPI and Flask middleware before a page, paid through a facilitator, and pympp's, in one process with
whom it sells to."""

import logging
import threading
import time
from socket import socket

import uvicorn
from fastapi import FastAPI, Response
from flask import Flask, jsonify
from mpp import Challenge
from mpp.runtime import CredentialParams
from mpp.server import Mpp, Request
from werkzeug.serving import WSGIRequestHandler, make_server
from x402 import x402ResourceServer, x402ResourceServerSync
from x402.http import FacilitatorConfig, HTTPFacilitatorClient, HTTPFacilitatorClientSync
from x402.http.middleware.fastapi import payment_middleware as fastapi_middleware
from x402.http.middleware.flask import payment_middleware as flask_middleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.batch_settlement.server.scheme import BatchSettlementEvmScheme, BatchSettlementEvmSchemeServerConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.mechanisms.evm.upto import UptoEvmServerScheme

OVERRIDES = "Settlement-Overrides"


def routes(network, asset, receiver, amount="1000"):
    """What the pages cost: `/exact` by EIP-3009, `/permit2`, `/upto` (of which 300 is charged), `/batch`."""

    def option(scheme, **extra):
        price = {"amount": amount, "asset": asset, "extra": {"name": "USDC", "version": "2", **extra}}
        return RouteConfig(accepts=PaymentOption(scheme=scheme, pay_to=receiver, price=price, network=network, max_timeout_seconds=300, extra=extra or None))

    return {
        "GET /exact": option("exact"),
        "GET /permit2": option("exact", assetTransferMethod="permit2"),
        "GET /upto": option("upto"),
        "GET /batch": option("batch-settlement"),
    }


def register(server, network, receiver, authorizer):
    """The schemes of a server. `authorizer` signs claims and refunds of batch-settlement."""
    batch = BatchSettlementEvmScheme(receiver, BatchSettlementEvmSchemeServerConfig(receiver_authorizer_signer=authorizer))
    for scheme in (ExactEvmServerScheme(), UptoEvmServerScheme(), batch):
        server.register(network, scheme)
    return batch


class FastAPIShop:
    """The FastAPI middleware, under uvicorn in a thread."""

    def __init__(self, facilitator, asset, receiver, authorizer=None):
        server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=facilitator.url)))
        self.batch = register(server, facilitator.network, receiver, authorizer)
        app = FastAPI()
        app.middleware("http")(fastapi_middleware(routes(facilitator.network, asset, receiver), server))
        self.served = []

        @app.get("/{page}")
        def page(page: str, response: Response):
            self.served.append(page)
            if page == "upto":
                response.headers[OVERRIDES] = '{"amount": "300"}'
            return {"page": page}

        self.socket = socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def close(self):
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


class FlaskShop:
    """The Flask middleware, under werkzeug in a thread."""

    def __init__(self, facilitator, asset, receiver, authorizer=None):
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        server = x402ResourceServerSync(HTTPFacilitatorClientSync(FacilitatorConfig(url=facilitator.url)))
        self.batch = register(server, facilitator.network, receiver, authorizer)
        app = Flask("shop")
        self.served = []

        @app.get("/<page>")
        def page(page):
            self.served.append(page)
            response = jsonify({"page": page})
            if page == "upto":
                response.headers[OVERRIDES] = '{"amount": "300"}'
            return response

        flask_middleware(app, routes(facilitator.network, asset, receiver), server)
        self.server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


async def sell_by_pympp(offered, method, **offer):
    """Sells by a server method of pympp to a client method of its own. Gives the receipt, or the refusal's status."""
    handler = Mpp(methods=offered, secret_key="secret" * 6, realm="api.example.com").charge(**offer)
    bare = await handler(Request(method="GET", url="https://api.example.com/page", headers={}))
    challenge = Challenge.from_www_authenticate(bare.challenge.headers["www-authenticate"])
    value = await method.create_credential(CredentialParams(challenge=challenge))
    paid = await handler(Request(method="GET", url="https://api.example.com/page", headers={"Authorization": value}))
    return paid.receipt if paid.status == 200 else paid.status
