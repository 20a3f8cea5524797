"""One request to an OpenAI-compatible server: asked again while that may help, read with mistrust."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from sightline.engines.calls import Call
from sightline.errors import RunError

if TYPE_CHECKING:
    import httpx2
    from tenacity import RetryCallState

    from sightline.engines.openai_http import OpenAIHTTP

SHOWN = 300  # characters of a server's message
LONG_KEY = 16  # shorter ones, such as the EMPTY of a server at home, are no secrets but words that an answer may hold
PASSING = frozenset({408, 409, 425, 429})  # with all of 5xx: statuses that another try may mend
FATAL = {401: "the server refuses the key", 404: "the server knows no such address or model"}


class NoReply(Exception):
    """A request that was not answered: a reason that can be counted, and its detail.

    `passing`: another try may help, after `wait_s` where the server says so. `fatal`: no other request would fare better.
    """

    def __init__(
        self, reason: str, detail: str = "", *, passing: bool = True, fatal: bool = False, wait_s: float | None = None
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.passing = passing
        self.fatal = fatal
        self.wait_s = wait_s


class Post:
    """Posts chat completions. The key is in a header of the request and, wherever a server repeats it, blotted out."""

    def __init__(self, section: OpenAIHTTP, key: str | None) -> None:
        self.section = section
        self._key = key

    @cached_property
    def client(self) -> httpx2.Client:
        """Connections for as many requests as are under way at once. It closes them when it is dropped."""
        import httpx2

        section = self.section
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=section.concurrency, max_keepalive_connections=section.concurrency)
        return httpx2.Client(headers=headers, timeout=section.timeout_s, limits=limits)

    def reach(self) -> None:
        """RunError where no server answers, or where it refuses the key. Any other answer is good enough."""
        import httpx2

        where = f"model {self.section.model}"
        try:
            status = self.client.get(f"{self.section.base_url}/models", timeout=min(10.0, self.section.timeout_s)).status_code
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            problem = f"no server answers at {self.section.base_url} ({self._blotted(str(error))})"
            raise RunError(where, problem, "start it, or mend base_url; what is stored stays") from None
        except httpx2.RequestError:
            return  # busy, or it speaks no /models: the first request will tell
        if status == 401:
            raise RunError(where, f"{FATAL[401]} at {self.section.base_url}", "mend what the variable of api_key_env holds")

    def ask(self, body: bytes, stop: threading.Event) -> Call:
        """The reply. NoReply where it cannot be had, after the retries, or where `stop` is set while waiting for the next."""
        import tenacity

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.section.retries + 1) | tenacity.stop_when_event_set(stop),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, NoReply) and error.passing),
            wait=self._wait,
            sleep=tenacity.sleep_using_event(stop),
            reraise=True,
        )
        return retrying(self._once, body)

    def _wait(self, state: RetryCallState) -> float:
        """Seconds before the next try: as the server asked, else random up to a bound that doubles."""
        from tenacity import wait_random_exponential

        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, NoReply) and error.wait_s is not None:
            return error.wait_s
        return wait_random_exponential(multiplier=self.section.backoff_s, max=self.section.max_wait_s)(state)

    def _once(self, body: bytes) -> Call:
        import httpx2

        try:
            response, content = self._sent(body)
        except httpx2.TimeoutException:
            raise NoReply("timed out", f"after {self.section.timeout_s:g} s") from None
        except httpx2.ConnectError as error:
            raise NoReply("cannot be reached", self._blotted(str(error))) from None
        except httpx2.RequestError as error:
            raise NoReply("connection failed", self._blotted(str(error))) from None
        if response.status_code != 200:
            raise self._refusal(response, content)
        return self.read(content)

    def _sent(self, body: bytes) -> tuple[httpx2.Response, bytes]:
        """The response and its body, no longer than max_reply_mb and no later than timeout_s."""
        deadline = time.monotonic() + self.section.timeout_s
        headers = {"Content-Type": "application/json"}
        content = bytearray()
        with self.client.stream("POST", f"{self.section.base_url}/chat/completions", content=body, headers=headers) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > self.section.max_reply_mb * 1e6:
                    raise NoReply("reply too large", f"more than max_reply_mb: {self.section.max_reply_mb:g}")
                if time.monotonic() > deadline:  # a time-out of the connection alone would let a server drip for ever
                    raise NoReply("timed out", f"after {self.section.timeout_s:g} s")
        return response, bytes(content)

    def _refusal(self, response: httpx2.Response, content: bytes) -> NoReply:
        """What a status other than 200 means."""
        status = response.status_code
        wait_s = retry_after(response.headers.get("Retry-After"))
        said = " ".join(self._blotted(content.decode(errors="replace")).split())[:SHOWN]
        if status in FATAL:
            return NoReply(FATAL[status], f"HTTP {status}: {said}", passing=False, fatal=True)
        passing = status in PASSING or status >= 500
        if passing and wait_s is not None and wait_s > self.section.max_wait_s:
            return NoReply(f"HTTP {status}", f"asked to wait {wait_s:.0f} s, which is more than max_wait_s", passing=False)
        return NoReply(f"HTTP {status}", said, passing=passing, wait_s=wait_s)

    def read(self, content: bytes) -> Call:
        """A reply of status 200; NoReply where it is no such thing."""
        if self._key and len(self._key) >= LONG_KEY:
            content = content.replace(self._key.encode(), b"***")
        try:
            reply = _Completion.model_validate_json(content)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise NoReply("malformed reply", f"{place}: {fault['msg']}".removeprefix(": ")[:SHOWN]) from None
        text, finish = reply.choices[0].said()
        tokens = reply.usage or _Usage()
        cost = self.section.cost(tokens.prompt_tokens, tokens.completion_tokens)
        return Call(text, finish, tokens.prompt_tokens, tokens.completion_tokens, cost)

    def _blotted(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None

    def said(self) -> tuple[str, str]:
        """The text, and whether it was cut. A refusal is an answer; what the server's filter withholds is none."""
        if self.finish_reason == "content_filter":
            raise NoReply("withheld by the server's filter", passing=False)
        cut = self.finish_reason == "length"
        text = self.message.refusal if self.message.content is None else self.message.content
        if text is None and not cut:  # a model that reasons may be cut before its first word; else words are owed
            raise NoReply("malformed reply", "a message without content")
        return (text or "").strip(), "length" if cut else "stop"


class _Usage(BaseModel):
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)


class _Completion(BaseModel):
    """What we read of a reply; fields that we do not know are let pass."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def retry_after(said: Any, now: datetime | None = None) -> float | None:
    """Seconds that the header asks to wait: a number, or a date (RFC 9110, 10.2.3). None where it says neither."""
    if said is None:
        return None
    try:
        return max(0.0, float(said)) if said.strip().replace(".", "", 1).isdigit() else _until(said, now or datetime.now(UTC))
    except ValueError:
        return None


def _until(date: str, now: datetime) -> float:
    at = parsedate_to_datetime(date)
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())
