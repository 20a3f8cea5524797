"""The step that asks a model a benchmark's questions. Its answers are stored, so that scoring them again costs no generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from sightline.engines.roles import ChatReply, ChatRequest, Decoding
from sightline.errors import DataError
from sightline.execute import Step, Use
from sightline.rows import Answer, Dropped, Item
from sightline.store.address import digest, seed_from


class Answering(Step):
    """One answer an item. An item whose answer could not be had is dropped with the reason, and asked again by the next run."""

    version: ClassVar[int] = 1
    asks_again: ClassVar[bool] = True
    role: ClassVar[str] = "vision_chat"

    engine: str
    """Engine that answers; needs the role."""
    decoding: Decoding
    """Greedy, unless the benchmark says otherwise."""
    suffix: str = ""
    """Added to each question."""

    def engine_roles(self) -> dict[str, str]:
        return {self.engine: self.role}

    def make(self, use: Use, *inputs: list[Item]) -> Iterator[Answer | Dropped]:
        (items,) = inputs
        pictures = {name: _decoded(use, name, item.group) for name, item in _shown(items).items()}
        said: dict[str, tuple[ChatRequest, ChatReply]] = {}
        for turn in _turns(items):
            lost = [item for item in turn if item.after is not None and said[item.after][1].error is not None]
            yield from (Dropped(key=item.key, reason="no reply to the question before", row_id=item.id) for item in lost)
            asked = [item for item in turn if item not in lost]
            requests = [self._request(use.seed, item, pictures, said) for item in asked]
            replies = use.engines.use(self.engine, self.role).chat(requests, self.decoding) if asked else []
            for item, request, reply in zip(asked, requests, replies, strict=True):
                said[item.question_id] = request, reply
                yield reply.dropped(item) if reply.error is not None else self._answer(item, request, reply)

    def _request(
        self, seed: int, item: Item, pictures: dict[str, Any], said: dict[str, tuple[ChatRequest, ChatReply]]
    ) -> ChatRequest:
        text, seed = item.question + self.suffix, seed_from(seed, item.id)
        if item.after is None:
            return ChatRequest(text, tuple(pictures[name] for name in item.pictures), seed)
        before, reply = said[item.after]
        return ChatRequest(text, before.pictures, seed, earlier=(*before.earlier, (before.text, reply.text)))

    def _answer(self, item: Item, request: ChatRequest, reply: ChatReply) -> Answer:
        return Answer(
            id=digest(item.id, self.engine),
            key=item.key,
            item_id=item.id,
            group=item.group,
            question=request.text,
            text=reply.text,
            finish=reply.finish,
            num_tokens=reply.num_tokens,
        )


def _turns(items: Sequence[Item]) -> Iterator[list[Item]]:
    """The items that open a conversation, then those that come after one of these, and so on."""
    turn = [item for item in items if item.after is None]
    while turn:
        yield turn
        before = {item.question_id for item in turn}
        turn = [item for item in items if item.after in before]


def _shown(items: Sequence[Item]) -> dict[str, Item]:
    """Each picture once, with an item that asks about it."""
    return {name: item for item in items for name in item.pictures}


def _decoded(use: Use, name: str, group: str) -> Any:
    try:
        return use.picture(name)
    except OSError as error:
        raise DataError(f"picture {group}", f"it cannot be decoded: {error}", "replace it in the benchmark's pictures") from error
