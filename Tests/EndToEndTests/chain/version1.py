"""The PyPI package x402 0.3.0, which speaks version 1 and cannot be installed beside 2.x: its clients and its FastAPI middleware, in processes of their own.

`scripts/test` installs it alone in a folder, which `FAREBOX_X402_V1` names; what it needs besides is installed anyway.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("FAREBOX_X402_V1") or TESTS.parent.parent / ".build" / "x402-v1")


def process(*arguments, **options):
    assert (FOLDER / "x402").is_dir(), f"pip install --no-deps --target {FOLDER} x402==0.3.0"
    environment = {**os.environ, "PYTHONPATH": f"{FOLDER}:{TESTS}"}
    return subprocess.Popen([sys.executable, "-m", "chain.version1", *arguments], env=environment, stdout=subprocess.PIPE, text=True, **options)


def pay(account, urls, library="requests", method="GET"):
    """Pays one request after another with the key of `account`. Gives each answer's `status`, `headers` (lower-case names), `body`, and the `paid` header
    that was sent, or its `error`."""
    done = process("pay", library, method, *urls, stdin=subprocess.PIPE)
    output, _ = done.communicate(account.key.hex(), timeout=60)
    assert done.returncode == 0, output
    return json.loads(output)


class Shop:
    """A page at `/paid` behind the FastAPI middleware of version 1, for 1000 base units of the chain's USDC."""

    def __init__(self, facilitator, receiver):
        self.process = process("serve", facilitator.url, receiver)
        self.url = json.loads(self.process.stdout.readline())["url"]

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()


def answer_of(response):
    headers = {name.lower(): value for name, value in response.headers.items()}
    return {"status": response.status_code, "headers": headers, "body": response.text, "paid": response.request.headers.get("X-Payment")}


def pay_by_requests(account, method, urls):
    from x402.clients.requests import x402_requests

    session = x402_requests(account)
    for url in urls:
        try:
            yield answer_of(session.request(method, url, timeout=30))
        except Exception as error:
            yield {"error": f"{type(error).__name__}: {error}"}


def pay_by_httpx(account, method, urls):
    from x402.clients.httpx import x402HttpxClient

    async def one(url):
        async with x402HttpxClient(account, timeout=30) as client:
            response = await client.request(method, url)
            await response.aread()
            return answer_of(response)

    for url in urls:
        try:
            yield asyncio.run(one(url))
        except Exception as error:
            yield {"error": f"{type(error).__name__}: {error}"}


def serve(facilitator, receiver):
    from socket import socket

    import uvicorn
    from fastapi import FastAPI
    from x402.fastapi.middleware import require_payment

    app = FastAPI()
    app.middleware("http")(require_payment("$0.001", receiver, "/paid", facilitator_config={"url": facilitator}))

    @app.get("/paid")
    def paid():
        return {"page": "paid"}

    bound = socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    print(json.dumps({"url": f"http://127.0.0.1:{bound.getsockname()[1]}"}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[bound])


def main(command, *arguments):
    if command == "serve":
        return serve(*arguments)
    from eth_account import Account

    library, method, *urls = arguments
    account = Account.from_key(sys.stdin.read().strip())
    print(json.dumps(list((pay_by_requests if library == "requests" else pay_by_httpx)(account, method, urls))))


if __name__ == "__main__":
    main(*sys.argv[1:])
