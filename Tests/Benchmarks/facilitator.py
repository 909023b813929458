"""A stand-in for a facilitator of x402: it says yes to everything at once, so that what is measured is whoever asks it.

Alone: `python facilitator.py`, which prints its port.
"""

import asyncio
import re

SUPPORTED = b'{"kinds":[{"x402Version":2,"scheme":"exact","network":"eip155:84532"}],"extensions":[],"signers":{}}'
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
NONCE = re.compile(rb'"nonce": ?"(0x[0-9a-fA-F]{64})"')
PAYER = re.compile(rb'"from": ?"(0x[0-9a-fA-F]{40})"')


class Answers(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, octets):
        self.buffer += octets
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            found = LENGTH.search(head)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self.buffer) < size:
                return
            answer = self.answer(head.split(b" ", 2)[1], self.buffer[end + 4 : size])
            self.buffer = self.buffer[size:]
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

    @staticmethod
    def answer(path, body):
        if path.endswith(b"/supported"):
            return SUPPORTED
        payer = PAYER.search(body)[1]
        if path.endswith(b"/verify"):
            return b'{"isValid":true,"payer":"%s"}' % payer
        # Each payment has a transaction of its own: the nonce, which is as long, will do for its hash.
        return b'{"success":true,"transaction":"%s","network":"eip155:84532","payer":"%s"}' % (NONCE.search(body)[1].lower(), payer)


async def main():
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
