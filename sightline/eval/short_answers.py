"""Short answers against those of ten people: the accuracy of VQA (Antol et al., 2015), and how it makes answers alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"[0-9],[0-9]")
# VQA's toolkit means to spare a point after a digit, too, but its look-behind is malformed and always holds
_POINT = re.compile(r"\.(?![0-9])")
# it passes re.UNICODE, which is 32, where the number of replacements goes
_MOST_POINTS = 32

_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = {"a", "an", "the"}

_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd
how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at
shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas
wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
""".split()
CONTRACTIONS = {
    **{word[:at] + word[at + 1 :]: word for word in _CONTRACTED for at, letter in enumerate(word) if letter == "'"},
    "somebody'd": "somebodyd",
}
"""A word that lacks one of its apostrophes, and the word; in VQA's list one is the other way about."""


@lru_cache(1 << 18)  # answers repeat
def on_one_line(text: str) -> str:
    """The text without surrounding space, tabs or line breaks: all that VQA does to answers where ten people agree."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(1 << 18)  # answers repeat
def vqa_form(text: str) -> str:
    """The form that VQA's toolkit compares: no punctuation, articles or capitals, numbers up to ten as digits."""
    text = on_one_line(text)
    has_thousands = _THOUSANDS.search(text) is not None
    gone = {mark: has_thousands or f"{mark} " in text or f" {mark}" in text for mark in _MARKS if mark in text}
    text = text.translate({ord(mark): "" if is_gone else " " for mark, is_gone in gone.items()})
    words = [_NUMBERS.get(word, word) for word in _POINT.sub("", text, count=_MOST_POINTS).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


@lru_cache(1 << 18)
def textvqa_form(text: str) -> str:
    """The form that TextVQA's processor (Pythia's, MMF's) compares: VQA's, once commas and question marks are deleted."""
    return vqa_form(text.lower().replace(",", "").replace("?", "").replace("'s", " 's"))


def accuracy(reply: str, answers: Sequence[str]) -> float:
    """The mean over all sets of answers but one of min(1, answers in it that equal the reply / 3): of ten, 1 gives 0.3."""
    alike, n = answers.count(reply), len(answers)
    without_one_alike = min(1.0, (alike - 1) / 3) if alike else 0.0
    return (alike * without_one_alike + (n - alike) * min(1.0, alike / 3)) / n
