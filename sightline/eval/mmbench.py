"""MMBench: multiple-choice questions, each asked once for every rotation of its choices (Liu et al., 2023)."""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.choices import LETTERS, clean, vlmevalkit
from sightline.eval.compare import Metric, Score, fraction
from sightline.eval.data_files import only_file
from sightline.rows import Answer, Item

PASS = 1_000_000
"""Index of a row = index of its question + PASS * how far its choices are rotated."""
SHORTEST_PICTURE = 65
"""A shorter cell is the index of the row that holds the picture, as in VLMEvalKit's files."""

ABILITIES = [
    "coarse_perception", "finegrained_perception (instance-level)", "finegrained_perception (cross-instance)", "logic_reasoning",
    "relation_reasoning", "attribute_reasoning",
    "action_recognition", "attribute_comparison", "attribute_recognition", "celebrity_recognition", "function_reasoning",
    "future_prediction", "identity_reasoning", "image_emotion", "image_quality", "image_scene", "image_style", "image_topic",
    "nature_relation", "object_localization", "ocr", "physical_property_reasoning", "physical_relation", "social_relation",
    "spatial_relationship", "structuralized_imagetext_understanding",
]  # fmt: skip

Row = Mapping[str, str]


class MMBench(Benchmark):
    """Ask for the letter of the right choice, once for every rotation of the choices; all must be right.

    The data is one of MMBench's tables: tab-separated columns index, question, hint, A to D, answer, category, l2-category, split
    and image (base64, or the index of the row that has it). A table without rotated rows is rotated here. The answers of the test
    split are not public: its numbers come from MMBench's server.
    """

    origin: ClassVar[str] = (
        "MMBench_DEV_EN.tsv and its other tables are linked from the README of github.com/open-compass/MMBench (Apache-2.0)."
    )
    answer_ids: ClassVar[Sequence[str]] = ("index", "question_id", "id")
    # a table of predictions has the right letter under `answer`
    answer_texts: ClassVar[Sequence[str]] = ("prediction", "text", "response")

    rule: Literal["published", "clean"] = "published"
    """published: VLMEvalKit's without a judge (exact_matching): a reply that it would ask a judge about is wrong. clean: the one
    letter that is called the answer or stands alone, else the one choice that is quoted. Both count replies that name none."""
    split: str = ""
    """Only rows of this split; all where it is empty."""
    abilities: list[str] = ABILITIES
    """Names that the columns category and l2-category may hold; each has an accuracy of its own."""
    suffix: str = "\nAnswer with the letter of the right choice only."
    """Goes after each question; LLaVA's, on its own line, is: Answer with the option's letter from the given choices directly."""
    decoding: Decoding = Decoding(max_tokens=128)
    """How the model answers."""

    def questions(self, place: Path) -> list[Question]:
        path = only_file(place, "*.tsv")
        rows = _rows(path)
        pictures = _pictures(path, rows)
        kept = {index: row for index, row in rows.items() if not self.split or row.get("split") == self.split}
        if all(index < PASS for index in kept):
            kept = {index: row for base, asked in kept.items() for index, row in _rotated(base, asked)}
        return [self._question(index, kept, *pictures[index % PASS], f"{path}, index {index}") for index in kept]

    def _question(self, index: int, rows: Mapping[int, Row], group: str, picture: bytes, where: str) -> Question:
        row, base = rows[index], index % PASS
        choices = _choices(row)
        if base not in rows:
            raise DataError(where, f"no row has index {base}, whose choices are rotated here", "give the whole table")
        if row.get("answer") not in choices:
            told = f"answer {row.get('answer') or ''!r} is none of its choices ({', '.join(choices)})"
            raise DataError(where, told, "give a table with answers: dev has them, test has not")
        abilities = [rows[base].get(column) or "" for column in ("l2-category", "category")]
        unknown = [ability for ability in abilities if ability and ability not in self.abilities]
        if unknown:
            raise DataError(where, f"category {unknown[0]!r} is not among abilities", "set abilities to the table's own")
        lines = [row.get("hint") or "", row.get("question") or "", *(f"{letter}. {choice}" for letter, choice in choices.items())]
        target = {"base": base, "choices": choices, "answer": row["answer"], "abilities": [name for name in abilities if name]}
        return Question(str(index), group, picture, "\n".join(line for line in lines if line) + self.suffix, target)

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        read = vlmevalkit if self.rule == "published" else clean
        targets = [json.loads(item.target) for item in items]
        readings = [read(answer.text, target["choices"]) for answer, target in zip(answers, targets, strict=True)]
        named: dict[int, list[tuple[str | None, str]]] = defaultdict(list)
        for (letter, _), target in zip(readings, targets, strict=True):
            named[target["base"]].append((letter, target["answer"]))
        found = []
        for item, (letter, guessed), target in zip(items, readings, targets, strict=True):
            counts: dict[str, float] = {"passes": 1, "right": letter == target["answer"], "unmatched": letter is None}
            # a question's numbers go with the first of its passes
            counts |= _counted(named.pop(target["base"], []), target["abilities"])
            found.append(Score(item.id, item.group, counts, guessed))
        return found

    def metrics(self) -> list[Metric]:
        """Over all questions, then by ability; what single passes come to, and what a judge might change."""
        unread = fraction("no choice found", "unmatched", "passes", "passes", "lower")
        left = fraction("left to a judge", "all open", "all asked", "all asked", "lower", is_outcome=True)
        accuracies = [_accuracy("all", None), *(_accuracy(ability, ability) for ability in self.abilities)]
        return [*accuracies, fraction("accuracy of single passes", "right", "passes", "passes", "higher"), unread, left]

    def read_answers(self, path: Path, questions: Sequence[Question]) -> list[str]:
        if path.suffix in (".xlsx", ".xls"):
            raise DataError(str(path), "a spreadsheet is not read", "save it as .tsv or .csv (VLMEvalKit: PRED_FORMAT=tsv)")
        return super().read_answers(path, questions)


def _accuracy(columns: str, split: str | None) -> Metric:
    asked = f"{columns} asked"
    return fraction("accuracy", f"{columns} hits", asked, asked, "higher", split=split, is_outcome=True)


def _counted(named: Sequence[tuple[str | None, str]], abilities: Sequence[str]) -> dict[str, float]:
    """What a question adds, of the letters that its passes were answered with; nothing where there are none."""
    if not named:
        return {}
    is_hit = all(letter == answer for letter, answer in named)
    # as VLMEvalKit, which asks its judge only where no pass is wrong without it
    is_open = not is_hit and all(letter in (None, answer) for letter, answer in named)
    counts: dict[str, float] = {"all open": is_open}
    for name in ("all", *abilities):
        counts |= {f"{name} asked": 1, f"{name} hits": is_hit}
    return counts


def _choices(row: Row) -> dict[str, str]:
    return {letter: row[letter] for letter in LETTERS if row.get(letter)}


def _rotated(base: int, row: Row) -> Iterator[tuple[int, Row]]:
    """A question's rows: one for each choice that can come first, the others after it in their order."""
    letters = list(_choices(row))
    for by in range(len(letters)):
        moved = dict(zip(letters[by:] + letters[:by], letters, strict=True))
        put = {moved[letter]: row[letter] for letter in letters}
        yield base + by * PASS, {**row, **put, "answer": moved.get(row.get("answer") or "", row.get("answer") or "")}


def _rows(path: Path) -> dict[int, Row]:
    """The table's rows by index, all as text; DataError where an index is none or comes twice."""
    found: dict[int, Row] = {}
    for number, row in enumerate(_table(path), 1):
        index = row.get("index") or ""
        if not index.isdecimal() or int(index) in found:
            problem = f"index {index} comes a second time" if index.isdecimal() else f"index {index!r} is no number"
            raise DataError(f"{path}, row {number}", problem, "give one of MMBench's tables as it is")
        found[int(index)] = row
    return found


def _table(path: Path) -> list[dict[str, Any]]:
    # not csv, whose cells are bounded for the whole process: a picture is longer
    from pyarrow import ArrowException, csv

    parse = csv.ParseOptions(delimiter="\t", newlines_in_values=True)
    try:
        with path.open(encoding="utf-8-sig") as stream:
            names = [name.strip() for name in stream.readline().split("\t")]
        convert = csv.ConvertOptions(column_types=dict.fromkeys(names, "string"), strings_can_be_null=False)
        block = min(max(1 << 20, path.stat().st_size + 1), (1 << 31) - 1)  # a row must fit
        read = csv.ReadOptions(column_names=names, skip_rows=1, block_size=block)
        rows = csv.read_csv(path, read, parse, convert).to_pylist() if any(names) else []
    except (OSError, UnicodeDecodeError, ArrowException) as error:
        raise DataError(str(path), f"cannot be read as a tab-separated table: {error}"[:300], "fetch the file again") from error
    return [{name if name in LETTERS else name.lower(): value for name, value in row.items()} for row in rows]


def _pictures(path: Path, rows: Mapping[int, Row]) -> dict[int, tuple[str, bytes]]:
    """Each question's picture, and the index of the first question that shows it, which names it."""
    names: dict[str, tuple[str, bytes]] = {}
    found = {}
    for index, row in rows.items():
        cell = row.get("image") or ""
        if cell and len(cell) < SHORTEST_PICTURE and cell.isdecimal():
            cell = rows.get(int(cell), {}).get("image") or ""
        if len(cell) < SHORTEST_PICTURE:
            raise DataError(f"{path}, index {index}", "no picture in column image", "give one of MMBench's tables as it is")
        if cell not in names:
            names[cell] = (str(index % PASS), _decoded(cell, f"{path}, index {index}"))
        found[index % PASS] = names[cell]
    return found


def _decoded(cell: str, where: str) -> bytes:
    try:
        return base64.b64decode(cell, validate=True)
    except binascii.Error as error:
        raise DataError(where, f"its picture is no base64: {error}", "fetch the file again") from error
