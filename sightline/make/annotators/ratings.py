"""What a judge's reply says of each answer. Nothing is guessed: what is missing, doubled or off the scale has no rating."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sightline.make.annotators.rubric import Aspect, Rubric, plain

_NUMBER = r"(?P<number>[-+]?\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*(?P<best>\d+(?:\.\d+)?))?"
_ONLY_A_NUMBER = re.compile(rf"\s*{_NUMBER}\s*")
_ANSWER = re.compile(r"\W*answer\W*(\d+)\b", re.IGNORECASE)
_LABEL = re.compile(r"\s*(?:answer)?\W*(\d+)\s*", re.IGNORECASE)
_MARKS = r"[\s*_`\"'>#]{0,8}"  # bounded: a reply of nothing but stars is read in no time, too


@dataclass
class Ratings:
    """Ratings of one answer by aspect, or the reason why it has none."""

    values: dict[str, float] = field(default_factory=dict)
    reason: str | None = None


def read_ratings(reply: str, rubric: Rubric, num_answers: int, cut: bool = False) -> list[Ratings]:
    """Ratings of each answer, in the order in which the judge saw them: from JSON, or else from lines such as 'Helpfulness: 4'.

    What a reasoning model thought before it replied does not count. `cut`: the reply ended at max_tokens, so that a number at its
    very end may lack digits.
    """
    reply = reply.rpartition("</think>")[2]
    found = _from_json(reply, rubric, num_answers) or _from_lines(
        _without_last_number(reply) if cut else reply, rubric, num_answers
    )
    return [_checked(found.get(place, []), rubric) for place in range(1, num_answers + 1)]


Entry = Mapping[str, Any]  # plain name -> what stands for its rating


def _from_json(reply: str, rubric: Rubric, num_answers: int) -> dict[int, list[Entry]]:
    """What JSON in the reply says of each answer, by its label. A label that stands twice has two entries.

    Entries without any aspect are none: braces may stand in prose.
    """
    start = re.search(r"\[?\s*\{", reply)
    if start is None:
        return {}
    import json_repair

    try:
        # JSON never ends in a digit: one that does is cut, perhaps within the number
        tree = json_repair.loads(_without_last_number(reply[start.start() :]))
    except (ValueError, RecursionError):
        return {}
    found: dict[int, list[Entry]] = {}
    for label, entry in _entries(tree, num_answers):
        values = {plain(name): value for name, value in entry.items()}
        if any(aspect.plain in values for aspect in rubric.aspects):
            found.setdefault(label, []).append(values)
    return found


def _entries(tree: Any, num_answers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Answers' labels and entries, in a list, by name, or alone."""
    if isinstance(tree, list):
        for inner in tree:
            yield from _entries(inner, num_answers)
    elif isinstance(tree, dict):
        named = [
            (label, inner) for name, inner in tree.items() if isinstance(inner, dict) and (label := _label(name)) is not None
        ]
        if isinstance(tree.get("answers"), list | dict):
            yield from _entries(tree["answers"], num_answers)
        elif named:
            yield from named
        elif (label := _label(tree.get("answer", 1 if num_answers == 1 else None))) is not None:
            yield label, tree


def _label(said: Any) -> int | None:
    """2, "2", "Answer 2" -> 2."""
    if isinstance(said, int) and not isinstance(said, bool):
        return said
    match = _LABEL.fullmatch(said) if isinstance(said, str) else None
    return int(match[1]) if match else None


def _from_lines(reply: str, rubric: Rubric, num_answers: int) -> dict[int, list[Entry]]:
    """What lines say: 'Answer 2' opens an answer's part, 'Helpfulness: 4' rates it."""
    names = "|".join(_spelt(aspect) for aspect in sorted(rubric.aspects, key=lambda aspect: -len(aspect.name)))
    before = rf"(?:^|[,;|]|answer\W*\d+\s*:){_MARKS}(?:[-•]|\d+[.)])?{_MARKS}"
    between = rf"{_MARKS}(?:\([^()]*\))?{_MARKS}[:=]{_MARKS}"
    no_range = r"(?![\d.]*\d|\s*(?:-|–|to)\s*\d)"
    rating = re.compile(rf"{before}(?P<name>{names}){between}{_NUMBER}{no_range}", re.IGNORECASE)
    found: dict[int, list[Entry]] = {}
    place = 1 if num_answers == 1 else None
    for line in reply.splitlines():
        heading = _ANSWER.match(line)
        place = int(heading[1]) if heading else place
        if place is not None:
            found.setdefault(place, []).extend({plain(match["name"]): _with_best(match)} for match in rating.finditer(line))
    return found


def _spelt(aspect: Aspect) -> str:
    return r"[\s_-]+".join(map(re.escape, aspect.plain.split()))


def _with_best(match: re.Match[str]) -> str:
    return f"{match['number']}/{match['best']}" if match["best"] else match["number"]


def _checked(entries: list[Entry], rubric: Rubric) -> Ratings:
    """One rating an aspect, each on its scale; else the reason."""
    if not any(entries):
        return Ratings(reason="the judge's reply rates it nowhere")
    values = {}
    for aspect in rubric.aspects:
        said = [entry[aspect.plain] for entry in entries if aspect.plain in entry]
        numbers = {_number(one, aspect) for one in said}
        if not said:
            return Ratings(reason=f"no rating of {aspect.name}")
        if None in numbers:
            return Ratings(reason=f"unreadable rating of {aspect.name}")
        if len(numbers) > 1:
            return Ratings(reason=f"several ratings of {aspect.name}")
        (number,) = numbers
        assert number is not None
        if not aspect.low <= number <= aspect.high:
            return Ratings(reason=f"{aspect.name} is off its scale")
        values[aspect.name] = number
    return Ratings(values)


def _number(said: Any, aspect: Aspect) -> float | None:
    """4, "4", "4/5" and {"rating": 4} -> 4.0. None where it is no number, or counts from another best than the scale's."""
    if isinstance(said, dict):
        said = next((said[name] for name in ("rating", "score") if name in said), None)
    if isinstance(said, bool):
        return None
    if isinstance(said, str):
        match = _ONLY_A_NUMBER.fullmatch(said)
        if match is None or (match["best"] and float(match["best"]) != aspect.high):
            return None
        return float(match["number"])
    return float(said) if isinstance(said, int | float) and math.isfinite(said) else None


def _without_last_number(text: str) -> str:
    return re.sub(r"[\d.]+$", "", text.rstrip())
