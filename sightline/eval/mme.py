"""MME: yes/no questions in pairs, one of each true, in fourteen subtasks of perception and cognition (Fu et al., 2023)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.answer_files import Said, joined, read_text, records
from sightline.eval.compare import Metric, Score, Sums, divided, fraction
from sightline.eval.yes_no import Verdict, clean, together, words
from sightline.rows import Answer, Item

COARSE = ("existence", "count", "position", "color")
"""Subtasks that share their pictures, COCO's; elsewhere two subtasks may give one name to different pictures."""
PERCEPTION = (*COARSE, "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
HEAD = 4  # characters of an answer that the published rule looks at


class Mme(Benchmark):
    """Ask two questions about a picture, of which one is true, in each of fourteen subtasks.

    The data folder holds a file for each subtask, such as existence.txt: lines of picture, question and truth, separated by tabs,
    the two lines of a picture together; one such file is a benchmark, too. The folder of pictures has a folder for each subtask.

    Answers are such a folder or file, too, each line with the model's answer as a fourth column.
    """

    origin: ClassVar[str] = (
        "The fourteen files are in tools/eval_tool.zip (Your_Results) on the branch Evaluation of\n"
        "github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, whose README links to the pictures\n"
        "(MME_Benchmark_release_version.zip). There is no licence: for research only, and not to be passed on."
    )

    rule: Literal["published", "clean"] = "published"
    """published: a yes, or else a no, within the first four characters ('not', 'know' and 'nope' are a no). clean: the first
    word, or else the first sentence, says yes or no. By both, anything else is wrong."""
    decoding: Decoding = Decoding(max_tokens=32)
    """How the model answers. The questions end in 'Please answer yes or no.'"""

    def questions(self, place: Path) -> list[Question]:
        return [
            Question(row.name, row.group, self._picture(place, row), row.question, [row.subtask, row.truth, number // 2])
            for path in _files(place)
            for number, row in enumerate(_pairs(path))
        ]

    def read_answers(self, path: Path, questions: Sequence[Question]) -> list[str]:
        if path.is_file() and path.suffix != ".txt":
            found = list(records(path))
            if all({"question_id", "question", "text"} <= set(record) for _, record in found):
                return joined(path, map(_of_document, found), [question.id for question in questions])
            return super().read_answers(path, questions)
        truths = {question.id: question.target[1] for question in questions}
        wanted = {question.target[0] for question in questions}
        files = [file for file in _files(path) if file.stem in wanted]
        return joined(path, (said for file in files for said in _said(file, truths)), list(truths))

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        targets = [json.loads(item.target) for item in items]
        read = [published(answer.text) if self.rule == "published" else clean(answer.text) for answer in answers]
        right = [verdict == truth for (verdict, _), (_, truth, _) in zip(read, targets, strict=True)]
        pairs = together([(subtask, pair) for subtask, _, pair in targets], right)
        return [
            Score(item.id, item.group, _counted(subtask, is_right, pair), guessed)
            for item, (subtask, _, _), is_right, pair, (_, guessed) in zip(items, targets, right, pairs, read, strict=True)
        ]

    def metrics(self) -> list[Metric]:
        """The sums, then each subtask's score, accuracy and accuracy+."""
        subtasks = [metric for subtask in (*PERCEPTION, *COGNITION) for metric in _metrics(subtask)]
        return [_sum("perception", PERCEPTION), _sum("cognition", COGNITION), *subtasks]

    def _picture(self, place: Path, row: Row) -> Path:
        """Five subtasks keep their pictures one folder lower."""
        plain, lower = (self.picture(place, f"{row.subtask}/{folder}{row.image}") for folder in ("", "images/"))
        return lower if lower.exists() else plain


def published(text: str) -> tuple[Verdict | None, bool]:
    """MME's own reading, to the letter, and whether it guessed. None is its 'other', which is wrong whatever the truth."""
    head = text.lower()[:HEAD]
    verdict: Verdict | None = "yes" if "yes" in head else "no" if "no" in head else None
    return verdict, verdict not in words(text)


@dataclass(frozen=True)
class Row:
    """A line of a subtask's file; `columns` are the model's answer, where it is there, and what follows it."""

    subtask: str
    image: str
    question: str
    truth: str
    columns: tuple[str, ...]
    where: str

    @property
    def name(self) -> str:
        return f"{self.subtask}/{self.image}: {self.question}"

    @property
    def group(self) -> str:
        return self.image if self.subtask in COARSE else f"{self.subtask}/{self.image}"


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = [place / f"{subtask}.txt" for subtask in (*PERCEPTION, *COGNITION)]
    known = [path for path in found if path.is_file()]
    if not known:
        raise DataError(str(place), "none of MME's files is here", "give the folder that has existence.txt and the others")
    return known


def _rows(path: Path) -> Iterator[Row]:
    if path.stem not in (*PERCEPTION, *COGNITION):
        raise DataError(str(path), "this is none of MME's subtasks", f"they are: {', '.join((*PERCEPTION, *COGNITION))}")
    for number, line in enumerate(read_text(path).replace("\r\n", "\n").split("\n"), 1):
        where, columns = f"{path}:{number}", line.split("\t")
        if line and len(columns) < 3:
            fix = "a line is picture, question, truth and answer, separated by tabs; an answer has no line breaks"
            raise DataError(where, f"{len(columns)} columns: {line[:60]!r}", fix)
        if line:
            image, question, truth, *more = columns
            yield Row(path.stem, image, question, _truth(truth, where), tuple(more), where)


def _truth(text: str, where: str) -> str:
    if text.lower() not in ("yes", "no"):
        raise DataError(where, f"the truth is {text!r}, neither yes nor no", "get the file again")
    return text.lower()


def _pairs(path: Path) -> list[Row]:
    """A subtask's questions; DataError where two lines are not about one picture, so that its pairs cannot be told."""
    rows = list(_rows(path))
    for first, second in zip(rows[::2], rows[1::2], strict=False):
        if first.image != second.image:
            problem = f"the lines of a pair are about {first.image} and {second.image}"
            raise DataError(second.where, problem, "keep the two lines of a picture together")
    if len(rows) % 2:
        raise DataError(rows[-1].where, f"{len(rows)} lines: the last has no second of its pair", "get the file again")
    return rows


def _said(path: Path, truths: dict[str, str]) -> Iterator[Said]:
    """A subtask's answers; DataError where a line has none, is broken, or is of other data."""
    fix = "a line is picture, question, truth and answer, separated by tabs; an answer has neither tabs nor line breaks"
    for row in _rows(path):
        if len(row.columns) != 1:
            problem = f"{3 + len(row.columns)} columns: a tab inside the answer" if row.columns else "3 columns: no answer"
            raise DataError(row.where, problem, fix)
        if truths.get(row.name, row.truth) != row.truth:
            raise DataError(row.where, f"the truth is {row.truth!r}, and the data's is another", "score against the same data")
        yield Said(row.name, row.columns[0], row.where)


def _of_document(entry: tuple[str, dict[str, Any]]) -> Said:
    """An answer that came with lmms-eval's document: its id is a subtask and a picture, which two questions share."""
    where, record = entry
    subtask, _, image = str(record["question_id"]).partition("/")
    return Said(f"{subtask}/{image.rpartition('/')[2]}: {record['question']}", record["text"], where)


def _counted(subtask: str, is_right: bool, pair: dict[str, float]) -> dict[str, float]:
    part = "perception" if subtask in PERCEPTION else "cognition"
    counts = {f"{part} asked": 1.0, f"{subtask} asked": 1.0, f"{subtask} right": float(is_right)}
    return counts | {f"{subtask} {name}": count for name, count in pair.items()}


def _metrics(subtask: str) -> Iterator[Metric]:
    asked, right, pairs, whole = (f"{subtask} {name}" for name in ("asked", "right", "sets", "whole"))
    yield Metric("score", lambda sums: _score(sums, subtask), asked, "higher", unit="points", split=subtask)
    yield fraction("accuracy", right, asked, asked, "higher", split=subtask, is_outcome=True)
    yield fraction("accuracy+", whole, pairs, pairs, "higher", split=subtask)


def _sum(part: str, subtasks: Sequence[str]) -> Metric:
    undefined = f"{part} is the sum of {len(subtasks)} subtasks, and not all of them are here"
    return Metric(
        part,
        lambda sums: np.sum([_score(sums, subtask) for subtask in subtasks], axis=0),
        f"{part} asked",
        "higher",
        unit="points",
        undefined=undefined,
    )


def _score(sums: Sums, subtask: str) -> np.ndarray:
    """0 to 200: the share of questions and the share of pairs that are right, each in %."""
    accuracy = divided(sums[f"{subtask} right"], sums[f"{subtask} asked"])
    return 100 * accuracy + 100 * divided(sums[f"{subtask} whole"], sums[f"{subtask} sets"])
