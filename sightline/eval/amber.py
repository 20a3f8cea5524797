"""AMBER: descriptions and yes/no questions about the same pictures (Wang et al., 2023)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.engines.roles import Decoding
from sightline.errors import DataError, MissingPackage
from sightline.eval import Benchmark, Question
from sightline.eval.answer_files import read_json, read_text, records
from sightline.eval.compare import Metric, Score, Sums, divided
from sightline.eval.vocabulary import Vocabulary
from sightline.eval.yes_no import clean
from sightline.plugin import need
from sightline.rows import Answer, Item

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

NEAR = 0.8  # similarity above which two words name the same thing, by the published rule
SLACK = 0.001  # what each of the original's sums to divide by starts from
SILENT = "no answer mentions an object"

Nouns = Callable[[str], list[str]]
Similarity = Callable[[str, str], float]
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
        return _nltk_nouns()

    def similarity(self) -> Similarity:
        """What says how near two words are in meaning, 1 for the same."""
        return _spacy_similarity()

    def questions(self, place: Path) -> list[Question]:
        queries, folder = _files(place)
        words = Words.read(folder)
        annotations = {
            str(record.get("id")): _checked(record, words, where) for where, record in records(folder / "annotations.json")
        }
        asked = [_question(self, place, record, annotations, where) for where, record in records(queries)]
        if self.rule == "published" and any(question.target[0] == GENERATIVE for question in asked):
            # before a model answers for hours, not after
            self.nouns(), self.similarity()
        return asked

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        describe = cache(lambda: self._described(Words.read(_files(place)[1])))
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

    def _described(self, words: Words) -> Callable[[str, list[str], list[str]], Found]:
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

    def metrics(self) -> list[Metric]:
        """The AMBER score, then the numbers of descriptions, then those of all yes/no questions and of each dimension."""
        is_published = self.rule == "published"
        undefined = "it needs descriptions that name objects, and yes/no answers with an F1"
        whole: dict[str, Any] = {"unit": "points", "needs": "all asked", "undefined": undefined}
        score = Metric("AMBER score", _amber_score(is_published), "described", "higher", **whole)
        answered = [metric for name in ("all", *SPLITS) for metric in _answers(name, is_published)]
        return [score, *_descriptions(is_published), *answered]


@dataclass(frozen=True)
class Words:
    """The words that count: what goes with each object, and what is never counted."""

    association: Mapping[str, list[str]]
    safe: frozenset[str]

    @classmethod
    def read(cls, folder: Path) -> Words:
        path = folder / "relation.json"
        association = read_json(path)
        if not isinstance(association, dict) or not all(isinstance(words, list) for words in association.values()):
            raise DataError(str(path), "this is no mapping of words to lists of words", "get AMBER's relation.json")
        return cls(association, frozenset(read_text(folder / "safe_words.txt").replace("\r", "").split("\n")))

    def all(self) -> set[str]:
        return {*self.association, *(word for words in self.association.values() for word in words)}

    def around(self, objects: Sequence[str]) -> list[tuple[str, int]]:
        """Each word that goes with an object, then the objects themselves, with the object's place: the original's order."""
        associated = [(word, place) for place, name in enumerate(objects) for word in self.association[name]]
        return associated + [(name, place) for place, name in enumerate(objects)]


@dataclass(frozen=True)
class Found:
    """What a description names: all words that count, the `wrong` ones, how many of the objects that are there it covers, and how
    many that are easily imagined.
    """

    mentions: int
    wrong: tuple[str, ...]
    covered: int
    num_truth: int
    imagined: int
    num_imaginable: int
    guessed: bool

    def counts(self) -> dict[str, float]:
        return {
            "described": 1,
            "mentions": self.mentions,
            "hallucinated": len(self.wrong),
            "faultless": not self.wrong,
            "flawed": bool(self.wrong),
            "truth": self.num_truth,
            "covered": self.covered,
            "imaginable": self.num_imaginable,
            "imagined": self.imagined,
        }


class Published:
    """The original's reading of a description: the first entry that matches takes the credit, a near word is as good as the word.

    It guessed where only similarity, or nothing, spoke for a noun.
    """

    def __init__(self, words: Words, nouns: Nouns, similarity: Similarity) -> None:
        self.words, self.nouns, self.similarity = words, nouns, similarity
        self.vocabulary = words.all()

    def __call__(self, text: str, truth: list[str], hallu: list[str]) -> Found:
        there, thought = self.words.around(truth), self.words.around(hallu)
        covered, imagined, wrong, guessed = set(), set(), [], False
        mentions = [noun for noun in self.nouns(text) if noun in self.vocabulary]
        for noun in (noun for noun in mentions if noun not in self.words.safe):
            if (place := _same(noun, there)) is not None:
                covered.add(place)
                continue
            exact = _same(noun, thought)
            imagined |= {exact, self._near(noun, thought)} - {None}
            near = self._near(noun, there)
            guessed = guessed or exact is None or near is not None
            if near is None:
                wrong.append(noun)
            else:
                covered.add(near)
        return Found(len(mentions), tuple(wrong), len(covered), len(truth), len(imagined), len(hallu), guessed)

    def _near(self, noun: str, words: Sequence[tuple[str, int]]) -> int | None:
        return next((place for word, place in words if self.similarity(noun, word) > NEAR), None)


class Clean:
    """Our reading of a description, by AMBER's words alone: a word credits the object it names, or else all that it goes with.

    It guessed where a word is neither in the picture nor among those that are thought to be.
    """

    def __init__(self, words: Words) -> None:
        self.vocabulary = Vocabulary([word] for word in sorted(words.all()))
        self.safe = {self.vocabulary.object(word) for word in words.safe}
        self.association = {self._name(name): {self._name(word) for word in near} for name, near in words.association.items()}

    def __call__(self, text: str, truth: list[str], hallu: list[str]) -> Found:
        there, thought = ({self._name(word) for word in listed} for listed in (truth, hallu))
        covered, imagined, wrong, guessed = set[str](), set[str](), [], False
        mentions = self.vocabulary.mentions(text)
        for mention in (mention for mention in mentions if mention.name not in self.safe):
            right = self._credited(mention.name, there)
            covered |= right
            if not right:
                known = self._credited(mention.name, thought)
                imagined |= known
                guessed = guessed or not known
                wrong.append(mention.words)
        return Found(len(mentions), tuple(wrong), len(covered), len(there), len(imagined), len(thought), guessed)

    def _credited(self, name: str, objects: set[str]) -> set[str]:
        return {name} if name in objects else {other for other in objects if name in self.association[other]}

    def _name(self, word: str) -> str:
        return self.vocabulary.object(word) or word


def _same(noun: str, words: Sequence[tuple[str, int]]) -> int | None:
    return next((place for word, place in words if word == noun), None)


@cache
def _nltk_nouns() -> Nouns:
    nltk = need("nltk")
    lemmatise = need("nltk.stem").WordNetLemmatizer().lemmatize

    def nouns(text: str) -> list[str]:
        return [lemmatise(word) for word, tag in nltk.pos_tag(nltk.word_tokenize(text)) if tag.startswith("NN")]

    try:
        nouns("Birds sing.")
    except LookupError as error:
        fix = "python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng wordnet, or use rule clean, which needs none"
        raise MissingPackage("nltk", "its tokeniser, tagger or WordNet is not installed", fix) from error
    return nouns


@cache
def _spacy_similarity() -> Similarity:
    spacy = need("spacy")
    try:
        read = cache(spacy.load("en_core_web_lg"))
    except OSError as error:
        fix = "python -m spacy download en_core_web_lg, or use rule clean, which needs no model"
        raise MissingPackage("en_core_web_lg", "spaCy's model of English is not installed", fix) from error
    return lambda first, second: float(read(first).similarity(read(second)))


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


def _question(
    benchmark: Amber, place: Path, record: Mapping[str, Any], annotations: Mapping[str, list[Any]], where: str
) -> Question:
    name, image, text = (record.get(key) for key in ("id", "image", "query"))
    if not isinstance(image, str) or not isinstance(text, str):
        raise DataError(where, f"image {image!r}, query {text!r}", "a question is {id, image, query}")
    if str(name) not in annotations:
        raise DataError(where, f"annotations.json has no id {name}", "use files of one version")
    target = annotations[str(name)]
    suffix = "" if target[0] == GENERATIVE else benchmark.suffix
    return Question(str(name), image, benchmark.picture(place, image), text + suffix, target)


def _descriptions(is_published: bool) -> list[Metric]:
    slack = SLACK if is_published else 0
    faultless = _share("faultless", "described", slack)
    # the original has numbers for a model that says nothing; ours has none where no description names an object
    asked: dict[str, Any] = {"needs": "described"}
    said: dict[str, Any] = {"needs": "described" if is_published else "mentions", "undefined": SILENT}
    flawed = ("flawed", "described")
    return [
        Metric("CHAIR", _share("hallucinated", "mentions", slack), "described", "lower", **said),
        Metric("Cover", _share("covered", "truth", slack), "described", "higher", undefined="no picture has an object", **asked),
        Metric("Hal", lambda sums: 100 - faultless(sums), "described", "lower", fraction=flawed, is_outcome=True, **said),
        Metric(
            "Cog",
            _share("imagined", "imaginable", slack),
            "described",
            "lower",
            undefined="no object is easily imagined",
            **asked,
        ),
    ]


def _answers(name: str, is_published: bool) -> list[Metric]:
    """The numbers of a dimension, or of all; what they look for is a No."""
    asked, right, hit, says_no, no = (f"{name} {column}" for column in ("asked", "right", "hit", "says no", "no"))
    # the original adds up the three kinds of attributes, each with its own start
    slack = (3 if name == "attribute" else 1) * SLACK if is_published else 0
    more: dict[str, Any] = {"split": "yes/no" if name == "all" else name, "needs": asked}
    no_no, no_false = "no answer was read as no", "no question has no for its answer"
    accuracy = _share(right, asked, slack)
    return [
        Metric("accuracy", accuracy, asked, "higher", fraction=(right, asked), is_outcome=True, **more),
        Metric("F1", _f1(name, is_published), asked, "higher", undefined=f"{no_no}, or {no_false}", **more),
        Metric("precision", _share(hit, says_no, slack), asked, "higher", undefined=no_no, **more),
        Metric("recall", _share(hit, no, slack), asked, "higher", undefined=no_false, **more),
    ]


def _share(part: str, whole: str, slack: float) -> Value:
    return lambda sums: divided(sums[part], sums[whole] + slack) * 100


def _f1(name: str, is_published: bool) -> Value:
    """In %. The original's is of precision and recall after their rounding, and has a small number below its line."""
    hit, says_no, no = f"{name} hit", f"{name} says no", f"{name} no"
    if not is_published:
        return lambda sums: (
            200 * divided(sums[hit], np.where((sums[says_no] == 0) | (sums[no] == 0), 0, sums[says_no] + sums[no]))
        )
    slack = (3 if name == "attribute" else 1) * SLACK
    shares, below = (_share(hit, says_no, slack), _share(hit, no, slack)), 0.001 if name == "existence" else 0.0001

    def f1(sums: Sums) -> np.ndarray:
        precision, recall = (_rounded(share(sums)) / 100 for share in shares)
        return 2 * precision * recall / (precision + recall + below) * 100

    return f1


def _amber_score(is_published: bool) -> Value:
    """(100 - CHAIR + F1) / 2 (the paper's section 3; the script does not print it), of the numbers that the rule gives."""
    chair, f1 = _share("hallucinated", "mentions", SLACK if is_published else 0), _f1("all", is_published)
    given = _rounded if is_published else np.asarray
    return lambda sums: (100 - given(chair(sums)) + given(f1(sums))) / 2


def _rounded(values: np.ndarray) -> np.ndarray:
    """To one decimal as Python's round does it, which differs from NumPy's where a value is near the middle."""
    return np.array([round(float(value), 1) for value in values])
