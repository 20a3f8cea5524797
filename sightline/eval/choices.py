"""Which choice of a question a reply names: by VLMEvalKit's rule, by LLaVA's for ScienceQA, and by our clean one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_uppercase as LETTERS

REFUSED = "Z"
"""What VLMEvalKit reads a refusal as: no choice, and nothing to ask a judge about."""

Reading = tuple[str | None, bool]
"""The letter, None where the rule finds none; and whether the rule guessed."""

_SPACED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_API_FAILED = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_STATED = re.compile(r"answer\s+is\s+\**([A-D])(\w?)", re.IGNORECASE)

MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN",
    "None", "n/a", "nan", "null",
}  # fmt: skip
"""Cells that pandas, and so VLMEvalKit, takes for empty ones: a choice that reads so is none, a reply that does is 'nan'."""


def vlmevalkit(text: str, choices: Mapping[str, str]) -> Reading:
    """VLMEvalKit's reading without a judge: a letter among the last four words, else the only choice whose text occurs.

    None is where it would ask a judge, if it had one. It guesses where a word may only look like the letter (A as an article, the
    first letter after 'answer is'), and where a choice occurs inside a longer word.
    """
    text = "nan" if text in MISSING else text
    choices = {letter: choice for letter, choice in choices.items() if choice not in MISSING}
    letter, guessed = _letter_named(text, choices)
    if letter is None:
        letter, guessed = _choice_named(text, choices)
    return letter, guessed or letter is None


def _letter_named(text: str, choices: Mapping[str, str]) -> Reading:
    if _API_FAILED in text:
        return None, False
    if any(refusal in text for refusal in _REFUSALS):
        return REFUSED, False
    words = text.translate(_SPACED).split()
    named = [letter for letter in choices if letter in words]
    if len(named) == 1 and words.index(named[0]) >= len(words) - 4:
        return named[0], named == ["A"] and len(words) > 3
    if not named and REFUSED in words:
        return REFUSED, False
    stated = _STATED.search(text)
    if stated and stated[1].upper() in choices:
        return stated[1].upper(), stated[2] != "" or stated[1] == "a"
    return None, False


def _choice_named(text: str, choices: Mapping[str, str]) -> Reading:
    text = text.lower()
    if len(text) > 2 * sum(map(len, choices.values())):
        return None, False
    named = [letter for letter, choice in choices.items() if choice.lower() in text]
    if len(named) != 1:
        return None, False
    return named[0], not _occurs(choices[named[0]], text)


def llava(text: str, choices: Mapping[str, str]) -> Reading:
    """LLaVA's reading of ScienceQA: 'B', 'B. ...', or one 'The answer is B.', whose point may be anything but a line's end.

    It guesses where it finds none, and where the letter begins a word, as in 'The answer is BC.'
    """
    letters, guessed = LETTERS[:5], False
    if len(text) == 1 and text in letters:
        letter = text
    elif len(text) >= 3 and text[0] in letters and text[1:3] == ". ":
        letter = text[0]
    else:
        stated = re.findall(r"The answer is ([A-Z])(.)", text)
        letter, after = stated[0] if len(stated) == 1 else ("", "")
        guessed = after.isalnum()
    return (letter, guessed) if letter in choices else (None, True)


def clean(text: str, choices: Mapping[str, str]) -> Reading:
    """The one letter that is called the answer, else the one that stands alone, else the one choice that is quoted.

    None where there is none of these, or more than one of the first kind that there is. It never guesses; None counts as such.
    """
    for named in (set(_DECLARED.findall(text)), _standing(text), _quoted(text, choices)):
        known = named & set(choices)
        if known:
            return (known.pop(), False) if len(known) == 1 else (None, True)
    return None, True


_DECLARED = re.compile(r"""\b(?i:answer|option|choice)\b(?i:\s+(?:is|option))*\s*:?\s*[*(\["']*([A-Z])(?![\w'’])""")
_ALONE = re.compile(r"""[\s*(\["']*([A-Za-z])[\s*)\]"'.:!]*""")
_LETTER = re.compile(r"(?<![\w'’-])([A-Z])(?![\w'’-])")
_ARTICLE = re.compile(r"\b[AI] (?!(?:or|and)\b)(?=[a-z])")


def _standing(text: str) -> set[str]:
    alone = _ALONE.fullmatch(text)
    return {alone[1].upper()} if alone else set(_LETTER.findall(_ARTICLE.sub("", text)))


def _quoted(text: str, choices: Mapping[str, str]) -> set[str]:
    quoted = {letter: choice.lower() for letter, choice in choices.items() if choice and _occurs(choice.lower(), text.lower())}
    # of 'red' and 'dark red' only the longer is meant
    return {
        letter
        for letter, choice in quoted.items()
        if not any(choice != other and _occurs(choice, other) for other in quoted.values())
    }


def _occurs(choice: str, text: str) -> bool:
    """Whether the text holds the choice, and not as a part of a word."""
    return re.search(rf"(?<!\w){re.escape(choice.lower())}(?!\w)", text) is not None
