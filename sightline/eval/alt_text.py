"""Alt text: how alike a model's words and a person's are (MCM-DPO's measures)."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.engines.roles import Decoding
from sightline.errors import DataError, MissingPackage
from sightline.eval import Benchmark, Question
from sightline.eval.answer_files import records
from sightline.eval.cider import cider_d
from sightline.eval.compare import Better, Metric, Score, Sums, divided, ratio
from sightline.plugin import need
from sightline.rows import Answer, Item

EXTRA = "text-metrics"
NO_WORDNET = "NLTK finds no WordNet here: python -m nltk.downloader wordnet"
ONE_ROW = "in one row every phrase is in every reference"

INNER_STOP = re.compile(r"\.\s+\S")
"""A full stop that may end a sentence or an abbreviation."""

Words = list[str]


class AltText(Benchmark):
    """Ask for a picture's alt text, and compare it with the one that people wrote.

    The data is a file of records, a line each or a list, with question and chosen, and the picture's file as image, image_path
    or image.path; where one has no idx, its place in the file names it. By the published rule, bleu_4 is the share of fours of
    words alone; what is called BLEU-4 elsewhere is cumulative_bleu_4. CIDEr weighs phrases by the references of this very file,
    and these weights stay as they are while the interval's draws resample its rows.
    """

    origin: ClassVar[str] = (
        "The rows of github.com/LVUGAI/MCM-DPO (data/*/*_test.json, code Apache-2.0) are people's posts of unclear rights;\n"
        "10 a platform are there. Any file of question, chosen and image will do. The published rule is its get_score.py;\n"
        "it needs the packages nltk and rouge (sightline[text-metrics]), and METEOR needs NLTK's WordNet."
    )
    answer_ids: ClassVar[Sequence[str]] = ("idx", "question_id", "id")
    answer_texts: ClassVar[Sequence[str]] = ("response", "answer", "text", "prediction")

    rule: Literal["published", "clean"] = "published"
    """published: get_score.py's means over rows, rounded as there; texts of fewer than four words have no bleu_4 even where they
    are alike. clean: BLEU over all rows, ROUGE-L of the longest common subsequence, without case and punctuation."""
    splitter: Literal["punkt", "untrained"] = "punkt"
    """What ends sentences before words are split by the published rule: NLTK's trained punkt, as the script has it (python -m
    nltk.downloader punkt_tab), or punkt without its data, which takes "Dr." for the end of one: texts with a full stop inside
    then count as guessed."""
    decoding: Decoding = Decoding(max_tokens=256)
    """How the model answers."""

    def questions(self, place: Path) -> list[Question]:
        found = []
        for number, (where, row) in enumerate(records(_file(place))):
            name, file = str(row.get("idx", number)), _picture(row)
            question, chosen = _text(row, "question", where), _text(row, "chosen", where)
            found.append(Question(name, file or name, self.picture(place, file) if file else None, question, chosen))
        return found

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        # the script takes its own prompt's last word off
        said = [answer.text.removeprefix("Assistant:").strip() for answer in answers]
        wanted = [json.loads(item.target) for item in items]
        if self.rule == "published":
            split, synonyms = splitting(self.splitter), wordnet()
            counts = [published(text, chosen, split, synonyms) for text, chosen in zip(said, wanted, strict=True)]
            if self.splitter == "untrained":
                for count, *texts in zip(counts, said, wanted, strict=True):
                    count["guessed"] = count["guessed"] or any(map(INNER_STOP.search, texts))
            cider = cider_d([text.split() for text in said], [text.split() for text in wanted])
        else:
            spoken, written = [words(text) for text in said], [words(text) for text in wanted]
            counts = [clean(text, chosen) for text, chosen in zip(spoken, written, strict=True)]
            cider = cider_d(spoken, written)
        comparable = float(len(items) > 1)
        return [
            Score(item.id, item.group, {**count, "cider": alike, "comparable": comparable, "rows": 1}, bool(count.get("guessed")))
            for item, count, alike in zip(items, counts, cider, strict=True)
        ]

    def metrics(self) -> list[Metric]:
        return _published_metrics() if self.rule == "published" else _clean_metrics()


def _published_metrics() -> list[Metric]:
    """The script's names, order and rounding."""
    return [
        _mean("bleu_4", "bleu_4"),
        _mean("METEOR", "meteor", whole="meteor rows", undefined=NO_WORDNET),
        _mean("ROUGE-L", "rouge"),
        _mean("CIDEr", "cider", unit="points"),
        _mean("bleu_1", "bleu_1"),
        _mean("cumulative_bleu_4", "cumulative_bleu_4"),
        Metric("edit_distance", partial(_rounded, "edits", "rows", 3, 1), "rows", "lower", "words"),
    ]


def _mean(name: str, column: str, whole: str = "rows", unit: str = "%", better: Better = "higher", **more: Any) -> Metric:
    return Metric(name, partial(_rounded, column, whole, 5, 100), "rows", better, unit, **more)


def _rounded(column: str, whole: str, digits: int, scale: float, sums: Sums) -> np.ndarray:
    return scale * np.round(divided(sums[column], sums[whole]), digits)


def _clean_metrics() -> list[Metric]:
    return [
        Metric("BLEU-4", partial(bleu, 4), "rows", "higher"),
        ratio("ROUGE-L", "rouge", "rows", "rows", "higher"),
        Metric("CIDEr-D", lambda sums: 100 * divided(sums["cider"], sums["rows"]), "rows", "higher", "points", needs="comparable",
               undefined=ONE_ROW),
        Metric("BLEU-1", partial(bleu, 1), "rows", "higher"),
        ratio("edits_per_word", "edits", "reference words", "rows", "lower", undefined="no reference has a word"),
    ]  # fmt: skip


def bleu(orders: int, sums: Sums) -> np.ndarray:
    """BLEU over all rows, in % (Papineni et al., 2002), from summed counts; 0 where no phrase of some length matches."""
    shares = [divided(sums[f"matches {n}"], sums[f"phrases {n}"]) for n in range(1, orders + 1)]
    logs = [np.log(share, out=np.full_like(share, -np.inf), where=share > 0) for share in shares]
    brevity = np.minimum(0, 1 - divided(sums["reference words"], sums["answer words"]))
    return np.where(sums["answer words"] > 0, 100 * np.exp(np.mean(logs, axis=0) + np.nan_to_num(brevity)), 0.0)


def clean(said: Words, wanted: Words) -> dict[str, float]:
    """What an answer adds to the clean rule's counts."""
    common = longest_common(said, wanted)
    counts: dict[str, float] = {
        "answer words": len(said),
        "reference words": len(wanted),
        "edits": edit_distance(said, wanted),
        "rouge": 2 * common / (len(said) + len(wanted)) if said or wanted else 1.0,
    }
    for n in range(1, 5):
        own, other = (Counter(tuple(text[start : start + n]) for start in range(len(text) - n + 1)) for text in (said, wanted))
        counts |= {f"matches {n}": (own & other).total(), f"phrases {n}": own.total()}
    return counts


def published(said: str, wanted: str, split: Callable[[str], Words], synonyms: Any) -> dict[str, float]:
    """What an answer adds to get_score.py's sums, METEOR where there are `synonyms` (WordNet).

    It is `guessed` where a text is too short for fours of words, or where ROUGE refuses it.
    """
    sentence_bleu = need("nltk.translate.bleu_score", EXTRA).sentence_bleu
    reference, candidate = split(wanted), split(said)
    rouge = _rouge(said, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NLTK warns of each text without a common four; the rule counts them as 0
        shares = {
            name: float(sentence_bleu([reference], candidate, weights=weights))
            for name, weights in (("bleu_1", [1, 0, 0, 0]), ("bleu_4", [0, 0, 0, 1]), ("cumulative_bleu_4", [0.25] * 4))
        }
    return {
        **shares,
        **({} if synonyms is None else {"meteor": _meteor(reference, candidate, synonyms), "meteor rows": 1}),
        "rouge": rouge or 0.0,
        "edits": edit_distance(reference, candidate),
        "guessed": rouge is None or min(len(reference), len(candidate)) < 4,
    }


def splitting(splitter: str) -> Callable[[str], Words]:
    """NLTK's word_tokenize, or the same after a splitter of sentences without data; MissingPackage where punkt's is wanted and
    absent."""
    tokenize = need("nltk.tokenize", EXTRA)
    if splitter == "punkt":
        try:
            tokenize.word_tokenize("Loaded?")
        except LookupError as error:
            fix = "python -m nltk.downloader punkt_tab, or set splitter to untrained"
            raise MissingPackage("nltk", "its data of punkt, which ends sentences, is not installed", fix) from error
        return tokenize.word_tokenize
    sentences, split = tokenize.PunktSentenceTokenizer().tokenize, tokenize.NLTKWordTokenizer().tokenize
    return lambda text: [word for sentence in sentences(text) for word in split(sentence)]


def wordnet() -> Any:
    """NLTK's WordNet, None where its data is not at hand."""
    try:
        (found := need("nltk.corpus", EXTRA).wordnet).ensure_loaded()
    except LookupError:
        return None
    return found


def _meteor(reference: Words, candidate: Words, synonyms: Any) -> float:
    return float(need("nltk.translate.meteor_score", EXTRA).meteor_score([reference], candidate, wordnet=synonyms))


def _rouge(said: str, wanted: str) -> float | None:
    """ROUGE-L's F1 by the package rouge, 0 of an empty answer; None where it refuses a text, a lone full stop for instance."""
    if not said:
        return 0.0
    package = need("rouge", EXTRA)
    # it calls itself once per word of both texts, about
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + 4 * (len(said.split()) + len(wanted.split()))))
    try:
        return float(package.Rouge(metrics=["rouge-l"]).get_scores(said, wanted, avg=True)["rouge-l"]["f"])
    except ValueError:
        return None


def words(text: str) -> Words:
    """The clean rule's words: letters and digits, in lower case."""
    return re.findall(r"\w+", text.lower())


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Fewest words to insert, delete or replace (Levenshtein, 1966)."""
    codes: dict[str, int] = {}
    first, second = (np.array([codes.setdefault(word, len(codes)) for word in text], dtype=int) for text in (one, other))
    steps = np.arange(len(second) + 1)
    row = steps.copy()
    for number, code in enumerate(first, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (second != code))
        # along the row: from the best place before it, one insertion a step
        row = np.minimum.accumulate(np.concatenate([[number], best]) - steps) + steps
    return int(row[-1])


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = np.zeros(len(other) + 1, dtype=int)
    places = np.array(other, dtype=object)
    for word in one:
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], row[:-1] + (places == word)))
    return int(row[-1])


def _file(place: Path) -> Path:
    if place.is_file():
        return place
    found = sorted(path for path in place.iterdir() if path.suffix in (".json", ".jsonl"))
    if len(found) != 1:
        raise DataError(str(place), f"{len(found)} .json or .jsonl files are here, not one", "give the file itself as data")
    return found[0]


def _picture(row: dict[str, Any]) -> str | None:
    image = row.get("image_path") or row.get("image")
    return image.get("path") if isinstance(image, dict) else image


def _text(row: dict[str, Any], key: str, where: str) -> str:
    if not isinstance(text := row.get(key), str):
        raise DataError(where, f"no '{key}' that is text", "alt text needs question and chosen in each record")
    return text
