"""ScienceQA: multiple-choice questions of school science, half of them with a picture (Lu et al., 2022)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.choices import LETTERS, clean, llava
from sightline.eval.compare import Metric, Score, fraction
from sightline.eval.data_files import entry, read_json
from sightline.rows import Answer, Item

SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
MOST_CHOICES = 5
SPLITS = ("IMG", "TXT", "NO", *SUBJECTS.values(), "G1-6", "G7-12")
"""As the paper's tables: with a picture, with a text, with neither; subjects; grades."""


class ScienceQa(Benchmark):
    """Ask for the letter of the right choice.

    The data folder holds ScienceQA's problems.json and pid_splits.json, and its pictures in pictures/test/<id>/image.png. IMG is
    the subset with a picture: lmms-eval keeps it as a benchmark of its own.
    """

    origin: ClassVar[str] = (
        "problems.json and pid_splits.json are in data/scienceqa of github.com/lupantech/ScienceQA; its tools/download.sh\n"
        "fetches the pictures. CC BY-NC-SA 4.0: not for commercial use."
    )

    rule: Literal["published", "clean"] = "published"
    """published: LLaVA's, which reads 'B', 'B. ...' and one 'The answer is B.', and 'B.' or '(B)' as wrong. clean: the one letter
    that is called the answer or stands alone, else the one choice that is quoted."""
    subset: Literal["all", "images"] = "all"
    """Ask all questions, or only those with a picture."""
    split: str = Field("test", min_length=1)
    """Which of pid_splits.json."""
    suffix: str = "\nAnswer with the letter of the right choice only."
    """Goes after each question; LLaVA's, on its own line, is: Answer with the option's letter from the given choices directly."""
    decoding: Decoding = Decoding(max_tokens=128)
    """How the model answers."""

    def questions(self, place: Path) -> list[Question]:
        folder = place if place.is_dir() else place.parent
        path = folder / "problems.json"
        problems, splits = read_json(path), read_json(folder / "pid_splits.json")
        names = [str(name) for name in entry(splits, self.split, list, str(folder / "pid_splits.json"))]
        if len(set(names)) < len(names):
            raise DataError(str(folder / "pid_splits.json"), f"{self.split} names a problem twice", "fetch the file again")
        asked = [self._question(place, name, entry(problems, name, dict, str(path)), f"{path}, {name}") for name in names]
        return [question for question in asked if self.subset == "all" or question.picture is not None]

    def _question(self, place: Path, name: str, problem: Mapping[str, Any], where: str) -> Question:
        choices, answer = entry(problem, "choices", list, where), entry(problem, "answer", int, where)
        if not (0 <= answer < len(choices) <= MOST_CHOICES and all(isinstance(choice, str) for choice in choices)):
            told = f"answer {answer} of {len(choices)} choices"
            raise DataError(where, told, f"there are at most {MOST_CHOICES}, all of them text, counted from 0")
        lettered = dict(zip(LETTERS, choices, strict=False))
        image = problem.get("image")
        picture = self.picture(place, f"{entry(problem, 'split', str, where)}/{name}/{image}") if image else None
        lines = [entry(problem, "hint", str, where), entry(problem, "question", str, where)]
        lines += [f"{letter}. {choice}" for letter, choice in lettered.items()]
        target = {"choices": lettered, "answer": LETTERS[answer], "splits": list(_splits(problem, where))}
        return Question(name, name, picture, "\n".join(line for line in lines if line) + self.suffix, target)

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        return [self._score(item, answer.text) for item, answer in zip(items, answers, strict=True)]

    def _score(self, item: Item, text: str) -> Score:
        target = json.loads(item.target)
        letter, guessed = (llava if self.rule == "published" else clean)(text, target["choices"])
        counts: dict[str, float] = {"unread": letter is None}
        for split in ("all", *target["splits"]):
            counts |= {f"{split} asked": 1, f"{split} right": letter == target["answer"]}
        return Score(item.id, item.group, counts, guessed)

    def metrics(self) -> list[Metric]:
        """Over all questions, then by what they come with, subject and grade; and how many replies were not read."""
        return [
            _accuracy("all", None),
            *(_accuracy(split, split) for split in SPLITS),
            fraction("no choice found", "unread", "all asked", "all asked", "lower", is_outcome=True),
        ]


def _accuracy(columns: str, split: str | None) -> Metric:
    asked = f"{columns} asked"
    return fraction("accuracy", f"{columns} right", asked, asked, "higher", split=split, is_outcome=True)


def _splits(problem: Mapping[str, Any], where: str) -> Iterator[str]:
    hint, image, subject = problem.get("hint"), problem.get("image"), entry(problem, "subject", str, where)
    grade = entry(problem, "grade", str, where).removeprefix("grade")
    if subject not in SUBJECTS or not grade.isdecimal():
        fix = f"subjects are {', '.join(SUBJECTS)}; grades are grade1 to grade12"
        raise DataError(where, f"subject {subject!r}, grade {grade!r}", fix)
    yield SUBJECTS[subject]
    yield "G1-6" if int(grade) <= 6 else "G7-12"
    if image:
        yield "IMG"
    if hint:
        yield "TXT"
    if not (image or hint):
        yield "NO"
