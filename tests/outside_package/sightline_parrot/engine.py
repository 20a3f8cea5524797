"""An engine that says the instruction back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from sightline.engines import Engine
from sightline.engines.roles import ChatReply, ChatRequest, Decoding


class Parrot(Engine):
    """Repeat what was said."""

    roles: ClassVar[frozenset[str]] = frozenset({"vision_chat"})

    kind: Literal["parrot"] = "parrot"
    model: str = "parrot"
    """A parrot has no weights."""
    times: int = Field(1, ge=1)
    """How often it says each thing."""

    def load(self) -> Parrot:
        return self

    def fingerprint(self) -> str:
        return "feathers"

    def chat(self, requests: Sequence[ChatRequest], decoding: Decoding) -> list[ChatReply]:
        said = [" ".join([request.text] * self.times) for request in requests]
        return [ChatReply(text=text, finish="stop", num_tokens=len(text.split())) for text in said]
