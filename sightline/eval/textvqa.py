"""TextVQA: short answers to questions about the text in pictures (Singh et al., 2019)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.answer_files import Said, records, refuse_other_questions
from sightline.eval.compare import Metric, Score, fraction
from sightline.eval.data_files import entry, only_file, read_json
from sightline.eval.short_answers import accuracy, textvqa_form, vqa_form
from sightline.rows import Answer, Item


class TextVqa(Benchmark):
    """Ask about the text in a picture, and count how many of ten people said the same.

    The data is a file in TextVQA's form, such as TextVQA_0.5.1_val.json, or the folder with it; a picture is its image_id.jpg.
    Answers come with a question_id each; or as LLaVA writes them: question_id is the picture's, and `prompt` has the question.
    """

    origin: ClassVar[str] = (
        "TextVQA_0.5.1_val.json, the pictures, and TextVQA_Rosetta_OCR_v0.2_val.json (OCR tokens) are at textvqa.org (CC BY 4.0)."
    )

    rule: Literal["published", "clean"] = "published"
    """published: answers are made alike as by TextVQA's processor (Pythia's, which LLaVA runs). clean: as by VQA's toolkit."""
    ocr: str = Field("", pattern=r"^$|\{tokens\}")
    """Goes after the question, with the picture's OCR tokens for {tokens}; none where it is empty. LLaVA's is, on a line of its
    own, 'Reference OCR token: {tokens}'. Numbers with and without it are of two different benchmarks."""
    suffix: str = "\nAnswer with a single word or a short phrase."
    """Goes after each question; LLaVA's is, on a line of its own, 'Answer the question using a single word or phrase.'"""
    decoding: Decoding = Decoding(max_tokens=32)
    """How the model answers."""

    def questions(self, place: Path) -> list[Question]:
        path = only_file(place, "*TextVQA_[0-9]*val*.json")
        tokens = _ocr_tokens(path) if self.ocr else {}
        found: dict[str, Question] = {}
        for number, row in enumerate(entry(read_json(path), "data", list, str(path)), 1):
            where = f"{path}, question {number}"
            name, image = str(entry(row, "question_id", int, where)), entry(row, "image_id", str, where)
            asked, answers = entry(row, "question", str, where), entry(row, "answers", list, where)
            if name in found or not answers or not all(isinstance(answer, str) for answer in answers):
                problem = f"question {name} {'comes a second time' if name in found else 'has no answers that are text'}"
                raise DataError(where, problem, "give a split whose answers are public: train or val")
            if self.ocr and image not in tokens:
                raise DataError(where, f"no OCR tokens of picture {image}", "give the file of OCR tokens of this split")
            text = asked + self.ocr.replace("{tokens}", ", ".join(map(str, tokens.get(image, ())))) + self.suffix
            target = {"question": asked, "answers": answers}
            found[name] = Question(name, image, self.picture(place, f"{image}.jpg"), text, target)
        return list(found.values())

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        form = textvqa_form if self.rule == "published" else vqa_form
        found = []
        for item, answer in zip(items, answers, strict=True):
            people = json.loads(item.target)["answers"]
            worth = accuracy(form(answer.text), [form(said) for said in people])
            found.append(Score(item.id, item.group, {"asked": 1, "worth": worth}))
        return found

    def metrics(self) -> list[Metric]:
        """One number; where the prompt has OCR tokens it says so."""
        name = "accuracy (OCR tokens in the prompt)" if self.ocr else "accuracy"
        return [fraction(name, "worth", "asked", "asked", "higher")]

    def read_answers(self, path: Path, questions: Sequence[Question]) -> list[str]:
        pictures = defaultdict(list)
        for question in questions:
            pictures[question.group].append(question)
        first = next(records(path), ("", {}))[1]
        if not ("prompt" in first and str(first.get("question_id")) in pictures):
            return super().read_answers(path, questions)
        said: dict[str, Said] = {}
        for where, record in records(path):
            image, prompt = str(entry(record, "question_id", (str, int), where)), entry(record, "prompt", str, where)
            asked = [question.id for question in pictures.get(image, ()) if _asks(prompt, question) and question.id not in said]
            if not asked:
                problem = f"its prompt has no question about picture {image} that is not answered yet"
                raise DataError(where, problem, "give the data that was answered")
            said[asked[0]] = Said(asked[0], entry(record, "text", str, where), where)
        refuse_other_questions(path, said, [question.id for question in questions])
        return [said[question.id].text for question in questions]


def _asks(prompt: str, question: Question) -> bool:
    """Whether the prompt has the question on a line of its own, or where LLaVA's first form had it."""
    asked = question.target["question"].lower()
    return asked in prompt.lower().split("\n") or f"question: {asked} short answer:" in prompt.lower()


def _ocr_tokens(asked: Path) -> Mapping[str, list[str]]:
    """OCR tokens by picture, from the file beside the questions that is of the same split."""
    path = only_file(asked.parent, f"*OCR*{asked.stem.rpartition('_')[2]}.json")
    rows = [(f"{path}, picture {number}", row) for number, row in enumerate(entry(read_json(path), "data", list, str(path)), 1)]
    return {entry(row, "image_id", str, where): entry(row, "ocr_tokens", list, where) for where, row in rows}
