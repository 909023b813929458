"""A stand-in for the servers of language models: it speaks the wire formats of OpenAI, Anthropic, Gemini, Ollama and llama.cpp.

What it answers follows from the request alone, so that a second asking brings the same octets. A request says in `X-Script` what should happen, as
`seed=7; ends=crlf; pings=3`:

    seed     chooses words, and where the octets are cut into chunks (default 1)
    words    how many pieces of text are generated, each one token and a few octets (default 24; never more than the request's own limit)
    ends     line ends of an event stream: lf, crlf, cr or mixed (default lf, Gemini's crlf)
    pings    an event or comment that keeps the connection alive before every so many events
    slow     milliseconds between two events
    hold     the number of events after which nothing more comes, until the client is gone
    break    the number of events after which the connection is reset, in the middle of the next one
    fail     the number of events after which the stream tells an error and ends, as its format does that
    status   answers with this status and the format's error document
    usage    `none`: no usage is reported
    cached   input tokens that came from a cache
    gzip     1: compresses the content for whoever takes that
"""

import asyncio
import json
import random
import socket
import struct
import threading
import zlib

WORDS = ["The ", "fare ", "is ", "two ", "coins,\n", "käse ", "😀 ", "\"quoted\" ", "back\\slash ", "data: ", "event: ping\n\n", "[DONE] ", "usage ", "\t", "{\"usage\":1} ", "end. "]
ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def tokens_of(text):
    """Input tokens: more than a guess by octets finds, as with the wrappings of real templates."""
    return 4 + len(text.encode()) // 3


def texts(value):
    """Every text in a part of a request, in its order."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(texts(v) for v in value)
    if isinstance(value, dict):
        return "".join(texts(v) for k, v in value.items() if k in ("content", "text", "parts", "input", "prompt", "messages", "contents"))
    return ""


class Script:
    def __init__(self, field, body):
        members = dict(part.strip().split("=", 1) for part in (field or "").split(";") if "=" in part)
        self.seed = int(members.get("seed", 1))
        self.words = int(members.get("words", 24))
        self.ends = members.get("ends")
        self.pings, self.slow, self.hold = (int(members.get(name, 0)) for name in ("pings", "slow", "hold"))
        self.breaks = int(members["break"]) if "break" in members else None
        self.fails = int(members["fail"]) if "fail" in members else None
        self.status = int(members.get("status", 200))
        self.reports = members.get("usage") != "none"
        self.cached = int(members.get("cached", 0))
        self.packs = members.get("gzip") == "1"
        self.random = random.Random(self.seed)
        options = body.get("options") or body.get("generationConfig") or {}
        limits = [body.get(n) for n in ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")]
        limits += [options.get(n) for n in ("num_predict", "maxOutputTokens")]
        limit = next((n for n in limits if n is not None), None)
        count = self.words if limit is None else min(self.words, limit)
        self.is_cut = count < self.words
        self.pieces = [self.random.choice(WORDS) for _ in range(count)]
        self.input = tokens_of(texts(body))
        self.cached = min(self.cached, self.input)
        self.output = count

    @property
    def text(self):
        return "".join(self.pieces)


class ModelServer:
    """Listens on loopback, in a thread of its own. `exchanges` remembers every request, what it used, and how it ended."""

    def __init__(self):
        self.exchanges = []
        self.loop = asyncio.new_event_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        ready = threading.Event()

        async def run():
            self.server = await asyncio.start_server(self.serve, sock=listener)
            ready.set()

        self.loop.create_task(run())
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        ready.wait()

    def close(self):
        async def stop():
            self.server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)

    def last(self):
        return self.exchanges[-1]

    # The connection.

    async def serve(self, reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self.exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
            pass
        finally:
            writer.close()

    async def exchange(self, reader, writer):
        line = await reader.readline()
        if not line:
            return False
        method, target, _ = line.decode("latin-1").split(" ", 2)
        fields = {}
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        if "chunked" in fields.get("transfer-encoding", ""):
            octets = b""
            while size := int((await reader.readline()).split(b";")[0], 16):
                octets += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            octets = await reader.readexactly(int(fields.get("content-length", 0)))
        body = json.loads(octets) if octets else {}
        script = Script(fields.get("x-script"), body)
        script.packs = script.packs and "gzip" in fields.get("accept-encoding", "")
        path, _, query = target.partition("?")
        if path.endswith(("/embeddings", "/embed")):
            # Neither vendor tells what came from a cache.
            script.output = script.cached = 0
        record = {
            "method": method, "path": path, "query": query, "fields": fields, "body": body, "state": "running", "delivered": 0,
            "usage": {"input": script.input - script.cached, "cached": script.cached, "output": script.output},
        }
        self.exchanges.append(record)
        try:
            alive = await self.answer(reader, writer, path, query, body, script, record)
            if record["state"] == "running":
                record["state"] = "whole"
            return alive
        except ConnectionError:
            record["state"] = "left"
            return False

    async def answer(self, reader, writer, path, query, body, script, record):
        if record["method"] == "GET" and "/responses/" in path:
            return await self.document(writer, 200, Responses.stored[path.rsplit("/", 1)[1]], script, record)
        vendor = next((v for suffix, v in VENDORS if path.endswith(suffix)), None)
        if vendor is None:
            return await self.document(writer, 404, {"error": {"message": "no such path"}}, script, record)
        if script.status != 200:
            return await self.document(writer, script.status, vendor.error(script.status), script, record)
        if not vendor.streams(path, query, body):
            return await self.document(writer, 200, vendor.document(path, body, script), script, record)
        kind, ends = vendor.framing(query)
        frames = list(vendor.frames(path, query, body, script))
        encoded = [self.encode(kind, frame, script, ends) for frame in frames]
        return await self.stream(reader, writer, kind, encoded, vendor, script, record, ends)

    @staticmethod
    def encode(kind, frame, script, ends):
        """One event of an event stream, line, or piece of an array."""
        if kind != "text/event-stream":
            return frame
        name = script.ends or ends
        end = ENDS.get(name) or script.random.choice(list(ENDS.values()))
        return end.join(frame) + end + end

    async def document(self, writer, status, document, script, record):
        octets = compact(document)
        coding = b""
        if script.packs:
            packer = zlib.compressobj(wbits=31)
            octets, coding = packer.compress(octets) + packer.flush(), b"Content-Encoding: gzip\r\n"
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\nx-request-id: req_1\r\n\r\n" % (status, coding, len(octets))
        writer.write(head + octets)
        await writer.drain()
        record["octets"] = octets
        return True

    async def stream(self, reader, writer, kind, encoded, vendor, script, record, ends):
        coding = b"Content-Encoding: gzip\r\n" if script.packs else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%sCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\nx-request-id: req_1\r\n\r\n" % (kind.encode(), coding))
        packer = zlib.compressobj(wbits=31)
        record["octets"] = b""
        pending = b""
        cuts = random.Random(script.seed + 1)

        async def pass_on(everything):
            nonlocal pending
            while pending and (everything or len(pending) > 40):
                count = cuts.choice([1, 2, 3, 7, 40, 200, 1000, len(pending)])
                piece, pending = pending[:count], pending[count:]
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                record["octets"] += piece
                await writer.drain()
                if cuts.random() < 0.3:
                    await asyncio.sleep(0)

        for number, octets in enumerate(encoded):
            if reader.at_eof() or writer.is_closing():
                raise ConnectionResetError
            if script.fails == number:
                pending += self.encode(kind, vendor.failure(), script, ends)
                await pass_on(True)
                break
            if script.breaks == number:
                pending += octets[: len(octets) // 2]
                await pass_on(True)
                await asyncio.sleep(0.05)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                record["state"] = "broken"
                return False
            if script.pings and number and number % script.pings == 0:
                ping = vendor.ping()
                if ping:
                    pending += self.encode(kind, ping, script, ends)
            pending += packer.compress(octets) + packer.flush(zlib.Z_SYNC_FLUSH) if script.packs else octets
            record["delivered"] = number + 1
            # What is held or slow is not left half in the buffer.
            await pass_on(bool(script.slow or script.hold or cuts.random() < 0.3))
            if script.slow:
                await asyncio.sleep(script.slow / 1000)
            if script.hold == number + 1:
                while not (reader.at_eof() or writer.is_closing()):
                    await asyncio.sleep(0.005)
                raise ConnectionResetError
        if script.packs:
            pending += packer.flush()
        await pass_on(True)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


# The vendors. `frames` gives the lines of each event, or the octets of each line or piece.


class OpenAI:
    """What OpenAI's interfaces have in common."""

    @staticmethod
    def streams(path, query, body):
        return body.get("stream") is True

    @staticmethod
    def framing(query):
        return "text/event-stream; charset=utf-8".split(";")[0], "lf"

    @staticmethod
    def error(status):
        kind = {401: "invalid_request_error", 429: "rate_limit_error"}.get(status, "server_error")
        return {"error": {"message": f"status {status}", "type": kind, "param": None, "code": None}}

    @staticmethod
    def failure():
        return [b"data: " + compact({"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}})]

    @staticmethod
    def ping():
        return [b": keep-alive"]


class Chat(OpenAI):
    @staticmethod
    def usage(script):
        return {
            "prompt_tokens": script.input, "completion_tokens": script.output, "total_tokens": script.input + script.output,
            "prompt_tokens_details": {"cached_tokens": script.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        }

    @classmethod
    def document(cls, path, body, script):
        message = {"role": "assistant", "content": script.text, "refusal": None, "annotations": []}
        answer = {
            "id": f"chatcmpl-{script.seed}", "object": "chat.completion", "created": 1763700000, "model": body["model"],
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length" if script.is_cut else "stop"}],
            "service_tier": "default", "system_fingerprint": "fp_0",
        }
        return {**answer, "usage": cls.usage(script)} if script.reports else answer

    @classmethod
    def frames(cls, path, query, body, script):
        includes = (body.get("stream_options") or {}).get("include_usage") is True and script.reports
        head = {"id": f"chatcmpl-{script.seed}", "object": "chat.completion.chunk", "created": 1763700000, "model": body["model"], "service_tier": "default", "system_fingerprint": "fp_0"}

        def chunk(delta, finish=None):
            value = {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
            return [b"data: " + compact({**value, "usage": None} if includes else value)]

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in script.pieces:
            yield chunk({"content": piece})
        yield chunk({}, "length" if script.is_cut else "stop")
        if includes:
            yield [b"data: " + compact({**head, "choices": [], "usage": cls.usage(script)})]
        yield [b"data: [DONE]"]


class Responses(OpenAI):
    @staticmethod
    def usage(script):
        return {
            "input_tokens": script.input, "input_tokens_details": {"cached_tokens": script.cached}, "output_tokens": script.output,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": script.input + script.output,
        }

    @staticmethod
    def item(script, text, status):
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"id": f"msg_{script.seed}", "type": "message", "status": status, "role": "assistant", "content": [part] if text else []}

    @classmethod
    def response(cls, body, script, status, output):
        return {
            "id": f"resp_{script.seed}", "object": "response", "created_at": 1763700000, "status": status, "background": False, "error": None,
            "incomplete_details": None, "instructions": None, "max_output_tokens": body.get("max_output_tokens"), "model": body["model"], "output": output,
            "parallel_tool_calls": True, "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "store": True, "temperature": 1.0,
            "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
            "usage": cls.usage(script) if status == "completed" and script.reports else None, "metadata": {},
        }

    @classmethod
    def document(cls, path, body, script):
        whole = cls.response(body, script, "completed", [cls.item(script, script.text, "completed")])
        if not body.get("background"):
            return whole
        # The answer is made later, and is to be fetched by its id.
        cls.stored[whole["id"]] = {**whole, "background": True}
        return {**cls.response(body, script, "queued", []), "background": True}

    stored = {}

    @classmethod
    def frames(cls, path, query, body, script):
        number = 0

        def event(kind, **members):
            nonlocal number
            value = {"type": kind, "sequence_number": number, **members}
            number += 1
            return [b"event: " + kind.encode(), b"data: " + compact(value)]

        place = {"item_id": f"msg_{script.seed}", "output_index": 0, "content_index": 0}
        empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield event("response.created", response=cls.response(body, script, "in_progress", []))
        yield event("response.in_progress", response=cls.response(body, script, "in_progress", []))
        yield event("response.output_item.added", output_index=0, item=cls.item(script, "", "in_progress"))
        yield event("response.content_part.added", **place, part=empty)
        for piece in script.pieces:
            yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
        yield event("response.output_text.done", **place, text=script.text, logprobs=[])
        yield event("response.content_part.done", **place, part={**empty, "text": script.text})
        yield event("response.output_item.done", output_index=0, item=cls.item(script, script.text, "completed"))
        yield event("response.completed", response=cls.response(body, script, "completed", [cls.item(script, script.text, "completed")]))

    @staticmethod
    def failure():
        return [b"event: error", b"data: " + compact({"type": "error", "code": "server_error", "message": "The server had an error", "param": None, "sequence_number": 99})]


class Embeddings(OpenAI):
    @staticmethod
    def document(path, body, script):
        entries = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vectors = [{"object": "embedding", "index": i, "embedding": [round(script.random.uniform(-1, 1), 6) for _ in range(8)]} for i, _ in enumerate(entries)]
        usage = {"usage": {"prompt_tokens": script.input, "total_tokens": script.input}} if script.reports else {}
        return {"object": "list", "data": vectors, "model": body["model"], **usage}


class Anthropic:
    @staticmethod
    def streams(path, query, body):
        return body.get("stream") is True

    @staticmethod
    def framing(query):
        return "text/event-stream", "lf"

    @staticmethod
    def error(status):
        kind = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": f"status {status}"}, "request_id": "req_1"}

    @classmethod
    def failure(cls):
        return [b"event: error", b"data: " + compact({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})]

    @staticmethod
    def ping():
        return [b"event: ping", b'data: {"type": "ping"}']

    @staticmethod
    def usage(script, output):
        return {
            "input_tokens": script.input - script.cached, "cache_creation_input_tokens": 0, "cache_read_input_tokens": script.cached,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, "output_tokens": output, "service_tier": "standard",
        }

    @classmethod
    def message(cls, body, script, content, reason, output):
        message = {"id": f"msg_{script.seed}", "type": "message", "role": "assistant", "model": body["model"], "content": content, "stop_reason": reason, "stop_sequence": None}
        return {**message, "usage": cls.usage(script, output)} if script.reports else message

    @classmethod
    def document(cls, path, body, script):
        return cls.message(body, script, [{"type": "text", "text": script.text}], "max_tokens" if script.is_cut else "end_turn", script.output)

    @classmethod
    def frames(cls, path, query, body, script):
        def event(kind, **members):
            return [b"event: " + kind.encode(), b"data: " + compact({"type": kind, **members})]

        yield event("message_start", message=cls.message(body, script, [], None, 1))
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield cls.ping()
        for piece in script.pieces:
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        yield event("content_block_stop", index=0)
        usage = {"usage": {"output_tokens": script.output}} if script.reports else {}
        yield event("message_delta", delta={"stop_reason": "max_tokens" if script.is_cut else "end_turn", "stop_sequence": None}, **usage)
        yield event("message_stop")


class Gemini:
    @staticmethod
    def streams(path, query, body):
        return path.endswith(":streamGenerateContent")

    @staticmethod
    def framing(query):
        return ("text/event-stream", "crlf") if "alt=sse" in query else ("application/json", None)

    @staticmethod
    def error(status):
        return {"error": {"code": status, "message": f"status {status}", "status": "UNAVAILABLE"}}

    @classmethod
    def failure(cls):
        return [b"data: " + compact(cls.error(503))]

    @staticmethod
    def ping():
        return None

    @staticmethod
    def part(script, text, output, finish):
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = "MAX_TOKENS" if script.is_cut else "STOP"
        value = {"candidates": [candidate], "modelVersion": "gemini-stand-in", "responseId": f"r{script.seed}"}
        if script.reports:
            value["usageMetadata"] = {"promptTokenCount": script.input, "candidatesTokenCount": output, "totalTokenCount": script.input + output}
            if script.cached:
                value["usageMetadata"]["cachedContentTokenCount"] = script.cached
        return value

    @classmethod
    def document(cls, path, body, script):
        return cls.part(script, script.text, script.output, True)

    @classmethod
    def frames(cls, path, query, body, script):
        parts = [cls.part(script, piece, i + 1, i + 1 == script.output) for i, piece in enumerate(script.pieces)]
        if "alt=sse" in query:
            for part in parts:
                yield [b"data: " + compact(part)]
        else:
            for index, part in enumerate(parts):
                yield (b"[" if index == 0 else b",\r\n") + json.dumps(part, indent=2).encode()
            yield b"]"


class Ollama:
    @staticmethod
    def streams(path, query, body):
        return body.get("stream", True) and not path.endswith("/embed")

    @staticmethod
    def framing(query):
        return "application/x-ndjson", None

    @staticmethod
    def error(status):
        return {"error": f"status {status}"}

    @classmethod
    def failure(cls):
        return compact({"error": "an error was encountered while running the model"}) + b"\n"

    @staticmethod
    def ping():
        return None

    @staticmethod
    def part(path, body, script, text, done):
        value = {"model": body["model"], "created_at": "2026-11-21T00:00:00.000000001Z"}
        value |= {"message": {"role": "assistant", "content": text}} if path.endswith("/chat") else {"response": text}
        value["done"] = done
        if done:
            value |= {"done_reason": "length" if script.is_cut else "stop", "total_duration": 5_000_000, "load_duration": 1_000_000}
            if script.reports:
                value |= {"prompt_eval_count": script.input, "prompt_eval_duration": 1_000_000, "eval_count": script.output, "eval_duration": 3_000_000}
        return value

    @classmethod
    def document(cls, path, body, script):
        if path.endswith("/embed"):
            return {"model": body["model"], "embeddings": [[0.25, -0.5]], "total_duration": 1, "load_duration": 1, "prompt_eval_count": script.input}
        return cls.part(path, body, script, script.text, True)

    @classmethod
    def frames(cls, path, query, body, script):
        for piece in script.pieces:
            yield compact(cls.part(path, body, script, piece, False)) + b"\n"
        yield compact(cls.part(path, body, script, "", True)) + b"\n"


class LlamaCpp(OpenAI):
    @staticmethod
    def error(status):
        return {"error": {"code": status, "message": f"status {status}", "type": "unavailable_error"}}

    @classmethod
    def failure(cls):
        return [b"data: " + compact(cls.error(500))]

    @staticmethod
    def part(script, text, count, stop):
        value = {"index": 0, "content": text, "tokens": [], "stop": stop, "id_slot": 0}
        if script.reports:
            value |= {"tokens_predicted": count, "tokens_evaluated": script.input}
        if stop:
            value |= {"model": "stand-in", "stop_type": "limit" if script.is_cut else "eos", "stopping_word": "", "truncated": False}
            if script.reports:
                value["timings"] = {"cache_n": script.cached, "prompt_n": script.input - script.cached, "prompt_ms": 1.5, "predicted_n": count, "predicted_ms": 20.25}
        return value

    @classmethod
    def document(cls, path, body, script):
        return cls.part(script, script.text, script.output, True)

    @classmethod
    def frames(cls, path, query, body, script):
        for index, piece in enumerate(script.pieces):
            yield [b"data: " + compact(cls.part(script, piece, index + 1, False))]
        yield [b"data: " + compact(cls.part(script, "", script.output, True))]


VENDORS = [
    ("/chat/completions", Chat), ("/responses", Responses), ("/embeddings", Embeddings), ("/messages", Anthropic), (":generateContent", Gemini),
    (":streamGenerateContent", Gemini), ("/api/chat", Ollama), ("/api/generate", Ollama), ("/api/embed", Ollama), ("/completion", LlamaCpp),
]
