"""TRL's preference rows with pictures: messages of typed content, as its DPOTrainer takes them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.texts import need_key
from sightline.formats.pairs import PairFormat, both_answers, imported_pair
from sightline.formats.turns import CHAT, placed
from sightline.rows import Pair


class Trl(PairFormat):
    """`images`, `prompt`, `chosen`, `rejected`: in Parquet with the pictures' bytes, in JSON with their paths.

    Source: TRL 1.16, docs "Dataset formats and types", and trl/trainer/dpo_trainer.py, DataCollatorForVisionPreference. Read as
    well: `image` for one picture, and texts in place of messages.
    """

    kind: Literal["trl"] = "trl"
    containers: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl", ".json")
    picture_columns: ClassVar[tuple[str, ...]] = ("images", "image")

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        prompt = need_key(record, "prompt")
        question = CHAT.question_of(prompt, "prompt")
        sides = [CHAT.answer_of(need_key(record, side), side) for side in ("chosen", "rejected")]
        given = record["image"] if record.get("image") is not None else need_key(record, "images")
        pictures = [album.given(image, key) for image in (given if isinstance(given, list) else [given])]
        if (shown := _shown(prompt)) not in (None, len(pictures)):
            raise Refused("prompt shows another number of pictures than the row has", f"{shown}, not {len(pictures)}")
        return imported_pair(self.kind, key, question, pictures, sides[0], sides[1])

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        known = known or self.fresh(pair)
        chosen, rejected = both_answers(pair)
        column = "image" if known.get("image") is not None else "images"
        return {
            **known,
            column: placed(pair, known.get(column), gallery, embed),
            "prompt": CHAT.retold(known["prompt"], pair.instruction),
            "chosen": CHAT.retold(known["chosen"], chosen),
            "rejected": CHAT.retold(known["rejected"], rejected),
        }

    def fresh(self, pair: Pair) -> dict[str, Any]:
        """The record of a pair that came from elsewhere, its texts and pictures not yet filled in."""
        pictures: list[dict[str, Any]] = [{"type": "image"} for _ in pair.pictures]
        said = [{"type": "text", "text": ""}]
        turns = {"prompt": [CHAT.question(pictures + said)], "chosen": [CHAT.answer(said)], "rejected": [CHAT.answer(said)]}
        return {"id": pair.key, "images": [], **turns}


def _shown(prompt: Any) -> int | None:
    """How many pictures the prompt's content shows; None where it is a text, before which TRL puts all."""
    content = prompt if isinstance(prompt, str) else (prompt[0] if isinstance(prompt, list) else prompt)["content"]
    return None if isinstance(content, str) else sum(part["type"] == "image" for part in content)
