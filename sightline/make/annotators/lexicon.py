"""A list of objects and attributes, and the claims about them that a text makes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from sightline.errors import DataError
from sightline.plugin import Section

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
_DENIALS = frozenset({"no", "not", "without", "neither", "nor", "never"})
_REACH = 3  # words before an object in which a denial still speaks of it: "does not show a cup"


class Lexicon(Section):
    """Phrases by which objects and attributes are known -> their names."""

    objects: dict[str, str]
    attributes: dict[str, str] = {}

    @classmethod
    def read(cls, objects: Path, attributes: Path | None) -> Lexicon:
        """From files of CHAIR's format: a line an object, its synonyms separated by commas, the name first."""
        return cls(objects=read_synonyms(objects), attributes=read_synonyms(attributes) if attributes else {})

    def claims(self, text: str) -> list[str]:
        """Each object that the text says is there, with the attributes before it: 'a red cup'. Each once, in order."""
        words = _WORD.findall(text.casefold())
        affirmed = [(start, name) for start, name in self._found(words) if not self._denied(words, start)]
        return list(dict.fromkeys(self._claim(words, start, name) for start, name in affirmed))

    def _found(self, words: list[str]) -> Iterator[tuple[int, str]]:
        """Where objects are mentioned, and their names; the longest phrase wins."""
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                name = self._object(words[at : at + length])
                if name is not None:
                    yield at, name
                    at += length - 1
                    break
            at += 1

    @cached_property
    def _longest(self) -> int:
        return max(phrase.count(" ") + 1 for phrase in self.objects)

    def _object(self, words: list[str]) -> str | None:
        return next((self.objects[phrase] for phrase in _singulars(" ".join(words)) if phrase in self.objects), None)

    def _before(self, words: list[str], start: int) -> int:
        """Where the attributes that stand before an object begin."""
        while start > 0 and words[start - 1] in self.attributes:
            start -= 1
        return start

    def _denied(self, words: list[str], start: int) -> bool:
        end = self._before(words, start)
        nearby = words[max(0, end - _REACH) : end]
        clause = nearby[max((at + 1 for at, word in enumerate(nearby) if not word[0].isalnum()), default=0) :]
        return any(word in _DENIALS or word.endswith(("n't", "n’t")) for word in clause)

    def _claim(self, words: list[str], start: int, name: str) -> str:
        described = [self.attributes[word] for word in words[self._before(words, start) : start]]
        phrase = " ".join([*described, name])
        return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _singulars(phrase: str) -> Iterator[str]:
    """The phrase, and what it may be the plural of."""
    yield phrase
    for ending, singular in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if phrase.endswith(ending):
            yield phrase[: -len(ending)] + singular


def read_synonyms(path: Path) -> dict[str, str]:
    """Phrase -> name. DataError with the line where the file is not such a list."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read: {error}", "give a UTF-8 text file, a line an object") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        phrases = [" ".join(phrase.casefold().split()) for phrase in line.split(",") if phrase.strip()]
        for phrase in phrases:
            if names.setdefault(phrase, phrases[0]) != phrases[0]:
                raise DataError(
                    f"{path}, line {number}", f"'{phrase}' already stands for '{names[phrase]}'", "keep it on one line"
                )
    if not names:
        raise DataError(str(path), "this list is empty", "write a line an object: its name, then synonyms, separated by commas")
    return names
