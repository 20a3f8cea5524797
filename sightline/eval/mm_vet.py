"""MM-Vet: open questions that need several skills at once, each answer rated 0 to 1 (Yu et al., 2023, arXiv 2308.02490)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Question
from sightline.eval.answer_files import Said, joined, read_text, records
from sightline.eval.compare import Metric, ratio
from sightline.eval.judged import NO_REPLY, Rated, data_file, field, named_once
from sightline.rows import Item

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
"""Recognition, text in the picture, knowledge, writing, space, arithmetic."""
_NUMBER = re.compile(r"(?<![\w.,/-])-?(?:\d+(?:\.\d+)?|\.\d+)(?![\w%/-]|[.,]\d)")

FORM = """\
Rate how right a model's prediction is, given the true answer: a number from 0.0 (nothing is right) to 1.0 (all is right), in
steps of 0.1. Where the truth has parts joined by <AND>, the prediction needs all of them to be all right; where it has parts
joined by <OR>, one of them is enough. Fill in the last cell of the last row, with a number and nothing else.

Question | Truth | Prediction | Rating
--- | --- | --- | ---
What are the two roots? | 2 <AND> 7 | The root is 4. | 0.0
What are the two roots? | 2 <AND> 7 | x is 2 | 0.5
What are the two roots? | 2 <AND> 7 | 7 or maybe 3 | 0.5
What are the two roots? | 2 <AND> 7 | x = 2 and x = 7 | 1.0
What stands beside the bed? | lamp <OR> night light | There is a night light next to it. | 1.0
Why is the sign odd? | Its letters ask people to be quiet, but are so large that they shout: look and words disagree. | \
The sign has large letters. | 0.4
Why is the sign odd? | Its letters ask people to be quiet, but are so large that they shout: look and words disagree. | \
A plea for silence is printed so big that it seems to shout: form and message contradict each other. | 1.0
{question} | {truth} | {answer} | """
AGAIN = "\nWrite the rating of the last row, a number from 0.0 to 1.0: "


class MMVet(Rated):
    """Ask open questions that need several skills at once, and have a judge without eyes compare each answer with the true one.

    The data is mm-vet.json: id -> imagename, question, answer and capability. The published number is the mean of five runs of
    the judge (repeats: 5) with their spread. Where the judge's reply is no number it is asked up to four times more, at last
    with a temperature of 1.5, before the answer gets 0, as by the original script (which asks a fifth time, and does not read
    that). To score a judge's replies, give id -> reply, or the file of grades that the original script writes, of one run.
    """

    origin: ClassVar[str] = (
        "mm-vet.zip (mm-vet.json and images) is in release v1 of github.com/yuweihao/MM-Vet: data under CC BY-NC 4.0.\n"
        "The published judge is gpt-4-0613."
    )
    answer_texts: ClassVar[Sequence[str]] = ("reply", "text")
    forms: ClassVar[tuple[str, ...]] = (FORM, AGAIN)
    retries: ClassVar[Sequence[float]] = (0.0, 0.5, 1.0, 1.5)
    retry_form: ClassVar[str] = AGAIN
    fallback: ClassVar[Any] = 0.0

    judging: Decoding = Decoding(max_tokens=3)
    """How the judge picks its words; a rating is all that it has to say."""

    def questions(self, place: Path) -> list[Question]:
        path = data_file(place, "mm-vet.json")
        return named_once(path, [self._question(place, where, record) for where, record in records(path)])

    def _question(self, place: Path, where: str, entry: dict[str, Any]) -> Question:
        name, record = field(entry, "id", str, where), field(entry, "text", dict, where)
        capabilities = field(record, "capability", list, where)
        unknown = [capability for capability in capabilities if capability not in CAPABILITIES]
        if unknown or not capabilities:
            problem = f"its capability is {', '.join(map(str, unknown)) or 'empty'}"
            raise DataError(where, problem, f"known: {', '.join(CAPABILITIES)}; MM-Vet v2 is another benchmark")
        picture = field(record, "imagename", str, where)
        target = {"truth": field(record, "answer", str, where), "capabilities": sorted(set(capabilities), key=CAPABILITIES.index)}
        return Question(name, picture, self.picture(place, picture), field(record, "question", str, where), target)

    def prompts(self, items: Sequence[Item], answers: Sequence[str]) -> list[str]:
        return [_prompt(item, answer) for item, answer in zip(items, answers, strict=True)]

    def published(self, reply: str) -> float | None:
        """The first word as Python reads numbers, if it lies from 0 to 1. Python also reads 'nan', which is none here."""
        try:
            rating = float(reply.split(" ")[0].strip())
        except ValueError:
            return None
        return rating if 0.0 <= rating <= 1.0 else None

    def clean(self, reply: str) -> float | None:
        found = {float(number) for number in _NUMBER.findall(reply)}
        rating = found.pop() if len(found) == 1 else math.nan
        return rating if 0.0 <= rating <= 1.0 else None

    def counted(self, target: dict[str, Any], value: float) -> dict[str, float]:
        needed = target["capabilities"]
        counts: dict[str, float] = {"rated": 1, "rating": value}
        for split in {*needed, _only(needed)}:
            counts |= {f"{split} rated": 1, f"{split} rating": value}
        return counts

    def numbers(self) -> list[Metric]:
        """The total, then by capability, then by what a question needs and nothing else."""
        sets = [_only(needed) for size in range(1, len(CAPABILITIES) + 1) for needed in combinations(CAPABILITIES, size)]
        return [
            ratio("score", "rating", "rated", "rated", "higher", undefined=NO_REPLY),
            *(
                ratio("score", f"{split} rating", f"{split} rated", f"{split} rated", "higher", split=split, undefined=NO_REPLY)
                for split in (*CAPABILITIES, *sets)
            ),
        ]

    def read_answers(self, path: Path, questions: Sequence[Question]) -> list[str]:
        if path.suffix == ".json" and '"content"' in read_text(path):
            return _of_grades(path, questions)
        return super().read_answers(path, questions)


def _only(capabilities: Sequence[str]) -> str:
    return "only " + "+".join(capabilities)


def _of_grades(path: Path, questions: Sequence[Question]) -> list[str]:
    """The judge's words in the original script's file of grades, of one run."""
    return joined(path, (_grade(*entry) for entry in records(path)), [question.id for question in questions])


def _grade(where: str, entry: dict[str, Any]) -> Said:
    contents = field(field(entry, "text", dict, where), "content", list, where)
    if len(contents) != 1 or not isinstance(contents[0], str):
        raise DataError(where, f"{len(contents)} runs of the judge, or no text", "give the grades of one run (--num_run 1)")
    return Said(field(entry, "id", str, where), contents[0], where)


def _prompt(item: Item, answer: str) -> str:
    truth = json.loads(item.target)["truth"].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    return FORM.format(question=item.question, truth=truth, answer=answer)
