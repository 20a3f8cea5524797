"""ms-swift's standard rows for DPO and its kin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.texts import need_key, unasked
from sightline.formats import Exported
from sightline.formats.pairs import PairFormat, both_answers, imported_pair
from sightline.formats.turns import CHAT, asked, asked_again, need_same_question, pictures_of, placed
from sightline.rows import Pair
from sightline.store.folders import RowFolder
from sightline.store.runs import Run


class Swift(PairFormat):
    """`messages`, `rejected_response` or `rejected_messages`, and `images`, as ms-swift documents them.

    Source: ms-swift, docs/source_en/Customization/Custom-dataset.md, "DPO/ORPO/CPO/SimPO/RM" and "Multimodal" (commit 3602360 of
    August 2026). `<image>` in a text is where a picture stands. Rows whose two sides show different pictures are refused.
    """

    kind: Literal["swift"] = "swift"
    containers: ClassVar[tuple[str, ...]] = (".jsonl", ".json")

    def instruction_of(self, pair: Pair) -> str:
        return unasked(asked(pair))

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        question, chosen = CHAT.exchange(need_key(record, "messages"), "messages")
        rejected = _rejected(record, question)
        pictures = pictures_of(record, "images", key, question, album)
        return imported_pair(self.kind, key, unasked(question), pictures, chosen, rejected)

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        known = known or _fresh(pair)
        chosen, rejected = both_answers(pair)
        question = asked_again(CHAT.exchange(known["messages"], "messages")[0], pair)
        made = {**known, "messages": CHAT.retold(known["messages"], question, chosen)}
        if known.get("rejected_messages") is not None:
            made["rejected_messages"] = CHAT.retold(known["rejected_messages"], question, rejected)
        else:
            made["rejected_response"] = CHAT.retold(known["rejected_response"], rejected)
        if pair.pictures:
            made["images"] = placed(pair, known.get("images"), gallery)
        if known.get("rejected_images") is not None:
            made["rejected_images"] = made["images"]
        return made

    def accompany(self, done: Exported, source: Run | RowFolder) -> Iterator[str]:
        yield f"next: set ROOT_IMAGE_DIR={done.file.parent.resolve()} for ms-swift: picture paths start there"


def _rejected(record: dict[str, Any], question: str) -> str:
    """What the other side answers, to the same question about the same pictures."""
    other = record.get("rejected_images")
    if other is not None and other != record.get("images"):
        raise Refused("the two sides show different pictures", str(other)[:80])
    if record.get("rejected_messages") is None:
        return CHAT.answer_of(need_key(record, "rejected_response"), "rejected_response")
    if other is None and record.get("images"):
        raise Refused("rejected_messages stands without rejected_images", "ms-swift would show that side no picture")
    again, rejected = CHAT.exchange(record["rejected_messages"], "rejected_messages")
    need_same_question(question, again)
    return rejected


def _fresh(pair: Pair) -> dict[str, Any]:
    return {"id": pair.key, "messages": [CHAT.question(asked(pair)), CHAT.answer("")], "rejected_response": ""}
