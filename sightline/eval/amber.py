"""AMBER: descriptions and yes/no questions about the same pictures (Wang et al., 2023)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.amber_words import Clean, Found, Nouns, Published, Similarity, Words, nltk_nouns, spacy_similarity
from sightline.eval.answer_files import records
from sightline.eval.compare import Better, Metric, Score, Sums, divided
from sightline.eval.yes_no import clean
from sightline.rows import Answer, Item
from sightline.store.address import digest_file

GENERATIVE = "generative"
DIMENSIONS = {
    "discriminative-hallucination": ("existence",),
    "discriminative-attribute-state": ("state", "attribute"),
    "discriminative-attribute-number": ("number", "attribute"),
    "discriminative-attribute-action": ("action", "attribute"),
    "discriminative-relation": ("relation",),
    "relation": ("relation",),
}
"""Types of questions, as the annotations have them, and the dimensions that they count in."""
SPLITS = ("existence", "attribute", "state", "number", "action", "relation")

SLACK = 0.001  # what each of the original's sums to divide by starts from
SILENT = "no answer mentions an object"

Value = Callable[[Sums], np.ndarray]


class Amber(Benchmark):
    """Ask for a description, and yes/no questions about what exists in the picture, how it is, and how it is related.

    The data is the repository's folder data: annotations.json, relation.json, safe_words.txt and query/query_all.json. One of the
    query files, such as query/query_generative.json, asks its questions alone.

    The published rule finds nouns by NLTK's tagger and near words by spaCy's en_core_web_lg, which must be installed for the
    descriptions. A subclass that brings other models overrides `nouns` and `similarity`.
    """

    origin: ClassVar[str] = (
        "The folder data of github.com/junyangwang0410/AMBER (Apache-2.0), whose README links to the pictures. For descriptions\n"
        "the published rule needs `pip install spacy nltk`, `python -m spacy download en_core_web_lg`, and NLTK's punkt_tab,\n"
        "averaged_perceptron_tagger_eng and wordnet."
    )

    rule: Literal["published", "clean"] = "published"
    """published: an answer is exactly 'Yes' or 'No'; a noun of relation.json is right if it is, goes with or is near to a word of
    the annotation; sums start at 0.001. clean: an answer says yes or no; words of relation.json count whatever their part of
    speech, plurals as their singular, and are right if they are in the annotation or go with a word of it; sums start at 0."""
    suffix: str = ""
    """Goes after each yes/no question; without one such as ' Please answer with Yes or No.' many models answer in sentences,
    which the published rule cannot read."""
    decoding: Decoding = Decoding(max_tokens=512)
    """How the model answers. Longer descriptions hallucinate more: compare at one length limit only."""

    def nouns(self) -> Nouns:
        """What finds the nouns of a text, as their lemmas, in order."""
        return nltk_nouns()

    def similarity(self) -> Similarity:
        """What says how near two words are in meaning, 1 for the same."""
        return spacy_similarity()

    def questions(self, place: Path) -> list[Question]:
        queries, folder = _files(place)
        words = Words.read(folder)
        known = records(folder / "annotations.json")
        annotations = {str(record.get("id")): _checked(record, words, where) for where, record in known}
        asked = [self._question(place, record, annotations, where) for where, record in records(queries)]
        if self.rule == "published" and any(question.target[0] == GENERATIVE for question in asked):
            # a model that is missing is told before hours of answering, not after
            self.nouns()
            self.similarity()
        return asked

    def _question(self, place: Path, record: Mapping[str, Any], annotations: Mapping[str, list[Any]], where: str) -> Question:
        name, image, text = (record.get(key) for key in ("id", "image", "query"))
        if not isinstance(image, str) or not isinstance(text, str):
            raise DataError(where, f"image {image!r}, query {text!r}", "a question is {id, image, query}")
        if str(name) not in annotations:
            raise DataError(where, f"annotations.json has no id {name}", "use files of one version")
        target = annotations[str(name)]
        suffix = "" if target[0] == GENERATIVE else self.suffix
        return Question(str(name), image, self.picture(place, image), text + suffix, target)

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        # the models, where anything is described
        describe = cache(lambda: self._description(Words.read(_files(place)[1])))
        scores = []
        for item, answer in zip(items, answers, strict=True):
            kind, *target = json.loads(item.target)
            if kind == GENERATIVE:
                found = describe()(answer.text, *target)
                scores.append(Score(item.id, item.group, found.counts(), found.guessed, found.wrong, tuple(target[0])))
            else:
                counts, guessed = self._answered(answer.text, kind, *target)
                scores.append(Score(item.id, item.group, counts, guessed))
        return scores

    def _description(self, words: Words) -> Callable[[str, list[str], list[str]], Found]:
        if self.rule == "published":
            return Published(words, self.nouns(), cache(self.similarity()))
        return Clean(words)

    def _answered(self, text: str, kind: str, truth: str) -> tuple[dict[str, float], bool]:
        if self.rule == "published":
            verdict = {"Yes": "yes", "No": "no"}.get(text)
            guessed = verdict is None
        else:
            verdict, guessed = clean(text)
        says_no, is_no = verdict == "no", truth == "no"
        counts = {"asked": 1, "right": verdict == truth, "no": is_no, "says no": says_no, "hit": says_no and is_no}
        return {f"{name} {column}": count for name in ("all", *DIMENSIONS[kind]) for column, count in counts.items()}, guessed

    def terms(self, place: Path) -> dict[str, Any]:
        folder = _files(place)[1]
        return {**super().terms(place), **{name: digest_file(folder / name) for name in ("relation.json", "safe_words.txt")}}

    def metrics(self) -> list[Metric]:
        """The AMBER score, then the numbers of descriptions, then those of all yes/no questions and of each dimension."""
        slack = SLACK if self.rule == "published" else 0
        undefined = "it needs descriptions that name objects, and yes/no answers with an F1"
        whole: dict[str, Any] = {"unit": "points", "needs": "all asked", "undefined": undefined}
        score = Metric("AMBER score", _amber_score(slack), "described", "higher", **whole)
        # the original adds up the three kinds of attributes, each with its own start
        slacks = {name: 3 * slack if name == "attribute" else slack for name in ("all", *SPLITS)}
        return [score, *_descriptions(slack), *(metric for name in slacks for metric in _answers(name, slacks[name]))]


def _files(place: Path) -> tuple[Path, Path]:
    """The file of questions, and the folder of the annotations."""
    if place.is_file():
        folders = [folder for folder in (place.parent, place.parent.parent) if (folder / "annotations.json").is_file()]
        if not folders:
            raise DataError(str(place), "no annotations.json beside or above it", "keep AMBER's folder data together")
        return place, folders[0]
    queries = place / "query" / "query_all.json"
    return (queries if queries.is_file() else place / "query_all.json"), place


def _checked(record: Mapping[str, Any], words: Words, where: str) -> list[Any]:
    """A question's target, [type, truth] or [type, truth, hallu]; DataError where the annotation is not AMBER's."""
    kind, truth, hallu = (record.get(key) for key in ("type", "truth", "hallu"))
    if kind == GENERATIVE:
        for name, listed in (("truth", truth), ("hallu", hallu)):
            unknown = [word for word in listed if word not in words.association] if isinstance(listed, list) else [listed]
            if unknown:
                raise DataError(where, f"{name}: {unknown[0]!r} is not in relation.json", "use files of one version")
        return [kind, truth, hallu]
    if kind not in DIMENSIONS:
        raise DataError(where, f"type {kind!r}", f"AMBER's are {GENERATIVE}, {', '.join(DIMENSIONS)}")
    if truth not in ("yes", "no"):
        raise DataError(where, f"truth {truth!r}", "it is yes or no, in lower case: get the file again")
    return [kind, truth]


def _descriptions(slack: float) -> list[Metric]:
    faultless = _share("faultless", "described", slack)
    # the original has numbers for a model that says nothing; ours has none where no description names an object
    said: dict[str, Any] = {"undefined": SILENT, "needs": "described" if slack else "mentions"}
    no_object, no_idea = "no picture has an object", "no picture has an object that is easily imagined"
    return [
        _metric("CHAIR", "hallucinated", "mentions", "described", "lower", slack, **said),
        _metric("Cover", "covered", "truth", "described", "higher", slack, undefined=no_object),
        Metric(
            "Hal",
            lambda sums: 100 - faultless(sums),
            "described",
            "lower",
            fraction=("flawed", "described"),
            is_outcome=True,
            **said,
        ),
        _metric("Cog", "imagined", "imaginable", "described", "lower", slack, undefined=no_idea),
    ]


def _answers(name: str, slack: float) -> list[Metric]:
    """The numbers of a dimension, or of all; what they look for is a No."""
    asked, right, hit, says_no, no = (f"{name} {column}" for column in ("asked", "right", "hit", "says no", "no"))
    split, of = (None, " (yes/no)") if name == "all" else (name, "")
    no_no, no_false = "no answer was read as no", "no question has no for its answer"
    accuracy = Metric(
        f"accuracy{of}",
        _share(right, asked, slack),
        asked,
        "higher",
        split=split,
        fraction=(right, asked),
        is_outcome=True,
        needs=asked,
    )
    f1 = Metric(f"F1{of}", _f1(name, slack), asked, "higher", split=split, needs=asked, undefined=f"{no_no}, or {no_false}")
    return [
        accuracy,
        f1,
        _metric(f"precision{of}", hit, says_no, asked, "higher", slack, split=split, undefined=no_no),
        _metric(f"recall{of}", hit, no, asked, "higher", slack, split=split, undefined=no_false),
    ]


def _metric(name: str, part: str, whole: str, items: str, better: Better, slack: float, **more: Any) -> Metric:
    """Share in %; with slack it is a number where there is nothing to divide by, and no fraction."""
    exact = None if slack else (part, whole)
    return Metric(name, _share(part, whole, slack), items, better, fraction=exact, **{"needs": items, **more})


def _share(part: str, whole: str, slack: float) -> Value:
    return lambda sums: divided(sums[part], sums[whole] + slack) * 100


def _f1(name: str, slack: float) -> Value:
    """In %. The original's is of precision and recall after their rounding, and has a small number below its line."""
    hit, says_no, no = f"{name} hit", f"{name} says no", f"{name} no"
    if not slack:
        return lambda sums: (
            200 * divided(sums[hit], np.where((sums[says_no] == 0) | (sums[no] == 0), 0, sums[says_no] + sums[no]))
        )
    shares, below = (_share(hit, says_no, slack), _share(hit, no, slack)), 0.001 if name == "existence" else 0.0001

    def f1(sums: Sums) -> np.ndarray:
        precision, recall = (_rounded(share(sums)) / 100 for share in shares)
        return 2 * precision * recall / (precision + recall + below) * 100

    return f1


def _amber_score(slack: float) -> Value:
    """(100 - CHAIR + F1) / 2 (the paper's; the script does not print it), by the published rule of the printed numbers."""
    chair, f1 = _share("hallucinated", "mentions", slack), _f1("all", slack)
    given = _rounded if slack else np.asarray
    return lambda sums: (100 - given(chair(sums)) + given(f1(sums))) / 2


def _rounded(values: np.ndarray) -> np.ndarray:
    """To one decimal as Python's round does it, which differs from NumPy's where a value is near the middle."""
    return np.array([round(float(value), 1) for value in values])
