"""What a description names, by AMBER's lists of words: the original's reading, and ours, which needs no language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sightline.errors import DataError, MissingPackage
from sightline.eval.answer_files import read_text
from sightline.eval.data_files import read_json
from sightline.eval.vocabulary import Vocabulary
from sightline.plugin import need

NEAR = 0.8  # similarity above which two words name the same thing, by the published rule

Nouns = Callable[[str], list[str]]
Similarity = Callable[[str, str], float]


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
        self.safe = {self.vocabulary.object(word) for word in words.safe if word}
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
def nltk_nouns() -> Nouns:
    """The published rule's: NLTK's tokens that its tagger calls nouns, as WordNet's lemmas."""
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
def spacy_similarity() -> Similarity:
    """The published rule's: the cosine of the vectors of spaCy's en_core_web_lg."""
    spacy = need("spacy")
    try:
        read = cache(spacy.load("en_core_web_lg"))
    except OSError as error:
        fix = "python -m spacy download en_core_web_lg, or use rule clean, which needs no model"
        raise MissingPackage("en_core_web_lg", "spaCy's model of English is not installed", fix) from error
    return lambda first, second: float(read(first).similarity(read(second)))
