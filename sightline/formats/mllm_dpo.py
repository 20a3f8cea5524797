"""mllm-dpo's JSON: a question's turn, two answers' turns, and the log-probabilities that its reference model gave them."""

from __future__ import annotations

import ast
import json
from typing import Any, ClassVar, Literal

from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.texts import need_key, text_of, unasked
from sightline.formats.pairs import PairFormat, both_answers, imported_pair
from sightline.formats.turns import LLAVA, asked, asked_again, need_same_question, pictures_of, placed
from sightline.rows import Pair

REFERENCE = tuple(f"ref_{side}_{what}" for side in ("win", "rej") for what in ("logp", "avg_logp", "per_token_logp"))


class MllmDpo(PairFormat):
    """`image`, `question`, `chosen` and `rejected`, as mllm-dpo's encode_multimodal_preference_sample reads them.

    An answer is a turn, or a list of the question's turn and its own. Rows without a picture are text-only. The six reference
    fields are kept in the record and given back; training does not read them, since our reference is computed by the model that
    is trained. Where an answer or question was changed they are left out, for they would be of another text. Pairs that come
    from elsewhere have none: mllm-dpo's own notebook computes them.
    """

    kind: Literal["mllm_dpo"] = "mllm_dpo"
    containers: ClassVar[tuple[str, ...]] = (".json", ".jsonl")

    def instruction_of(self, pair: Pair) -> str:
        return unasked(asked(pair))

    def remark(self, row: Pair) -> str | None:
        known = json.loads(row.record or "{}")
        if known.get("format") != self.kind or not any(name in known["record"] for name in REFERENCE):
            return None
        return "rows hold a reference model's log-probabilities: they are kept; training computes its own"

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        question, chosen, rejected = _texts(record)
        pictures = pictures_of(record, "image", key, question, album)
        return imported_pair(self.kind, key, unasked(question), pictures, chosen, rejected)

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        known = known or _fresh(pair)
        before = _texts(known)
        now = (asked_again(before[0], pair), *both_answers(pair))
        if now != before:
            known = {name: value for name, value in known.items() if name not in REFERENCE}
        image = {"image": placed(pair, known.get("image", ""), gallery)} if pair.pictures else {}
        return {**known, **_retold(known, *now), **image}


def _texts(record: dict[str, Any]) -> tuple[str, str, str]:
    """Question, chosen and rejected."""
    sides = {side: need_key(record, side) for side in ("chosen", "rejected")}
    if not isinstance(sides["chosen"], list):
        question = LLAVA.question_of(_question(record), "question")
        return question, LLAVA.answer_of(sides["chosen"], "chosen"), LLAVA.answer_of(sides["rejected"], "rejected")
    question, chosen = LLAVA.exchange(sides["chosen"], "chosen")
    again, rejected = LLAVA.exchange(sides["rejected"], "rejected")
    need_same_question(question, again)
    return question, chosen, rejected


def _question(record: dict[str, Any]) -> Any:
    """The question's turn, which may be written as Python writes a dict."""
    question = need_key(record, "question")
    if not isinstance(question, str):
        return question
    try:
        turn = ast.literal_eval(text_of(question, "question"))
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise Refused("question is no turn", question[:80]) from error
    return [turn] if isinstance(turn, dict) else turn


def _retold(record: dict[str, Any], question: str, chosen: str, rejected: str) -> dict[str, Any]:
    if isinstance(record["chosen"], list):
        sides = {"chosen": chosen, "rejected": rejected}
        return {side: LLAVA.retold(record[side], question, answer) for side, answer in sides.items()}
    written = record["question"]
    same = isinstance(written, str) and LLAVA.question_of(_question(record), "question") == question
    return {
        "question": written if same else LLAVA.retold(_question(record), question),
        "chosen": LLAVA.retold(record["chosen"], chosen),
        "rejected": LLAVA.retold(record["rejected"], rejected),
    }


def _fresh(pair: Pair) -> dict[str, Any]:
    turns = {"question": LLAVA.question(asked(pair)), "chosen": LLAVA.answer(""), "rejected": LLAVA.answer("")}
    return {"id": pair.key, **turns}
