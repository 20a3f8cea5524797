"""Which objects a text names: CHAIR's list of words, by the published scripts' rule, faults included.

The rule (Rohrbach et al., 2018, utils/chair.py of LisaAnne/Hallucination): words in lower case as the Penn Treebank splits them,
each as its singular, two adjacent words as one where a table has them, and of what results every word that the list has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from sightline.eval.vocabulary import Mention, synonyms

ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")

DOUBLE_WORDS = {
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS},
    "passenger jet": "jet", "passenger train": "train", "bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass",
    "home plate": "home plate", "train track": "train track",
}  # fmt: skip
"""Adjacent words that are read as one, as are the list's entries of two words: with CHAIR's, this is the script's table."""

IRREGULAR = {
    "people": "person",
    "children": "child",
    "men": "man",
    "geese": "goose",
    "oxen": "ox",
    "kine": "cow",
    "brethren": "brother",
}
UNCHANGED = ("scissors", "doggies", "collies")
ENDINGS = [
    (re.compile(f"{ending}$"), single)
    for ending, single in (
        ("(?<=.)ae", "a"), ("(?<=o)es", ""), ("(?<=bus)es", ""), ("(?<=[ml])ice", "ouse"), ("(?<=x)es", ""),
        ("(?<=[cs]h)es", ""), ("(?<=ss)es", ""), ("(?<=[^aeiouy])ies", "y"), ("(?<=[aeo]l)ves", "f"), ("(?<=[nlw]i)ves", "fe"),
        ("s", ""),
    )
]  # fmt: skip
"""What a plural's ending becomes; the first that fits counts."""

STOP = r"""\.(?=['")\]}”’»]*(?:\s|$))"""
QUOTE = r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)"
MARK = rf"""\.\.+|--|''|[:,](?!\d)|[;@#$%&?!*\[\](){{}}<>"«»“”‘’„`\u2012-\u2015]|{STOP}|{QUOTE}"""
TOKEN = re.compile(rf"(?:[^\W_]+|(?!{MARK})\S)+|{MARK}")  # letters and digits first: they are never a mark
CLITIC = re.compile(r"(?<=[^'])(?:'[smd]|'ll|'re|'ve)?'?$", re.IGNORECASE)


class ListedWords:
    """CHAIR's objects and the words for them, as its script reads them."""

    def __init__(self, entries: Iterable[Sequence[str]], singular: Callable[[str], str]) -> None:
        """Each entry is an object's name and other words for it; `singular` says what a word of a text is looked up as."""
        self.names = {word: entry[0] for entry in entries for word in entry}
        # stripped: an entry with a stray space is joined by the script, and is then no word of its list
        pairs = {word.strip(): word.strip() for word in self.names if word.strip().count(" ") == 1}
        self.doubles = {**pairs, **DOUBLE_WORDS}
        self.singular = cache(singular)

    @classmethod
    def read(cls, path: Path, singular: Callable[[str], str], strip: bool = False) -> ListedWords:
        """From a file of a line an object, its words separated by a comma and one space; `strip` takes further spaces off."""
        entries = [line.strip().split(", ") for line in synonyms(path)]
        return cls([[word.strip() for word in entry] if strip else entry for entry in entries], singular)

    def object(self, name: str) -> str | None:
        """The listed object that a word stands for, if any."""
        return self.names.get(name)

    def mentions(self, text: str) -> list[Mention]:
        """Every mention of an object in a text, in order."""
        spans = list(tokens(text))
        joined = self.joined([self.singular(text[start:end].lower()) for start, end in spans])
        listed = self.listed([word for word, _, _ in joined])
        return [
            Mention(self.names[word], text[spans[first][0] : spans[last][1]]) for word, first, last in joined if word in listed
        ]

    def joined(self, words: Sequence[str]) -> list[tuple[str, int, int]]:
        """The words from the left, two as one where the table has them, with the places of the first and last of each."""
        found, at = [], 0
        while at < len(words):
            double = self.doubles.get(" ".join(words[at : at + 2]))
            last = at + (double is not None)
            found.append((words[at] if double is None else double, at, last))
            at = last + 1
        return found

    def listed(self, words: Sequence[str]) -> set[str]:
        """Those of the words that name an object; a seat beside a toilet is its own."""
        found = {word for word in words if word in self.names}
        return found - {"seat"} if {"toilet", "seat"} <= set(words) else found


def tokens(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each word and mark.

    Words end where NLTK's word_tokenize (3.10) ends them if its splitter of sentences knows no abbreviations. What is never an
    object's name (n't, gonna) is left whole, and so are words that doubled commas glue together there.
    """
    for match in TOKEN.finditer(text):
        start, end = match.span()
        clitic = CLITIC.search(match[0]) if "'" in match[0] else None
        if clitic is None or not clitic[0]:
            yield start, end
        else:
            yield start, start + clitic.start()
            yield start + clitic.start(), end


def singular(word: str) -> str:
    """A word without its plural by the rules of pattern.en 3.6 (clips/pattern), as far as they matter to names of COCO's objects.

    So "bus" is "bu", "glass" is "glas", "ties" is "ty" and "canoes" is "cano", none of which the list has.
    """
    if word.endswith(UNCHANGED):
        return word
    for plural, single in IRREGULAR.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + single
    for ending, single in ENDINGS:
        if ending.search(word):
            return ending.sub(single, word)
    return word
