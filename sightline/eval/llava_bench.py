"""LLaVA-Bench: open questions, each answer rated beside one by GPT-4 without eyes (Liu et al., 2023, arXiv 2304.08485)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Question
from sightline.eval.answer_files import records
from sightline.eval.compare import Metric, Sums, divided
from sightline.eval.judged import HUGE, NO_REPLY, Rated, data_file, field, named_once
from sightline.rows import Item

CATEGORIES = ("conv", "detail", "complex")
_FILES = {
    "coco": ("qa90_questions.jsonl", "caps_boxes_coco2014_val_80.jsonl", "qa90_gpt4_answer.jsonl"),
    "in-the-wild": ("questions.jsonl", "context.jsonl", "answers_gpt4.jsonl"),
}
"""Of each part: the questions, what the pictures show, and the answers to compare with."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

FORM = """\
[What the picture shows]
{context}

[Question]
{question}

[Assistant 1]
{reference}

[End of Assistant 1]

[Assistant 2]
{answer}

[End of Assistant 2]

[Your task]
Two assistants answered a user's question about a picture, both above. You cannot see the picture; {source}.
Rate each answer from 1 to 10 as a whole, the more helpful, relevant, accurate and detailed it is. Do not let the order of the
answers sway you.
Write nothing on the first line but two numbers with a space between them: your rating of Assistant 1, then that of Assistant 2.
Explain your ratings from the second line on.
"""
SOURCES = {
    "coco": (
        "five sentences that people wrote about it stand for it, and a list of the things in it with their boxes,\n"
        "(left, top, right, bottom) as shares of its width and height"
    ),
    "in-the-wild": "a description that people wrote stands for it",
}


class LlavaBench(Rated):
    """Ask for conversation, detail and reasoning, and have a judge without eyes rate each answer beside GPT-4's of a description.

    The score is the mean rating of the answers in % of the mean rating of GPT-4's, which is not the mean of the ratios.
    To score a judge's replies, give the reviews that the original script writes: lines of question_id and content.
    """

    origin: ClassVar[str] = (
        "part coco: qa90_questions.jsonl and qa90_gpt4_answer.jsonl are in playground/data/coco2014_val_qa_eval of\n"
        "github.com/haotian-liu/LLaVA (Apache-2.0), caps_boxes_coco2014_val_80.jsonl in its llava/eval/table; the pictures\n"
        "are COCO's val2014, from cocodataset.org (captions and boxes CC BY 4.0).\n"
        "part in-the-wild: questions.jsonl, context.jsonl, answers_gpt4.jsonl and images are the data set\n"
        "liuhaotian/llava-bench-in-the-wild on the Hugging Face hub; see its card for the licence.\n"
        "The published judge is gpt-4-0314 at temperature 0.2."
    )
    answer_texts: ClassVar[Sequence[str]] = ("content", "reply")
    forms: ClassVar[tuple[str, ...]] = (FORM, *SOURCES.values())
    fallback: ClassVar[Any] = (-1.0, -1.0)

    part: Literal["coco", "in-the-wild"]
    """Which of the two: 90 questions about 30 pictures of COCO, or 60 about 24 of any sort."""
    judging: Decoding = Decoding(temperature=0.2, max_tokens=1024)
    """How the judge picks its words."""

    def questions(self, place: Path) -> list[Question]:
        path = data_file(place, _FILES[self.part][0])
        contexts, references = self._given(path)
        return named_once(path, [self._question(place, *entry, contexts, references) for entry in records(path)])

    def _question(
        self, place: Path, where: str, record: dict[str, Any], contexts: dict[str, str], references: dict[str, str]
    ) -> Question:
        name, picture = str(field(record, "question_id", int, where)), field(record, "image", str, where)
        category = field(record, "category", str, where)
        if category not in CATEGORIES:
            raise DataError(where, f"its category is {category!r}", f"known: {', '.join(CATEGORIES)}")
        target = {"category": category, "context": contexts.get(picture), "reference": references.get(name)}
        return Question(name, picture, self.picture(place, picture), field(record, "text", str, where), target)

    def _given(self, questions: Path) -> tuple[dict[str, str], dict[str, str]]:
        """What is known of each picture, and the answer to compare with of each question; empty without the files.

        Scoring a judge's replies needs neither.
        """
        contexts, references = (questions.parent / name for name in _FILES[self.part][1:])
        described = {field(record, "image", str, where): _context(record, where) for where, record in _if_there(contexts)}
        answered = {
            str(field(record, "question_id", int, where)): field(record, "text", str, where)
            for where, record in _if_there(references)
        }
        return described, answered

    def picture(self, place: Path, name: str) -> Path:
        """The questions name COCO's pictures by their numbers; their files, as COCO has them, say more."""
        named = super().picture(place, name)
        of_coco = named.with_name(f"COCO_val2014_{name}")
        return of_coco if self.part == "coco" and of_coco.exists() else named

    def prompts(self, items: Sequence[Item], answers: Sequence[str]) -> list[str]:
        return [self._prompt(item, answer) for item, answer in zip(items, answers, strict=True)]

    def _prompt(self, item: Item, answer: str) -> str:
        target = json.loads(item.target)
        for what, file in zip(("context", "reference"), _FILES[self.part][1:], strict=True):
            if target[what] is None:
                problem = f"the judge needs the {what} of question {item.question_id}"
                raise DataError(self.data, problem, f"put {file} beside the questions")
        given = {"context": target["context"], "reference": target["reference"], "source": SOURCES[self.part]}
        return FORM.format(question=item.question, answer=answer, **given)

    def published(self, reply: str) -> tuple[float, float] | None:
        """The first line, where it is two numbers with one space or comma between them and nothing else."""
        said = reply.split("\n")[0].replace(",", " ").split(" ")
        try:
            ratings = [float(rating) for rating in said]
        except ValueError:
            return None
        # the script takes nan for a rating, and its mean is nan then
        return (ratings[0], ratings[1]) if len(ratings) == 2 and all(abs(rating) < HUGE for rating in ratings) else None

    def clean(self, reply: str) -> tuple[float, float] | None:
        first = next(iter(reply.strip().splitlines()), "")
        ratings = [float(rating) for rating in _NUMBER.findall(first)]
        return (ratings[0], ratings[1]) if len(ratings) == 2 and all(1 <= rating <= 10 for rating in ratings) else None

    def counted(self, target: dict[str, Any], value: tuple[float, float]) -> dict[str, float]:
        columns = {"rated": 1.0, "reference": value[0], "model": value[1]}
        return {f"{split} {column}": count for split in ("all", target["category"]) for column, count in columns.items()}

    def numbers(self) -> list[Metric]:
        """Relative score, rating of the model's answers and of GPT-4's: over all questions, then by category."""
        return [metric for split in ("all", *CATEGORIES) for metric in self._numbers(split, None if split == "all" else split)]

    def _numbers(self, columns: str, split: str | None) -> list[Metric]:
        rated = f"{columns} rated"

        def relative(sums: Sums) -> np.ndarray:
            return 100 * divided(self._mean(sums, columns, "model"), self._mean(sums, columns, "reference"))

        def model(sums: Sums) -> np.ndarray:
            return 10 * self._mean(sums, columns, "model")

        def reference(sums: Sums) -> np.ndarray:
            return 10 * self._mean(sums, columns, "reference")

        return [
            Metric("relative score", relative, rated, "higher", split=split, undefined=NO_REPLY),
            Metric("rating", model, rated, "higher", "of 100", split=split, undefined=NO_REPLY),
            Metric("rating of GPT-4", reference, rated, None, "of 100", split=split, undefined=NO_REPLY),
        ]

    def _mean(self, sums: Sums, columns: str, what: str) -> np.ndarray:
        """The mean rating; the original script rounds it to three decimals before it goes on."""
        mean = divided(sums[f"{columns} {what}"], sums[f"{columns} rated"])
        # Python's rounding, which is exact: NumPy's multiplies first, and breaks ties otherwise
        return np.array([round(float(value), 3) for value in mean]) if self.rule == "published" else mean


def _if_there(path: Path) -> Sequence[tuple[str, dict[str, Any]]]:
    return list(records(path)) if path.is_file() else []


def _context(record: dict[str, Any], where: str) -> str:
    """A description, or captions and the things with their boxes, as a judge reads them."""
    if "instances" not in record:
        said = record.get("caption")
        return "\n".join(map(str, said)) if isinstance(said, list) else field(record, "caption", str, where)
    things = [f"{thing['category']}: {thing['bbox']}" for thing in field(record, "instances", list, where)]
    return "\n".join(map(str, field(record, "captions", list, where))) + "\n\n" + "\n".join(things)
