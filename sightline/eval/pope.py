"""POPE: yes/no questions about things that are, or are not, in the picture (Li et al., 2023)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.compare import Metric, Score, Sums, divided, fraction
from sightline.rows import Answer, Item

Verdict = Literal["yes", "no"]

SPLITS = ("random", "popular", "adversarial")
_NOS = {"no", "not", "nor", "none", "never", "cannot", "without", "nothing", "nope"}


class Pope(Benchmark):
    """Ask whether things are in the picture; half of them are not, chosen at random, by frequency, or by company.

    The data folder holds a file for each split in POPE's format, such as coco_pope_random.json: lines of question_id, image, text
    and label. A question that several splits ask is asked once.
    """

    origin: ClassVar[str] = (
        "coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json are in output/coco of\n"
        "github.com/AoiDragon/POPE (MIT). Their pictures are COCO's val2014, from cocodataset.org."
    )

    rule: Literal["published", "clean"] = "published"
    """published: a first sentence without 'No', 'no' or 'not' is a yes. clean: only a yes is a yes; neither is wrong."""
    suffix: str = ""
    """Goes after each question; LLaVA's is, on a line of its own, 'Answer the question using a single word or phrase.'"""
    files: dict[str, str] = {}
    """Split -> file of the data folder, where they are not named as POPE names them."""
    decoding: Decoding = Decoding(max_tokens=32)
    """How the model answers."""

    def questions(self, place: Path) -> list[Question]:
        asked: dict[tuple[str, str], list[tuple[str, Verdict]]] = {}
        for split, file in self._files(place).items():
            for image, text, label in _lines(file):
                asked.setdefault((image, text), []).append((split, label))
        return [
            Question(f"{image}: {text}", image, self.picture(place, image), text + self.suffix, uses)
            for (image, text), uses in asked.items()
        ]

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        return [self._score(item, answer.text) for item, answer in zip(items, answers, strict=True)]

    def _score(self, item: Item, text: str) -> Score:
        verdict, guessed = published(text) if self.rule == "published" else clean(text)
        counts: dict[str, float] = {}
        for split, label in json.loads(item.target):
            for name in (split, "all"):
                for column, count in _counted(verdict, label).items():
                    counts[f"{name} {column}"] = counts.get(f"{name} {column}", 0) + count
        return Score(item.id, item.group, counts, guessed)

    def metrics(self) -> list[Metric]:
        """Over all questions, then per split."""
        splits = list(self.files or SPLITS)
        undefined = "a split has no F1"
        mean = Metric(
            "mean F1", lambda sums: _mean_f1(sums, splits), "all asked", "higher", split="of splits", undefined=undefined
        )
        return [*_metrics("all", None), mean, *(metric for split in splits for metric in _metrics(split, split))]

    def _files(self, place: Path) -> dict[str, Path]:
        if self.files:
            return {split: place / file for split, file in self.files.items()}
        if place.is_file():
            return {next((split for split in SPLITS if split in place.name), SPLITS[0]): place}
        return {split: _only_file(place, split) for split in SPLITS}


def published(text: str) -> tuple[Verdict, bool]:
    """POPE's own reading, to the letter, and whether it guessed: a first sentence without 'No', 'no' or 'not' is a yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    if {"No", "no", "not"} & set(words):
        return "no", False
    return "yes", "yes" not in _words(text)


def clean(text: str) -> tuple[Verdict | None, bool]:
    """The first word where it is yes or no; else the one of the two that the first sentence has. None is unreadable."""
    words = _words(text.strip().split(".")[0])
    if words[:1] in (["yes"], ["no"]):
        return ("yes" if words[0] == "yes" else "no"), False
    says_yes, says_no = "yes" in words, any(word in _NOS or word.endswith("n't") for word in words)
    if says_yes == says_no:
        return None, True
    return ("yes" if says_yes else "no"), False


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower().replace("’", "'"))


def _counted(verdict: Verdict | None, label: Verdict) -> dict[str, float]:
    """What one reading adds; an unreadable answer is neither a yes nor right."""
    right, yes = verdict == label, verdict == "yes"
    return {"asked": 1, "right": right, "yes": yes, "true": label == "yes", "hit": yes and right}


def _metrics(columns: str, split: str | None) -> Iterator[Metric]:
    asked, right, yes, true, hit = (f"{columns} {name}" for name in ("asked", "right", "yes", "true", "hit"))
    yield fraction("accuracy", right, asked, asked, "higher", split=split, is_outcome=True)
    no_yes, no_true = "no answer was read as yes", "no question has yes for its answer"
    yield Metric("F1", lambda sums: _f1(sums, columns), asked, "higher", split=split, undefined=f"{no_yes}, or {no_true}")
    yield fraction("precision", hit, yes, asked, "higher", split=split, undefined=no_yes)
    yield fraction("recall", hit, true, asked, "higher", split=split, undefined=no_true, is_outcome=True)
    yield fraction("yes ratio", yes, asked, asked, None, split=split, is_outcome=True)


def _f1(sums: Sums, columns: str) -> np.ndarray:
    """In %; NaN where precision or recall has no value."""
    yes, true, hit = (sums[f"{columns} {name}"] for name in ("yes", "true", "hit"))
    return 100 * divided(2 * hit, np.where((yes == 0) | (true == 0), 0, yes + true))


def _mean_f1(sums: Sums, splits: list[str]) -> np.ndarray:
    return np.mean([_f1(sums, split) for split in splits], axis=0)


def _only_file(place: Path, split: str) -> Path:
    found = sorted(place.glob(f"*pope_{split}.json*"))
    if len(found) != 1:
        problem = f"{len(found)} files *pope_{split}.json* are here"
        raise DataError(str(place), problem, "have one for each split, or name them in files")
    return found[0]


def _lines(path: Path) -> Iterator[tuple[str, str, Verdict]]:
    """(image, text, label) of each line; DataError with the line's number where it is no question."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}", "check the file's name") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _parsed(line, f"{path}:{number}")


def _parsed(line: str, where: str) -> tuple[str, str, Verdict]:
    fix = "a line is {question_id, image, text, label}, its label yes or no"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(where, f"this is no JSON: {error}", fix) from error
    missing = [name for name in ("image", "text", "label") if not (isinstance(row, Mapping) and isinstance(row.get(name), str))]
    if missing:
        raise DataError(where, f"no {missing[0]}", fix)
    if row["label"] not in ("yes", "no"):
        raise DataError(where, f"label {row['label']!r}", fix)
    return row["image"], row["text"], row["label"]
