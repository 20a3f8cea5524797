"""A server that speaks OpenAI's protocol and can be told to fail, on loopback."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "cut", "cut_body", "timeout", "truncated", "malformed", "shape", "huge")
SHAPES = ([1], {"choices": []}, {"choices": [{"message": {"content": None}}]}, {"choices": "x"}, {"error": {"message": "no"}})

Answer = Callable[[dict[str, Any]], str]
Fault = Callable[[str, int], str | None]


def no_fault(request: str, attempt: int) -> str | None:
    return None


def seeded(rate: float, seed: int = 0, faults: tuple[str, ...] = FAULTS) -> Fault:
    """A share of all tries fails, in every way; which ones follows from the request and the try alone."""

    def fault(request: str, attempt: int) -> str | None:
        rng = random.Random(f"{seed} {request} {attempt}")
        return rng.choice(faults) if rng.random() < rate else None

    return fault


class Server(ThreadingHTTPServer):
    """Counts, by request, how often it was asked and how often it gave a whole reply, which is what somebody would pay for."""

    daemon_threads = True
    request_queue_size = 128  # of 5, its default, many clients at once overflow it, and wait a second to try again

    def __init__(self, answer: Answer, fault: Fault = no_fault, delay_s: float = 0.0, sleep_s: float = 2.5) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.fault = fault
        self.delay_s = delay_s
        self.sleep_s = sleep_s  # where it lets a client time out
        self.asked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}
        self.keys: set[str | None] = set()
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *fault: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: without this each reply waits 40 ms

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, b'{"data": []}')

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        name = sha256(raw).hexdigest()
        with self.server.lock:
            self.server.asked[name] += 1
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
            self.server.bodies.append(json.loads(raw))
            self.server.texts[name] = text_of(json.loads(raw))
            self.server.keys.add(self.headers.get("Authorization"))
            fault = self.server.fault(name, self.server.asked[name])
            self.server.faults[fault or "none"] += 1
        time.sleep(self.server.delay_s)
        try:
            self._fail(fault) if fault else self._reply(name, json.loads(raw))
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def _reply(self, name: str, body: dict[str, Any]) -> None:
        with self.server.lock:
            self.server.paid[name] += 1
        self._send(200, completion(self.server.answer(body)))

    def _fail(self, fault: str) -> None:
        whole = completion("never paid")
        if fault == "cut":
            self.close_connection = True
        elif fault == "timeout":
            time.sleep(self.server.sleep_s)
            self.close_connection = True
        elif fault == "cut_body":
            self._send(200, whole[:20], length=len(whole))
            self.close_connection = True
        elif fault == "huge":
            self._send(200, completion("x" * 10_000_000))
        elif fault == "shape":
            self._send(200, json.dumps(random.choice(SHAPES)).encode())
        elif fault in ("truncated", "malformed"):
            self._send(200, whole[: len(whole) // 2] if fault == "truncated" else b"<html>not now</html>")
        else:  # a status, said by a server that repeats what it was sent, the key included
            said = json.dumps({"error": f"not with {self.headers.get('Authorization')}"}).encode()
            status, _, wait = fault.partition(" ")
            self._send(int(status), said, {"Retry-After": wait or "0"} if status == "429" else {})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(status)
        for header, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)


def completion(text: str, finish: str = "stop") -> bytes:
    """A whole reply of 7 tokens, to 100."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def text_of(body: dict[str, Any]) -> str:
    """The words of a request."""
    return next(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")


def shown_answers(body: dict[str, Any]) -> list[str]:
    """The answers that a judge is shown, in their order."""
    return re.findall(r"\[Answer \d+\]\n(.*?)\n\[End of answer \d+\]", text_of(body), re.DOTALL)
