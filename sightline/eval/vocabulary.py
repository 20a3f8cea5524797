"""Which objects a text names: CHAIR's list of words, by our clean rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from sightline.errors import DataError

IRREGULAR = {
    "people": "person", "children": "child", "mice": "mouse", "geese": "goose", "oxen": "ox", "teeth": "tooth", "feet": "foot",
}  # fmt: skip

QUALIFIERS = {"baby", "adult", "passenger", "orange"}
"""Words that name an object by themselves, but directly before another object only say what sort it is."""

DOUBLE_WORDS = {
    "toilet seat": "toilet", "bow tie": "tie", "train track": None, "train station": None, "bus stop": None, "bus station": None,
    "home plate": None, "car park": None, "bird house": None, "boat house": None, "dog house": None,
}  # fmt: skip
"""Pairs that mean one object, or none, though a word of them is an object's."""


@dataclass(frozen=True)
class Mention:
    """An object's name by the list, and the words of the text that name it."""

    name: str
    words: str


@dataclass(frozen=True)
class _Token:
    word: str
    start: int
    end: int


class Vocabulary:
    """Objects and the words for them."""

    def __init__(self, synonyms: Iterable[Iterable[str]]) -> None:
        """Each entry is an object's name and other words for it."""
        self.names: dict[tuple[str, ...], str | None] = {}
        listed = [[_phrase(word) for word in entry] for entry in synonyms]
        nodes = {" ".join(entry[0]) for entry in listed}
        for pair, name in DOUBLE_WORDS.items():
            if name is None or name in nodes:
                self.names[_phrase(pair)] = name
        for entry in listed:
            self.names.update(dict.fromkeys(entry, " ".join(entry[0])))
        self.longest: dict[str, int] = {}
        """Number of words of the longest phrase that begins with a word."""
        for phrase in filter(None, self.names):
            self.longest[phrase[0]] = max(len(phrase), self.longest.get(phrase[0], 1))
        self._listed = cache(self._look_up)  # texts repeat their words

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """From a file in the format of CHAIR's synonyms.txt: a line an object, its words separated by commas."""
        return cls([[word for word in line.split(",") if word.strip()] for line in synonyms(path)])

    def object(self, name: str) -> str | None:
        """The listed object that a word or phrase stands for, if any."""
        return self._found(_phrase(name))

    def mentions(self, text: str) -> list[Mention]:
        """Every mention of an object, in order; longer phrases first, a plural counts as its singular."""
        found = list(self._spans(text))
        kept = []
        for (start, end, name), (next_start, _, next_name) in pairwise([*found, (len(text), len(text), None)]):
            words = text[start:end]
            qualifies = words.lower() in QUALIFIERS and next_name not in (None, name) and _adjacent(text, end, next_start)
            if name is not None and not qualifies:
                kept.append(Mention(name, words))
        return kept

    def _spans(self, text: str) -> Iterator[tuple[int, int, str | None]]:
        tokens = [_Token(match[0].lower(), *match.span()) for match in re.finditer(r"[A-Za-z]+", text)]
        at = 0
        while at < len(tokens):
            length, name = self._at(text, tokens[at : at + self.longest.get(tokens[at].word, 1)])
            if length:
                yield tokens[at].start, tokens[at + length - 1].end, name
            at += max(1, length)

    def _at(self, text: str, tokens: list[_Token]) -> tuple[int, str | None]:
        """Length of the longest phrase that starts here, and its object; 0 where none starts."""
        for length in range(len(tokens), 0, -1):
            inside = tokens[:length]
            joined = all(_adjacent(text, left.end, right.start) for left, right in pairwise(inside))
            phrase = tuple(token.word for token in inside)
            if joined and (listed := self._listed(phrase)) is not None:
                return length, self.names[listed]
        return 0, None

    def _found(self, phrase: tuple[str, ...]) -> str | None:
        listed = self._listed(phrase)
        return None if listed is None else self.names[listed]

    def _look_up(self, phrase: tuple[str, ...]) -> tuple[str, ...] | None:
        if phrase in self.names:
            return phrase
        *before, last = phrase
        return next((form for single in singulars(last) if (form := (*before, single)) in self.names), None)


def synonyms(path: Path) -> list[str]:
    """The lines of a file in the format of CHAIR's synonyms.txt, without empty ones; DataError where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}", f"put {path.name} into the data folder") from error
    return [line for line in lines if line.strip(" ,")]


def singulars(word: str) -> Iterator[str]:
    """What the word may be the plural of; only a listed one counts."""
    if word in IRREGULAR:
        yield IRREGULAR[word]
    if word.endswith("men"):
        yield word[:-3] + "man"
    if word.endswith("ies"):
        yield word[:-3] + "y"
    if word.endswith("ves"):
        yield word[:-3] + "f"
        yield word[:-3] + "fe"
    if word.endswith("es"):
        yield word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        yield word[:-1]


def _phrase(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+", text.lower()))


def _adjacent(text: str, end: int, start: int) -> bool:
    return text[end:start].strip(" \n-") == ""
