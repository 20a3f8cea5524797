"""LLaVA's conversations in chosen and rejected form, as PDS-DPO publishes them."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from sightline.formats.pairs import PairFormat, both_answers, imported_pair, need_key, text_of
from sightline.formats.pictures import Album, Gallery, Refused
from sightline.rows import Pair

PLACEHOLDER = "<image>"
AT_AN_END = re.compile(rf"^(?:\s*{PLACEHOLDER}\s*)+|(?:\s*{PLACEHOLDER}\s*)+$")


class Llava(PairFormat):
    """`id`, `image`, and `conversations` against `rejected_conversations`, each a human's turn and a model's."""

    kind: Literal["llava"] = "llava"
    containers: ClassVar[tuple[str, ...]] = (".json", ".jsonl")

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        question, chosen = _turns(record, "conversations")
        asked_again, rejected = _turns(record, "rejected_conversations")
        if question != asked_again:
            raise Refused("the two sides ask different questions", asked_again[:80])
        pictures = [album.take(path) for path in _paths(need_key(record, "image"))]
        return imported_pair("llava", key, AT_AN_END.sub("", question), pictures, chosen, rejected)

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        known = known or _fresh(pair)
        one = isinstance(known["image"], str)
        names = [known["image"]] if one else known["image"]
        paths = [gallery.put(picture, pair.key, name) for picture, name in zip(pair.pictures, names, strict=True)]
        question = known["conversations"][0]["value"]
        if AT_AN_END.sub("", question) != pair.instruction:
            question = _asked(pair)
        sides = dict(zip(("conversations", "rejected_conversations"), both_answers(pair), strict=True))
        turns = {side: _conversation(known[side], question, answer) for side, answer in sides.items()}
        return {**known, "image": paths[0] if one else paths, **turns}


def _fresh(pair: Pair) -> dict[str, Any]:
    """The record of a pair that came from elsewhere, its texts and pictures not yet filled in."""
    turns = [{"from": "human", "value": _asked(pair)}, {"from": "gpt"}]
    image = "" if len(pair.pictures) == 1 else [""] * len(pair.pictures)
    return {"id": pair.key, "image": image, "conversations": turns, "rejected_conversations": turns}


def _asked(pair: Pair) -> str:
    return f"{PLACEHOLDER}\n" * len(pair.pictures) + pair.instruction


def _turns(record: dict[str, Any], side: str) -> tuple[str, str]:
    """What the human asks and the model answers on one side."""
    turns = need_key(record, side)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Refused(f"{side} is not a list of turns", type(turns).__name__)
    for turn in turns:
        need_key(turn, "from")
        need_key(turn, "value")
    roles = [str(turn["from"]) for turn in turns]
    if roles != ["human", "gpt"]:
        raise Refused(f"{side} is not one human turn and one gpt turn", ", ".join(roles) or "no turn")
    return text_of(turns[0]["value"], f"{side}' question"), text_of(turns[1]["value"], f"{side}' answer")


def _paths(image: Any) -> list[str]:
    paths = image if isinstance(image, list) else [image]
    if not paths:
        raise Refused("row names no picture")
    return [text_of(path, "image") for path in paths]


def _conversation(turns: list[dict[str, Any]], question: str, answer: str) -> list[dict[str, Any]]:
    return [{**turns[0], "value": question}, {**turns[1], "value": answer}]
