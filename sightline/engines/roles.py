"""What engines can do. Every method takes a batch and keeps its order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from sightline.plugin import Section
from sightline.rows import Dropped, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    import PIL.Image


class Decoding(Section):
    """How a model picks its words."""

    temperature: float = Field(0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the smallest set of words that holds this share of the probability."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer."""


@dataclass(frozen=True)
class PaintRequest:
    prompt: str
    guidance: float
    seed: int


@dataclass(frozen=True)
class ChatRequest:
    """One user turn with its pictures. `seed` matters where the decoding samples.

    `earlier` are the questions before it in the conversation, with their answers; the pictures belong to the first question.
    `schema` is a JSON schema for the reply. An engine may ask its model to keep to it, or not: a reply need not.
    """

    text: str
    pictures: tuple[PIL.Image.Image, ...] = ()
    seed: int = 0
    schema: dict[str, Any] | None = None
    earlier: tuple[tuple[str, str], ...] = ()

    @property
    def turns(self) -> list[tuple[str, str]]:
        """(role, text) of the conversation so far, the question last."""
        said = [(role, text) for turn in self.earlier for role, text in zip(("user", "assistant"), turn, strict=True)]
        return [*said, ("user", self.text)]


@dataclass(frozen=True)
class ChatReply:
    """`finish` is 'stop', or 'length' where the answer was cut at max_tokens; `num_tokens` is None where a server does not say.

    A reply that could not be had has `finish` 'error', no text, and its reason, which can be counted, as `error`.
    """

    text: str
    finish: str
    num_tokens: int | None
    error: str | None = None
    detail: str = ""

    def dropped(self, row: Row) -> Dropped:
        """What is told of a row that could not be asked about."""
        return Dropped(key=row.key, reason=f"no reply: {self.error}", row_id=row.id, detail=self.detail)


@dataclass(frozen=True)
class TextScore:
    """A reward model's scalar, and the objectives and gate weights it was made of."""

    score: float
    numbers: dict[str, float] = field(default_factory=dict)


class TextToImage(Protocol):
    def paint(self, requests: Sequence[PaintRequest]) -> list[PIL.Image.Image]: ...


class ImageScorer(Protocol):
    def score(self, prompts: Sequence[str], pictures: Sequence[PIL.Image.Image]) -> list[float]:
        """How well each picture fits its prompt; unbounded, higher is better."""
        ...


class TextScorer(Protocol):
    def score(self, conversations: Sequence[tuple[str, str]]) -> list[TextScore]:
        """How good each (instruction, answer) is. Sees no picture."""
        ...


class VisionChat(Protocol):
    def chat(self, requests: Sequence[ChatRequest], decoding: Decoding) -> list[ChatReply]: ...


class TextChat(Protocol):
    def chat(self, requests: Sequence[ChatRequest], decoding: Decoding) -> list[ChatReply]:
        """Requests have no pictures."""
        ...


ROLES = ("text_to_image", "image_scorer", "text_scorer", "vision_chat", "text_chat")
