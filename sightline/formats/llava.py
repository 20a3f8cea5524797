"""LLaVA's conversations in chosen and rejected form, as PDS-DPO publishes them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.texts import need_key, unasked
from sightline.formats.pairs import PairFormat, both_answers, imported_pair
from sightline.formats.turns import LLAVA, asked, asked_again, need_same_question, placed
from sightline.rows import Pair


class Llava(PairFormat):
    """`id`, `image`, and `conversations` against `rejected_conversations`, each a human's turn and a model's."""

    kind: Literal["llava"] = "llava"
    containers: ClassVar[tuple[str, ...]] = (".json", ".jsonl")

    def instruction_of(self, pair: Pair) -> str:
        return unasked(asked(pair))

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        question, chosen = LLAVA.exchange(need_key(record, "conversations"), "conversations")
        again, rejected = LLAVA.exchange(need_key(record, "rejected_conversations"), "rejected_conversations")
        need_same_question(question, again)
        image = need_key(record, "image")
        pictures = [album.given(path, key) for path in (image if isinstance(image, list) else [image])]
        if not pictures:
            raise Refused("row names no picture")
        return imported_pair("llava", key, unasked(question), pictures, chosen, rejected)

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        known = known or _fresh(pair)
        question = asked_again(known["conversations"][0]["value"], pair)
        sides = dict(zip(("conversations", "rejected_conversations"), both_answers(pair), strict=True))
        turns = {side: LLAVA.retold(known[side], question, answer) for side, answer in sides.items()}
        return {**known, "image": placed(pair, known["image"], gallery), **turns}


def _fresh(pair: Pair) -> dict[str, Any]:
    """The record of a pair that came from elsewhere, its answers and pictures not yet filled in."""
    turns = [LLAVA.question(asked(pair)), LLAVA.answer("")]
    return {"id": pair.key, "image": "", "conversations": turns, "rejected_conversations": turns}
