"""Models behind an OpenAI-compatible server: vLLM, SGLang, `transformers serve`, hosted ones."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from sightline.engines import Engine
from sightline.engines.calls import Call, Calls
from sightline.engines.completions import NoReply, Post
from sightline.engines.roles import ChatReply, ChatRequest, Decoding
from sightline.errors import RecipeError, RunError
from sightline.store.address import digest, digest_bytes

if TYPE_CHECKING:
    import PIL.Image

PROBE = ChatRequest("Reply with the word yes.")
_URL = re.compile(r"https?://(?:[\w.-]+|\[[\da-fA-F:]+\])(?::\d+)?(?:/\S*)?")


def _plain_url(url: str) -> str:
    """The messages do not repeat what was written: it may hold a password."""
    if any(mark in url for mark in "@?#"):
        raise PydanticCustomError(
            "url_with_more", "the address may hold no user, password or query", {"fix": "put a key into an environment variable"}
        )
    if not _URL.fullmatch(url):
        raise PydanticCustomError("no_url", "this is no http or https address", {"fix": "for example http://localhost:8000/v1"})
    return url.rstrip("/")


def _variable_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise PydanticCustomError(
            "no_variable",
            "this is no name of an environment variable",
            {"fix": "write the variable's name, for example OPENAI_API_KEY; the key itself belongs into no recipe"},
        )
    return name


class OpenAIHTTP(Engine):
    """Ask a model that a server offers. Samples are requests of their own, each with its seed: some servers ignore `n`."""

    roles: ClassVar[frozenset[str]] = frozenset({"vision_chat", "text_chat"})
    served: ClassVar[bool] = True
    incidental: ClassVar[frozenset[str]] = frozenset(
        {
            *("base_url", "api_key_env", "concurrency", "timeout_s", "retries", "backoff_s", "max_wait_s"),
            *("max_reply_mb", "max_failures_in_a_row", "input_price", "output_price"),
        }
    )

    base_url: Annotated[str, AfterValidator(_plain_url)]
    """Where the server is, with its /v1. No part of addresses: a server that moved offers the same model."""
    api_key_env: Annotated[str, AfterValidator(_variable_name)] | None = None
    """Name of the environment variable that holds the key; the key itself is written nowhere."""
    concurrency: int = Field(16, ge=1, le=1024)
    """Requests under way at once, in each worker."""
    timeout_s: float = Field(300.0, gt=0)
    """Longest a request may take."""
    retries: int = Field(5, ge=0)
    """How often to ask again after 429, 5xx, a time-out, a cut connection, or what is no reply at all."""
    backoff_s: float = Field(1.0, ge=0)
    """Longest wait before the first retry; it doubles with each. Where the server says Retry-After, that counts."""
    max_wait_s: float = Field(120.0, ge=0)
    """Longest wait before a retry. A server that asks for more is not asked again."""
    max_reply_mb: float = Field(4.0, gt=0)
    """Largest reply to read."""
    max_failures_in_a_row: int = Field(8, ge=1)
    """Stop the run when so many requests in a row had no reply for good: then the server is at fault, not the rows. Where the
    last of a shard fails, a plain request is sent to tell the two apart."""
    input_price: float | None = Field(None, ge=0)
    """Price of a million tokens read, in a currency of your choice; for the run's cost."""
    output_price: float | None = Field(None, ge=0)
    """Price of a million tokens written."""
    picture_format: Literal["png", "jpeg"] = "png"
    """How pictures are sent. png loses nothing; jpeg (quality 95) is smaller for photographs."""
    structured_output: bool = True
    """Ask for replies in a step's JSON schema. Turn it off for a server that refuses response_format."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the longest answer; OpenAI's newer models take max_completion_tokens only."""
    extra_body: dict[str, JsonValue] = {}
    """More fields for every request's body, such as {reasoning_effort: low}; null leaves out one of ours."""

    def load(self) -> ServedChat:
        chat = ServedChat(self, self._key())
        chat.post.reach()
        return chat

    def fingerprint(self) -> str:
        """The name that the server knows the model by, and the revision; a server tells nothing of its weights."""
        return f"{self.model}@{self.revision or 'served'}"

    def look(self) -> str:
        post = Post(self, self._key())
        try:
            post.reach()
        except RunError as error:
            return f"model {self.model}: {error.problem}"
        return f"model {self.model}: a server answers at {self.base_url}"

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """What a call cost; None where a price or a count is unknown."""
        if self.input_price is None or self.output_price is None or input_tokens is None or output_tokens is None:
            return None
        return (self.input_price * input_tokens + self.output_price * output_tokens) / 1e6

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            problem = "does not hold a key" if key else "is not set"
            raise RecipeError(
                f"model {self.model}, api_key_env",
                f"the environment variable {self.api_key_env} {problem}",
                f"export {self.api_key_env}=<your key>",
            )
        return key


class ServedChat:
    """A served model that answers. What it was told is noted in `calls` at once."""

    def __init__(self, section: OpenAIHTTP, key: str | None) -> None:
        self.section = section
        self.post = Post(section, key)
        self.calls: Calls | None = None
        self.failures_in_a_row = 0

    def chat(self, requests: Sequence[ChatRequest], decoding: Decoding) -> list[ChatReply]:
        """One reply a request, in order; one that could not be had says why. RunError where the server itself is at fault."""
        calls = self.calls or Calls()
        sent = _Pictures(self.section.picture_format)
        names = [self._name(request, decoding, sent) for request in requests]
        missing = {name: request for name, request in zip(names, requests, strict=True) if name not in calls.known}
        failed = self._ask_all(missing, decoding, sent, calls) if missing else {}
        if self.failures_in_a_row:
            self._probe(decoding, sent, calls)
        return [_unanswered(failed[name]) if name in failed else _reply(calls.known[name]) for name in names]

    def _name(self, request: ChatRequest, decoding: Decoding, sent: _Pictures) -> str:
        """Stands for all that decides the reply; equal requests are one call."""
        shown = [sent.digest(picture) for picture in request.pictures]
        return digest(self.section.identity(), self.body(request, decoding, shown))

    def body(self, request: ChatRequest, decoding: Decoding, pictures: Sequence[str]) -> dict[str, Any]:
        """What is sent; pictures are data URIs."""
        section = self.section
        shown = [{"type": "image_url", "image_url": {"url": picture}} for picture in pictures]
        (_, first), *rest = request.turns
        messages = [{"role": "user", "content": [*shown, {"type": "text", "text": first}]}]
        messages += [{"role": role, "content": text} for role, text in rest]
        body: dict[str, Any] = {"model": section.model, "messages": messages}
        body |= {section.max_tokens_name: decoding.max_tokens, "temperature": decoding.temperature}
        if decoding.temperature > 0:
            # 31 bits: servers that keep numbers as doubles, or as 32-bit integers, would change a longer seed or refuse it
            body |= {"top_p": decoding.top_p, "seed": request.seed % 2**31}
        if request.schema is not None and section.structured_output:
            wanted = {"name": "reply", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return {name: value for name, value in {**body, **section.extra_body}.items() if value is not None}

    def _ask_all(
        self, requests: Mapping[str, ChatRequest], decoding: Decoding, sent: _Pictures, calls: Calls
    ) -> dict[str, NoReply]:
        """Ask, several at once, noting each reply as it comes; what could not be had, by name."""
        from concurrent.futures import ThreadPoolExecutor, as_completed

        failed: dict[str, NoReply] = {}
        stop = threading.Event()

        def ask(name: str, request: ChatRequest) -> tuple[str, NoReply | None]:
            pictures = [sent.uri(picture) for picture in request.pictures]
            try:
                calls.add(name, self.post.ask(json.dumps(self.body(request, decoding, pictures)).encode(), stop))
            except NoReply as error:
                return name, error
            return name, None

        with ThreadPoolExecutor(self.section.concurrency) as pool:
            try:
                for future in as_completed([pool.submit(ask, *item) for item in requests.items()]):
                    name, failure = future.result()
                    if failure is not None:
                        failed[name] = failure
                    self._count(failure)
            finally:
                stop.set()  # on a fault or Ctrl-C: those that wait for a retry give up, those under way are still noted
                pool.shutdown(cancel_futures=True)
        return failed

    def _count(self, failure: NoReply | None) -> None:
        """RunError where it is the server that fails, so that its rows are not dropped for good."""
        self.failures_in_a_row = self.failures_in_a_row + 1 if failure else 0
        if failure is not None and (failure.fatal or self.failures_in_a_row >= self.section.max_failures_in_a_row):
            raise self._down(failure)

    def _probe(self, decoding: Decoding, sent: _Pictures, calls: Calls) -> None:
        """The last request failed: RunError where a plain one fails, too, for then it was the server, not the row."""
        failed = self._ask_all({self._name(PROBE, decoding, sent): PROBE}, decoding, sent, calls)
        for failure in failed.values():
            raise self._down(failure)

    def _down(self, failure: NoReply) -> RunError:
        count = "" if failure.fatal else f"{self.failures_in_a_row} requests in a row had no reply; the last: "
        return RunError(
            f"model {self.section.model} at {self.section.base_url}",
            f"{count}{failure.reason}{f' ({failure.detail})' if failure.detail else ''}",
            "mend the server, the key or the model's name, then run the same command again: no answered call is asked again",
        )


class _Pictures:
    """Pictures as data URIs, each encoded once."""

    def __init__(self, form: Literal["png", "jpeg"]) -> None:
        self.form = form
        self._uris: dict[int, tuple[str, str]] = {}  # with their digests

    def uri(self, picture: PIL.Image.Image) -> str:
        return self._sent(picture)[0]

    def digest(self, picture: PIL.Image.Image) -> str:
        return self._sent(picture)[1]

    def _sent(self, picture: PIL.Image.Image) -> tuple[str, str]:
        if id(picture) not in self._uris:
            file = io.BytesIO()
            picture.convert("RGB").save(file, self.form.upper(), **({"quality": 95} if self.form == "jpeg" else {}))
            uri = f"data:image/{self.form};base64,{base64.b64encode(file.getvalue()).decode()}"
            self._uris[id(picture)] = uri, digest_bytes(file.getvalue())
        return self._uris[id(picture)]


def _reply(call: Call) -> ChatReply:
    return ChatReply(call.text, call.finish, call.output_tokens)


def _unanswered(failure: NoReply) -> ChatReply:
    return ChatReply("", "error", None, error=failure.reason, detail=failure.detail)
