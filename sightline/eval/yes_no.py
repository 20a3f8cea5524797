"""What benchmarks of yes/no questions share: our clean reading of an answer, and questions that count only together."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Literal

Verdict = Literal["yes", "no"]

_NOS = {"no", "not", "nor", "none", "never", "cannot", "without", "nothing", "nope"}


def clean(text: str) -> tuple[Verdict | None, bool]:
    """The first word where it is yes or no; else the one of the two that the first sentence has. None is unreadable.

    The second value says whether the text gave the rule nothing to go by.
    """
    said = words(text.strip().split(".")[0])
    if said[:1] in (["yes"], ["no"]):
        return ("yes" if said[0] == "yes" else "no"), False
    says_yes, says_no = "yes" in said, any(word in _NOS or word.endswith("n't") for word in said)
    if says_yes == says_no:
        return None, True
    return ("yes" if says_yes else "no"), False


def words(text: str) -> list[str]:
    """The text's words in lower case, without marks but for the apostrophe inside a word."""
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower().replace("’", "'"))


def together(keys: Sequence[Hashable | None], right: Sequence[bool]) -> Iterator[dict[str, float]]:
    """Counts of sets of questions of which all must be right, in the order of the questions: `sets`, and `whole` ones.

    Questions of one key are a set, which is counted at the first of them; a question without a key is in none.
    """
    whole: dict[Hashable, bool] = {}
    for key, is_right in zip(keys, right, strict=True):
        if key is not None:
            whole[key] = whole.get(key, True) and is_right
    for key in keys:
        yield {"sets": 1, "whole": whole.pop(key)} if key in whole else {}
