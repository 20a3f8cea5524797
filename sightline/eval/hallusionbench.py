"""HallusionBench: one statement asked of a figure, of edited figures, and without any (Guan et al., 2024)."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.answer_files import Said, joined, records
from sightline.eval.compare import Metric, Score, fraction, ratio
from sightline.eval.yes_no import clean, together
from sightline.rows import Answer, Item

CHECKS = {"0": "incorrect", "1": "correct", "2": "unclear"}
"""How the published files write down what the judge said."""
Check = Literal["incorrect", "correct", "unclear"]
WHERE = ("category", "subcategory", "set_id", "figure_id", "question_id")


class HallusionBench(Benchmark):
    """Ask the same of a figure, of edited copies of it, and, where no figure is needed, without one.

    The data is HallusionBench.json, or its folder. Questions whose `visual_input` is 0 are asked without a picture.

    By the published rule an answer is what a judge replied to the benchmark's question whether the model's answer agrees with the
    reference: give the judge's replies, or the published script's hallusion_output_*.json (or the folder of them). By the clean
    rule it is the model's own answer, or HallusionBench_result.json.
    """

    origin: ClassVar[str] = (
        "HallusionBench.json is in github.com/tianyi-lab/HallusionBench (BSD 3-Clause), whose README links to its pictures,\n"
        "hallusion_bench.zip: unpack it and set pictures to that folder. The published numbers have GPT-4 for a judge."
    )
    answer_texts: ClassVar[Sequence[str]] = ("reply", "answer", "text", "response", "prediction")

    rule: Literal["published", "clean"] = "clean"
    """published: a judge's reply that has 'incorrect', or else 'correct', in it; otherwise it is unclear. clean: the model's
    answer says yes or no, and no judge is needed. By both, not knowing is right where there is no picture."""
    suffix: str = " Please answer yes or no."
    """Goes after each question. The published questions have none, for their judge reads whole sentences."""
    decoding: Decoding = Decoding(max_tokens=128)
    """How the model answers."""

    def questions(self, place: Path) -> list[Question]:
        path = place / "HallusionBench.json" if place.is_dir() else place
        rows = {}
        for where, row in records(path):
            name = _name(row, where)
            if name in rows:
                raise DataError(where, f"{name} is asked a second time", "get the file again")
            rows[name] = self._question(place, name, row, where)
        return list(rows.values())

    def _question(self, place: Path, name: str, row: Mapping[str, Any], where: str) -> Question:
        visual, truth, file = (str(row.get(key)) for key in ("visual_input", "gt_answer", "filename"))
        known = row["category"] in ("VD", "VS") and visual in ("0", "1", "2") and truth in ("0", "1")
        if not known or not isinstance(row.get("question"), str) or (visual != "0" and not row.get("filename")):
            shown = ", ".join(
                f"{key} {row.get(key)!r}" for key in ("category", "visual_input", "gt_answer", "question", "filename")
            )
            fix = "category is VD or VS, visual_input 0, 1 or 2, gt_answer 0 or 1; all but visual_input 0 have a filename"
            raise DataError(where, shown, fix)
        picture = None if visual == "0" else self.picture(place, file)
        # an edited figure and its original are not independent: a set of them is drawn as a whole
        group = "/".join(str(row[key]) for key in WHERE[:3])
        target = [*(str(row[key]) for key in WHERE), visual, "yes" if truth == "1" else "no"]
        return Question(name, group, picture, row["question"] + self.suffix, target)

    def read_answers(self, path: Path, questions: Sequence[Question]) -> list[str]:
        paths = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if "category" not in next((record for file in paths for _, record in records(file)), {}):
            return super().read_answers(path, questions)
        said = (self._said(record, where) for file in paths for where, record in records(file))
        return joined(path, said, [question.id for question in questions])

    def _said(self, record: Mapping[str, Any], where: str) -> Said:
        """An answer of the published form."""
        if self.rule == "clean":
            found = record.get("model_prediction")
        else:
            checked = next((value for key, value in record.items() if key.endswith("_gpt_check")), None)
            found = CHECKS.get(str(checked))
        if not isinstance(found, str):
            wanted = "model_prediction" if self.rule == "clean" else "..._gpt_check of 0, 1 or 2"
            raise DataError(where, f"no {wanted}", "give answers for rule clean, what the judge made of them for rule published")
        return Said(_name(record, where), found, where)

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        targets = [json.loads(item.target) for item in items]
        judged = [published(answer.text) for answer in answers]
        own = [_clean(answer.text, target[-1]) for answer, target in zip(answers, targets, strict=True)]
        read, other = (judged, own) if self.rule == "published" else (own, judged)
        _refuse_other_rule(self.title, self.rule, read, other)
        right = [
            check == "correct" or (check == "unclear" and _is_without_figure(target))
            for (check, _), target in zip(read, targets, strict=True)
        ]
        return [
            Score(item.id, item.group, counts, guessed)
            for item, counts, (_, guessed) in zip(items, _counts(targets, right), read, strict=True)
        ]

    def metrics(self) -> list[Metric]:
        """Over all questions, then over those that depend on a figure (VD), and those that it only supplements (VS)."""
        return [metric for name in ("all", "VD", "VS") for metric in _metrics(name, None if name == "all" else name)]


def published(text: str) -> tuple[Check, bool]:
    """What the original script makes of a judge's reply, to the letter, and whether the reply gave it nothing to go by."""
    said = text.lower()
    if "correct" in said:
        return ("incorrect" if "incorrect" in said else "correct"), False
    return "unclear", "unclear" not in said


def _clean(text: str, truth: str) -> tuple[Check, bool]:
    """Whether the answer agrees with the truth; one that says neither yes nor no is unclear, and saying nothing is wrong."""
    verdict, guessed = clean(text)
    if verdict is None and text.strip():
        return "unclear", guessed
    return ("correct" if verdict == truth else "incorrect"), guessed


def _refuse_other_rule(title: str, rule: str, read: Sequence[tuple[Check, bool]], other: Sequence[tuple[Check, bool]]) -> None:
    """DataError where the other rule reads more of the answers, and this one less than half: they are no answers for it."""
    num_read, num_other = (sum(not guessed for _, guessed in found) for found in (read, other))
    if 2 * num_read < len(read) and num_other > num_read:
        problem = f"rule {rule} can read {num_read} of these {len(read)} answers, the other rule {num_other}"
        raise DataError(title, problem, "rule published reads a judge's replies, rule clean the model's own answers")


def _name(row: Mapping[str, Any], where: str) -> str:
    missing = [key for key in WHERE if key not in row]
    if missing:
        raise DataError(where, f"no {missing[0]}", f"a question is known by {', '.join(WHERE)}")
    return "_".join(str(row[key]) for key in WHERE)


def _is_without_figure(target: Sequence[str]) -> bool:
    category, _, _, figure, *_ = target
    return category == "VS" and figure == "0"


def _counts(targets: Sequence[Sequence[str]], right: Sequence[bool]) -> Iterator[dict[str, float]]:
    """What each question adds. A pair is a question over all its figures, a figure all that is asked of it; easy and hard pairs
    are those parts of a pair whose figures are as they were found (or not shown), and edited.
    """
    pairs = [(category, sub, number, question) for category, sub, number, _, question, *_ in targets]
    is_hard = [visual == "2" for *_, visual, _ in targets]
    sets: dict[str, Sequence[Hashable | None]] = {
        "pair": pairs,
        "figure": [None if _is_without_figure(target) else tuple(target[:4]) for target in targets],
        "easy": [None if hard else pair for pair, hard in zip(pairs, is_hard, strict=True)],
        "hard": [pair if hard else None for pair, hard in zip(pairs, is_hard, strict=True)],
    }
    counted = {name: list(together(keys, right)) for name, keys in sets.items()}
    for place, (target, is_right) in enumerate(zip(targets, right, strict=True)):
        true_yes = target[-1] == "yes"
        counts = {
            "asked": 1,
            "right": is_right,
            "yes too many": (true_yes == is_right) - true_yes,
            "wrong": not is_right,
            "false yes": not is_right and not true_yes,
        } | {f"{name} {column}": count for name, found in counted.items() for column, count in found[place].items()}
        yield {f"{part} {column}": count for part in ("all", target[0]) for column, count in counts.items()}


def _metrics(part: str, split: str | None) -> Iterator[Metric]:
    asked = f"{part} asked"
    yield fraction("aAcc", f"{part} right", asked, asked, "higher", split=split, is_outcome=True)
    for name, sets in (("fAcc", "figure"), ("qAcc", "pair"), ("easy aAcc", "easy"), ("hard aAcc", "hard")):
        whole = f"{part} {sets} sets"
        yield fraction(name, f"{part} {sets} whole", whole, whole, "higher", split=split)
    yield ratio("yes bias", f"{part} yes too many", asked, asked, None, split=split)
    wrong = f"{part} wrong"
    yield fraction("false yes", f"{part} false yes", wrong, asked, None, split=split, undefined="no answer is wrong")
