"""LLaMA-Factory's preference rows, and the entry of dataset_info.json by which it finds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from sightline.errors import DataError
from sightline.files.pictures import Album, Gallery
from sightline.files.texts import need_key, text_of, unasked
from sightline.formats import Exported
from sightline.formats.pairs import PairFormat, both_answers, imported_pair
from sightline.formats.turns import LLAVA, asked, asked_again, pictures_of, placed
from sightline.rows import Pair
from sightline.store.folders import RowFolder
from sightline.store.runs import Run
from sightline.store.shards import written_whole

INFO = "dataset_info.json"


class LlamaFactory(PairFormat):
    """`conversations`, `chosen`, `rejected` (sharegpt), or `instruction`, `input` (alpaca), and `images`.

    Source: LLaMA-Factory, data/README.md, "Preference Dataset" and "Multimodal Image Dataset", and the entry `rlhf_v` of its
    data/dataset_info.json (commit ff6d4d1 of August 2026). Written as sharegpt. There are as many `<image>` as pictures; paths
    start from `media_dir`, which is the folder of the file where it is not set.
    """

    kind: Literal["llamafactory"] = "llamafactory"
    containers: ClassVar[tuple[str, ...]] = (".json", ".jsonl")

    def instruction_of(self, pair: Pair) -> str:
        return unasked(asked(pair))

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        question = _question(record)
        sides = [LLAVA.answer_of(need_key(record, side), side) for side in ("chosen", "rejected")]
        pictures = pictures_of(record, "images", key, question, album)
        return imported_pair(self.kind, key, unasked(question), pictures, sides[0], sides[1])

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        known = known or _fresh(pair)
        sides = zip(("chosen", "rejected"), both_answers(pair), strict=True)
        before = _question(known)
        question = asked_again(before, pair)
        made = {**known, **{side: LLAVA.retold(known[side], answer) for side, answer in sides}}
        if "conversations" in known:
            made["conversations"] = LLAVA.retold(known["conversations"], question)
        elif question != before:
            made = {**made, "instruction": question, "input": ""}
        return {**made, "images": placed(pair, known.get("images"), gallery)} if pair.pictures else made

    def accompany(self, done: Exported, source: Run | RowFolder) -> Iterator[str]:
        """Enter the file into dataset_info.json beside it, where other data sets may stand already."""
        path = done.file.parent / INFO
        try:
            listed = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError as error:
            raise DataError(str(path), "this is not JSON", "mend it, or write to another folder") from error
        columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "images": "images"}
        entry = {"file_name": done.file.name, "formatting": "sharegpt", "ranking": True, "columns": columns}
        with written_whole(path) as aside:
            aside.write_text(json.dumps({**listed, done.file.stem: entry}, ensure_ascii=False, indent=2), encoding="utf-8")
        yield f"next: dataset: {done.file.stem}, dataset_dir: {done.file.parent}"


def _question(record: dict[str, Any]) -> str:
    """What is asked; alpaca's input follows its instruction on a new line."""
    if "instruction" not in record:
        return LLAVA.question_of(need_key(record, "conversations"), "conversations")
    asks = [text_of(record[name], name) for name in ("instruction", "input") if record.get(name)]
    return "\n".join(asks)


def _fresh(pair: Pair) -> dict[str, Any]:
    turns = {"conversations": [LLAVA.question(asked(pair))], "chosen": LLAVA.answer(""), "rejected": LLAVA.answer("")}
    return {"id": pair.key, **turns}
