"""POPE: yes/no questions about things that are, or are not, in the picture (Li et al., 2023)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.engines.roles import Decoding
from sightline.engines.weights import locate_data
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.answer_files import Said, read_text, read_texts, records
from sightline.eval.compare import Metric, Score, Sums, divided, fraction
from sightline.eval.yes_no import Verdict, clean, words
from sightline.rows import Answer, Item

SPLITS = ("random", "popular", "adversarial")


class Pope(Benchmark):
    """Ask whether things are in the picture; half of them are not, chosen at random, by frequency, or by company.

    The data folder holds a file for each split in POPE's format, such as coco_pope_random.json: lines of question_id, image, text
    and label; one of these files is a benchmark, too. A question that several splits ask is asked once.

    Answers to a split are lines of question and answer in the split's order, as POPE's own, or of question_id and text. Answers
    to several splits are a folder with a file for each, which has the split in its name.
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
        asked: dict[str, Line] = {}
        uses: dict[str, list[tuple[str, Verdict]]] = {}
        for split, file in self._files(place).items():
            for line in _lines(file):
                asked.setdefault(line.name, line)
                uses.setdefault(line.name, []).append((split, line.label))
        return [
            Question(name, line.image, self.picture(place, line.image), line.text + self.suffix, uses[name])
            for name, line in asked.items()
        ]

    def read_answers(self, path: Path, questions: Sequence[Question]) -> list[str]:
        splits = self._files(locate_data(self.data))
        if path.is_file() and (len(splits) > 1 or _uses_names(path, questions)):
            return read_texts(path, [question.id for question in questions], self.answer_ids, self.answer_texts)
        said: dict[str, Said] = {}
        for split, file in splits.items():
            answers = _one(path, f"*{split}*.json*", "have one for each split") if path.is_dir() else path
            for answer in self._to_split(answers, list(_lines(file))):
                first = said.setdefault(answer.question_id, answer)
                if first.text != answer.text:
                    problem = f"another answer to {answer.question_id!r} than at {first.where}"
                    raise DataError(answer.where, problem, "score each split by itself")
        return [said[question.id].text for question in questions]

    def _to_split(self, path: Path, lines: Sequence[Line]) -> list[Said]:
        """A split's answers, in its order, under the names of their questions."""
        found = list(records(path))
        if found and not any(name in found[0][1] for name in self.answer_ids):
            return list(_in_order(path, found, lines))
        ids = [line.question_id for line in lines]
        twice = next((name for name, number in Counter(ids).items() if number > 1), None)
        if twice is not None:
            raise DataError(str(path), f"the split has {ids.count(twice)} questions of question_id {twice}", "get its file again")
        texts = read_texts(path, ids, self.answer_ids, self.answer_texts)
        return [Said(line.name, text, str(path)) for line, text in zip(lines, texts, strict=True)]

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        return [self._score(item, answer.text) for item, answer in zip(items, answers, strict=True)]

    def _score(self, item: Item, text: str) -> Score:
        verdict, guessed = published(text) if self.rule == "published" else clean(text)
        counts: dict[str, float] = {}
        for split, label in json.loads(item.target):
            for name in dict.fromkeys((split, "all")):
                for column, count in _counted(verdict, label).items():
                    counts[f"{name} {column}"] = counts.get(f"{name} {column}", 0) + count
        return Score(item.id, item.group, counts, guessed)

    def metrics(self) -> list[Metric]:
        """Over all questions, then per split. One file alone is one split, and leaves nothing to take a mean over."""
        splits = list(self.files or SPLITS)
        by_split = [metric for split in splits for metric in _metrics(split, split)]
        if len(splits) == 1 or Path(self.data).suffix in (".json", ".jsonl"):
            return [*_metrics("all", None), *by_split]
        undefined = "a split has no F1"
        mean = Metric("mean F1 (of splits)", lambda sums: _mean_f1(sums, splits), "all asked", "higher", undefined=undefined)
        return [*_metrics("all", None), mean, *by_split]

    def _files(self, place: Path) -> dict[str, Path]:
        if self.files:
            return {split: place / file for split, file in self.files.items()}
        if place.is_file():
            return {next((split for split in SPLITS if split in place.name), "all"): place}
        return {split: _one(place, f"*pope_{split}.json*", "have one for each split, or name them in files") for split in SPLITS}


def published(text: str) -> tuple[Verdict, bool]:
    """POPE's own reading, to the letter, and whether it guessed: a first sentence without 'No', 'no' or 'not' is a yes."""
    said = text.split(".")[0].replace(",", "").split(" ")
    if {"No", "no", "not"} & set(said):
        return "no", False
    return "yes", "yes" not in words(text)


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


def _one(place: Path, pattern: str, fix: str) -> Path:
    found = sorted(place.glob(pattern))
    if len(found) != 1:
        raise DataError(str(place), f"{len(found)} files {pattern} are here", fix)
    return found[0]


def _uses_names(path: Path, questions: Sequence[Question]) -> bool:
    """True where the first answer has the name of one of our questions for its id."""
    _, first = next(records(path), ("", {}))
    return bool({question.id for question in questions} & {str(value) for value in first.values()})


def _in_order(path: Path, found: Sequence[tuple[str, Mapping[str, Any]]], lines: Sequence[Line]) -> Iterator[Said]:
    """POPE's own answers: each repeats its question, in the order of the split; the original script joins by the order alone."""
    for (where, answer), line in zip(found, lines, strict=False):
        if answer.get("question") != line.text:
            problem = f"an answer to {answer.get('question')!r}, where the data asks {line.text!r}"
            raise DataError(where, problem, "bring the answers into the order of the data, or give each its question_id")
        if not isinstance(answer.get("answer"), str):
            raise DataError(where, f"the answer is {answer.get('answer')!r}, no text", "write it as text, an empty one as ''")
        yield Said(line.name, answer["answer"], where)
    if len(found) != len(lines):
        raise DataError(str(path), f"{len(found)} answers to {len(lines)} questions", "answer each question once")


@dataclass(frozen=True)
class Line:
    """A question as a split's file has it."""

    question_id: str
    image: str
    text: str
    label: Verdict

    @property
    def name(self) -> str:
        return f"{self.image}: {self.text}"


def _lines(path: Path) -> Iterator[Line]:
    """The questions of a file; DataError with the line's number where one is none."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield _parsed(line, f"{path}:{number}")


def _parsed(line: str, where: str) -> Line:
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
    return Line(str(row.get("question_id", "")), row["image"], row["text"], row["label"])
