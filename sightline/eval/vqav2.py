"""VQAv2: short answers to questions about pictures, against those of ten people (Goyal et al., 2017)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.compare import Metric, Score, fraction
from sightline.eval.data_files import entry, only_file, read_json
from sightline.eval.short_answers import accuracy, on_one_line, vqa_form
from sightline.rows import Answer, Item

ANSWER_TYPES = ("yes/no", "number", "other")


class VqaV2(Benchmark):
    """Ask for a word or a phrase, and count how many of ten people said the same.

    The data folder holds one file of questions and one of annotations, in VQA's form, such as
    v2_OpenEnded_mscoco_val2014_questions.json and v2_mscoco_val2014_annotations.json. Of the test splits no answers are public:
    their numbers come from VQA's server, and are not to be compared with these.
    """

    origin: ClassVar[str] = (
        "v2_OpenEnded_mscoco_val2014_questions.json and v2_mscoco_val2014_annotations.json are at visualqa.org (CC BY 4.0).\n"
        "Their pictures are COCO's val2014, from cocodataset.org."
    )

    rule: Literal["published", "clean"] = "published"
    """published: as VQA's toolkit, which makes answers alike only where the ten are not all the same: there 'Yes' is no 'yes'.
    clean: always."""
    suffix: str = "\nAnswer with a single word or a short phrase."
    """Goes after each question; LLaVA's is, on a line of its own, 'Answer the question using a single word or phrase.'"""
    decoding: Decoding = Decoding(max_tokens=32)
    """How the model answers."""

    def questions(self, place: Path) -> list[Question]:
        asked, annotated = only_file(place, "*questions*.json"), only_file(place, "*annotations*.json")
        if asked == annotated:
            raise DataError(str(place), "VQAv2 is two files", "give the folder with the questions and the annotations")
        content = read_json(asked)
        subset, rows = entry(content, "data_subtype", str, str(asked)), entry(content, "questions", list, str(asked))
        targets = _targets(annotated)
        found = []
        for number, row in enumerate(rows, 1):
            where = f"{asked}, question {number}"
            name, image = str(entry(row, "question_id", int, where)), entry(row, "image_id", int, where)
            if name not in targets:
                raise DataError(where, f"{annotated.name} has no answers to {name}, or it comes twice", "give files of one split")
            picture = f"COCO_{subset}_{image:012d}.jpg"
            text = entry(row, "question", str, where) + self.suffix
            found.append(Question(name, picture, self.picture(place, picture), text, targets.pop(name)))
        if targets:
            problem = f"{len(targets)} of its questions are not in {asked.name}, the first {next(iter(targets))}"
            raise DataError(str(annotated), problem, "give files of one split")
        return found

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        return [self._score(item, answer.text) for item, answer in zip(items, answers, strict=True)]

    def _score(self, item: Item, text: str) -> Score:
        target = json.loads(item.target)
        said, answers = on_one_line(text), [on_one_line(answer) for answer in target["answers"]]
        is_raw = self.rule == "published" and len(set(answers)) == 1
        if not is_raw:
            said, answers = vqa_form(said), [vqa_form(answer) for answer in answers]
        worth = accuracy(said, answers)
        counts: dict[str, float] = {}
        for kind in ("all", target["type"]):
            counts |= {f"{kind} asked": 1, f"{kind} worth": worth}
        # the toolkit did not look at what differs in form only
        guessed = is_raw and said != answers[0] and vqa_form(said) == vqa_form(answers[0])
        return Score(item.id, item.group, counts, guessed)

    def metrics(self) -> list[Metric]:
        """Over all questions, then by the type of their answer."""
        return [_accuracy("all", None), *(_accuracy(kind, kind) for kind in ANSWER_TYPES)]


def _accuracy(columns: str, split: str | None) -> Metric:
    return fraction("accuracy", f"{columns} worth", f"{columns} asked", f"{columns} asked", "higher", split=split)


def _targets(path: Path) -> dict[str, dict[str, Any]]:
    """Answers, and their type, by question; DataError where there is none."""
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(entry(read_json(path), "annotations", list, str(path)), 1):
        where = f"{path}, annotation {number}"
        name, kind = str(entry(row, "question_id", int, where)), entry(row, "answer_type", str, where)
        answers = [entry(answer, "answer", str, where) for answer in entry(row, "answers", list, where)]
        if kind not in ANSWER_TYPES:
            raise DataError(where, f"answer_type {kind!r}", f"known: {', '.join(ANSWER_TYPES)}")
        if not answers or name in found:
            problem = f"question {name} has no answers" if not answers else f"question {name} comes a second time"
            raise DataError(where, problem, "fetch the file again")
        found[name] = {"answers": answers, "type": kind}
    return found
