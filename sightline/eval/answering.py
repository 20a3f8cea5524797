"""The step that asks a model a benchmark's questions. Its answers are stored, so that scoring them again costs no generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from sightline.engines.roles import ChatRequest, Decoding
from sightline.errors import DataError
from sightline.execute import Step, Use
from sightline.rows import Answer, Item
from sightline.store.address import digest, seed_from


class Answering(Step):
    """One answer an item."""

    version: ClassVar[int] = 1

    engine: str
    """Engine that answers; needs the vision_chat role."""
    decoding: Decoding
    """Greedy, unless the benchmark says otherwise."""
    suffix: str = ""
    """Added to each question."""

    def engine_roles(self) -> dict[str, str]:
        return {self.engine: "vision_chat"}

    def make(self, use: Use, *inputs: list[Item]) -> Iterator[Answer]:
        (items,) = inputs
        pictures = {name: _decoded(use, name, item.group) for name, item in _shown(items).items()}
        requests = [
            ChatRequest(
                item.question + self.suffix, tuple(pictures[name] for name in item.pictures), seed_from(use.seed, item.id)
            )
            for item in items
        ]
        replies = use.engines.use(self.engine, "vision_chat").chat(requests, self.decoding)
        for item, reply in zip(items, replies, strict=True):
            yield Answer(
                id=digest(item.id, self.engine),
                key=item.key,
                item_id=item.id,
                group=item.group,
                question=item.question + self.suffix,
                text=reply.text,
                finish=reply.finish,
                num_tokens=reply.num_tokens,
            )


def _shown(items: Sequence[Item]) -> dict[str, Item]:
    """Each picture once, with an item that asks about it."""
    return {name: item for item in items for name in item.pictures}


def _decoded(use: Use, name: str, group: str) -> Any:
    try:
        return use.picture(name)
    except OSError as error:
        raise DataError(f"picture {group}", f"it cannot be decoded: {error}", "replace it in the benchmark's pictures") from error
