"""VLFeedback: an instruction about a picture, four models' answers, and what GPT-4V thought of each, aspect by aspect."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, groupby
from statistics import fmean
from typing import Any, ClassVar, Literal

from sightline.errors import DataError
from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.texts import need_key, text_of
from sightline.formats.pairs import PairFormat, both_answers, imported_pair, need_one_picture, whole_record_of
from sightline.rows import Dropped, Pair


class VLFeedback(PairFormat):
    """`id`, `prompt`, `models`, `completions` (model, response, annotations with a Rating and a Rationale an aspect), `img_path`.

    A record becomes pairs by the published rule (run_dpo.py, make_batch_pairs): an answer's score is the mean of its ratings; all
    pairs of answers that score differently, and of whose ratings each can be read; the others are refused with a reason. Where
    there is no `img_path`, as in vlfeedback_80k.jsonl, the picture is `<id>.jpg`, as in its loading script. Completions may stand
    as a list of records, or, as `datasets` wrote them, as one record of lists. Pairs rather than answers and annotations: these
    are what a recipe takes in, and the record that each carries keeps every rating and rationale.

    The record goes back whole, ratings and rationales included, whichever of its pairs are left; pairs that were changed since
    are refused, as ratings would be of other texts. A pair that comes from elsewhere is a record of two answers, rated by their
    scores under the one aspect `Score`: the same rule makes the same pair of it. Without scores it cannot be written.
    """

    kind: Literal["vlfeedback"] = "vlfeedback"
    containers: ClassVar[tuple[str, ...]] = (".jsonl", ".json")

    def pairs(self, record: dict[str, Any], key: str, album: Album) -> Iterator[Pair | Dropped]:
        instruction = text_of(need_key(record, "prompt"), "prompt")
        completions = _completions(record)
        if len(completions) < 2:
            raise Refused("fewer than two answers", str(len(completions)))
        picture = album.given(_img_path(record), key)
        for better, worse, refusal in _compared(completions):
            if refusal:
                yield Dropped(key=key, reason=refusal, detail=f"{better} and {worse}")
            else:
                scores = {"chosen_score": better.score, "rejected_score": worse.score}
                models = {"chosen_model": better.model or None, "rejected_model": worse.model or None}
                yield imported_pair(self.kind, key, instruction, [picture], better.text, worse.text, **scores, **models)

    def records(self, pairs: Iterable[Pair], gallery: Gallery, embed: bool) -> Iterator[dict[str, Any]]:
        for written, group in groupby(pairs, key=lambda pair: pair.record):
            known = json.loads(written) if written else {}
            if known.get("format") == self.kind:
                yield _given_back(known["record"], list(group), gallery)
            else:
                yield from super().records(group, gallery, embed)

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        chosen, rejected = both_answers(pair)
        need_one_picture(pair, "a vlfeedback record has one")
        if pair.chosen_score is None or pair.rejected_score is None or pair.chosen_score <= pair.rejected_score:
            problem = f"its scores are {pair.chosen_score} and {pair.rejected_score}: vlfeedback tells by ratings which is better"
            raise DataError(f"pair {pair.key}", problem, "export to another format, such as trl")
        rated = [(pair.chosen_model, chosen, pair.chosen_score), (pair.rejected_model, rejected, pair.rejected_score)]
        completions = [
            {"annotations": {"Score": {"Rating": repr(score), "Rationale": ""}}, "model": model or "", "response": text}
            for model, text, score in rated
        ]
        models = [completion["model"] for completion in completions]
        path = gallery.put(pair.pictures[0], pair.key)
        return {"id": pair.key, "prompt": pair.instruction, "models": models, "completions": completions, "img_path": path}


@dataclass(frozen=True)
class _Rated:
    """An answer; its score is None where a rating cannot be read."""

    model: str
    text: str
    score: float | None

    def __str__(self) -> str:
        return f"{self.model or 'no model'}: {'unreadable' if self.score is None else f'{self.score:.3g}'}"


def _compared(completions: list[_Rated]) -> Iterator[tuple[_Rated, _Rated, str]]:
    """Any two answers, the better first, and why they make no pair, '' where they do."""
    for one, other in combinations(completions, 2):
        if one.score is None or other.score is None:
            yield one, other, "a rating is no number"
        elif one.score == other.score:
            yield one, other, "answers score the same"
        else:
            yield (one, other, "") if one.score > other.score else (other, one, "")


def _completions(record: dict[str, Any]) -> list[_Rated]:
    given = need_key(record, "completions")
    if isinstance(given, dict):  # a record of lists
        sizes = {len(column) if isinstance(column, list) else 0 for column in given.values()}
        if len(sizes) != 1:
            raise Refused("completions' lists are of several lengths", ", ".join(given))
        given = [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        raise Refused("completions is not a list of records", type(given).__name__)
    return [_completion(entry) for entry in given]


def _completion(entry: dict[str, Any]) -> _Rated:
    text = text_of(need_key(entry, "response"), "response")
    model = "" if entry.get("model") is None else text_of(entry["model"], "model")
    annotations = need_key(entry, "annotations")
    aspects = list(annotations.values()) if isinstance(annotations, dict) else []
    ratings = [_rating(aspect) for aspect in aspects]
    readable = [rating for rating in ratings if rating is not None]
    return _Rated(model, text, fmean(readable) if readable and len(readable) == len(ratings) else None)


def _rating(aspect: Any) -> float | None:
    """The number that an aspect's Rating, a text, says; None where it says none."""
    if not isinstance(aspect, dict):
        return None
    try:
        said = float(need_key(aspect, "Rating"))
    except (TypeError, ValueError):
        return None
    return said if math.isfinite(said) else None


def _img_path(record: dict[str, Any]) -> Any:
    if record.get("img_path") is not None:
        return record["img_path"]
    name = record.get("id")
    return need_key(record, "img_path") if name is None else f"{name}.jpg"


def _given_back(record: dict[str, Any], pairs: list[Pair], gallery: Gallery) -> dict[str, Any]:
    """The record that the pairs came from, its picture where that now lies."""
    with whole_record_of(pairs[0]):
        asked, completions, known_as = record["prompt"], _completions(record), _img_path(record)
    told = {(better.text, worse.text) for better, worse, refusal in _compared(completions) if not refusal}
    for pair in pairs:
        if pair.instruction != asked or (pair.chosen, pair.rejected) not in told:
            problem = "it was changed since it was imported: the ratings in its record are of other texts"
            raise DataError(f"pair {pair.key}", problem, "export to another format, such as trl")
    path = gallery.put(pairs[0].pictures[0], pairs[0].key, known_as)
    return {**record, "img_path": path} if record.get("img_path") is not None or path != known_as else record
