"""What holds for every benchmark, whatever it is asked and answered.

A benchmark joins by its entry in KNOWN: where its files lie (or how they are written), what a faultless model answers, and what
that is worth. One that no answer of a known form makes perfect stands in EXCUSED, with the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.eval import BENCHMARKS, Benchmark, Question, limited
from sightline.eval.compare import Comparison, Counts, Metric, Number, Score, divided, fraction, ratio
from sightline.eval.scoring import answered, read_benchmark
from sightline.miniature import heldout
from tests.eval import (
    test_alt_text,
    test_amber,
    test_hallusionbench,
    test_llava_bench,
    test_mm_vet,
    test_mmbench,
    test_mme,
    test_mmhal,
    test_mt_bench,
    test_object_halbench,
    test_scienceqa,
    test_textvqa,
    test_vqav2,
)

ODD = ["", "yes", "No.", "Yes, and no", "A cup and a dog, a cup.", "B", "(C)", "7", "nothing\tat\nall", "é" * 300, "Rating: 3"]


@dataclass(frozen=True)
class Known:
    """A benchmark's questions for these tests, and what a faultless model says to each."""

    place: Callable[[Path], Path]
    """Takes an empty folder, which it may write the benchmark's files to; returns where they are."""
    perfect: Callable[[Question], str]
    best: dict[str, float]
    """Metrics of perfect answers; the name alone where there is no split."""
    settings: dict[str, Any] = field(default_factory=dict)


def shipped(_: Path) -> Path:
    return heldout.FOLDER


def saved(path: Path, content: Any) -> Path:
    """The folder of a JSON file with this content."""
    path.write_text(json.dumps(content))
    return path.parent


def write_amber(folder: Path) -> Path:
    saved(folder / "annotations.json", test_amber.GOLDEN["annotations"])
    saved(folder / "relation.json", test_amber.GOLDEN["relation"])
    (folder / "safe_words.txt").write_text("\n".join(test_amber.GOLDEN["safe_words"]))
    return saved(folder / "query_all.json", test_amber.GOLDEN["queries"])


def write_hallusionbench(folder: Path) -> Path:
    rows = test_hallusionbench.ROWS
    asked = [{key: value for key, value in row.items() if key not in test_hallusionbench.JUDGED} for row in rows]
    return saved(folder / "HallusionBench.json", asked)


def write_llava_bench(folder: Path) -> Path:
    test_llava_bench.questions(folder, ["conv", "detail", "complex"] * 10)
    return folder


def write_mt_bench(folder: Path) -> Path:
    test_mt_bench.write(folder / "question.jsonl", [test_mt_bench.task(number) for number in range(20)])
    return folder


KNOWN = {
    "pope": Known(
        shipped,
        lambda question: "Yes" if question.target[0][1] == "yes" else "No",
        {"accuracy": 100, "F1": 100, "precision": 100, "recall": 100, "mean F1 (of splits)": 100},
    ),
    "chair": Known(
        shipped,
        lambda question: "I see " + " and ".join(f"a {name}" for name in question.target["truth"]) + ".",
        {"CHAIR_i": 0, "CHAIR_s": 0, "coverage": 100},
    ),
    "object_halbench": Known(
        test_object_halbench.answered,
        lambda question: "I see " + " and ".join(f"a {name}" for name in question.target) + ".",
        {"response_level (lemmas)": 0, "mention_level (lemmas)": 0, "recall (lemmas)": 100},
        {"rule": "clean", "extractor": "lemmas"},
    ),
    "alt_text": Known(
        lambda folder: test_alt_text.written(folder, [row for row in test_alt_text.ROWS if len(row["chosen"].split()) > 3]),
        lambda question: question.target,
        {"ROUGE-L": 100, "BLEU-1": 100},
        {"rule": "clean"},
    ),
    "amber": Known(
        write_amber,
        lambda question: " and ".join(question.target[1]) if question.target[0] == "generative" else question.target[1],
        {"CHAIR": 0, "Cover": 100, "Hal": 0, "accuracy (yes/no)": 100},
        {"rule": "clean"},
    ),
    "mme": Known(
        lambda folder: test_mme.write(folder, "image", "question", "truth"),
        lambda question: question.target[1],
        {"score (existence)": 200, "score (count)": 200},
    ),
    "hallusionbench": Known(write_hallusionbench, lambda question: question.target[-1], {"aAcc": 100, "fAcc": 100, "qAcc": 100}),
    "mmbench": Known(
        lambda folder: test_mmbench.write(
            folder, test_mmbench.table([row for row in test_mmbench.ROWS if "nan" not in row.values()])
        ),
        lambda question: question.target["answer"],
        {"accuracy": 100, "accuracy of single passes": 100},
    ),
    "scienceqa": Known(
        lambda folder: test_scienceqa.write(folder, test_scienceqa.ROWS),
        lambda question: question.target["answer"],
        {"accuracy": 100, "no choice found": 0},
    ),
    "vqav2": Known(
        lambda folder: test_vqav2.write(folder, [{**row, "answers": ["red"] * 10} for row in test_vqav2.ROWS]),
        lambda _: "red",
        {"accuracy": 100},
    ),
    "textvqa": Known(
        lambda folder: test_textvqa.write(folder, [{**row, "answers": ["red"] * 10} for row in test_textvqa.ROWS]),
        lambda _: "red",
        {"accuracy": 100},
    ),
    "mmhal": Known(
        lambda folder: saved(folder / "response_template.json", [test_mmhal.row(number) for number in range(96)]),
        lambda _: "Rating: 6",
        {"rating": 6, "hallucination": 0, "informativeness": 100},
    ),
    "mm_vet": Known(
        lambda folder: saved(folder / "mm-vet.json", {name: test_mm_vet.entry(name, ["rec", "ocr"]) for name in "abcdef"}),
        lambda _: "1.0",
        {"score": 100},
    ),
    "llava_bench": Known(write_llava_bench, lambda _: "10 10", {"relative score": 100}, {"part": "in-the-wild"}),
    "mt_bench": Known(write_mt_bench, lambda _: "[[10]]", {"rating": 10, "rating (turn 2)": 10}),
}
EXCUSED: dict[str, str] = {}


def test_every_benchmark_is_known_here_or_excused() -> None:
    assert set(BENCHMARKS) == {*KNOWN, *EXCUSED}, "give the new benchmark an entry in KNOWN"


@dataclass(frozen=True)
class Case:
    """A benchmark's questions about a few pictures."""

    known: Known
    benchmark: Benchmark
    place: Path
    questions: list[Question]

    def scores(self, texts: Sequence[str], order: Sequence[int] | None = None) -> list[Score]:
        """What the texts, one a question, add to the counts; items and answers come in another order where one is given."""
        items = [question.item([]) for question in self.questions]
        answers = [answered(item, text) for item, text in zip(items, texts, strict=True)]
        places = range(len(items)) if order is None else order
        return self.benchmark.scores(self.place, [items[at] for at in places], [answers[at] for at in places])

    def numbers(self, scores: list[Score]) -> dict[str, Number]:
        comparison = Comparison({"base": Counts.of(scores)}, 100, 0)
        metrics = self.benchmark.metrics()
        return {f"{one.name} ({one.split})" if one.split else one.name: comparison.number(one, "base") for one in metrics}


@pytest.fixture(scope="module", params=sorted(KNOWN))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    known = KNOWN[request.param]
    place = known.place(tmp_path_factory.mktemp(request.param))
    benchmark = read_benchmark(request.param, {"data": str(place), **known.settings})
    return Case(known, benchmark, place, limited(benchmark.questions(place), 30, 0))


def test_perfect_answers_score_perfect(case: Case) -> None:
    scores = case.scores([case.known.perfect(question) for question in case.questions])
    numbers = case.numbers(scores)
    assert {name: numbers[name].value for name in case.known.best} == pytest.approx(case.known.best, abs=1e-9)
    assert not any(score.guessed for score in scores)


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(case: Case, random: Random) -> None:
    texts = [random.choice([*ODD, case.known.perfect(question)]) for question in case.questions]
    order = random.sample(range(len(texts)), len(texts))
    first, second = (case.numbers(scores) for scores in (case.scores(texts), case.scores(texts, order)))
    for name, number in first.items():
        for told, again in zip(astuple(number), astuple(second[name]), strict=True):
            assert told == (pytest.approx(again) if isinstance(again, float) else again), name


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=40) | st.sampled_from(ODD), min_size=1, max_size=5))
def test_any_answers_have_a_finite_score_or_a_reason_for_none(case: Case, said: list[str]) -> None:
    scores = case.scores([said[at % len(said)] for at in range(len(case.questions))])
    for some in (scores, scores[:1]):
        for name, number in case.numbers(some).items():
            ends = [number.value, number.low, number.high]
            assert all(end is None or math.isfinite(end) for end in ends), name
            assert None not in ends or number.reason, name


SHARE = fraction("share", "hit", "asked", "asked", "higher", is_outcome=True)
PER = ratio("per", "hit", "asked", "asked", None, unit="objects")
F1 = Metric("F1", lambda sums: divided(2 * sums["hit"], sums["hit"] + sums["asked"]), "asked", "higher")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=2, max_size=30), st.integers(2, 4))
def test_answers_asked_again_about_the_same_pictures_narrow_no_interval(rows: list[tuple[int, int]], times: int) -> None:
    counted = [{"hit": min(hit, asked), "asked": asked} for hit, asked in rows]
    once = [Score(f"{at}", f"picture {at}", counts) for at, counts in enumerate(counted)]
    again = [Score(f"{at} {time}", f"picture {at}", counts) for at, counts in enumerate(counted) for time in range(times)]
    told = [Comparison({"base": Counts.of(scores)}, 200, 0) for scores in (once, again)]
    for metric in (PER, F1):
        first, second = (comparison.number(metric, "base") for comparison in told)
        assert (second.value, second.low, second.high) == pytest.approx((first.value, first.low, first.high))
        assert second.n == times * first.n


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=40, max_size=80).filter(lambda hits: 4 < sum(hits) < len(hits) - 4))
def test_a_share_of_questions_about_one_picture_is_as_sure_as_its_pictures(hits: list[bool]) -> None:
    six = [Score(f"{at} {time}", f"{at:02d}", {"hit": hit, "asked": 1}) for at, hit in enumerate(hits) for time in range(6)]
    apart = [Score(score.item_id, score.item_id, score.counts) for score in six]
    clustered, independent = (Comparison({"base": Counts.of(scores)}, 1000, 0).number(SHARE, "base") for scores in (six, apart))
    assert (clustered.interval, independent.interval) == ("bootstrap", "wilson")
    # six times as many items would make it narrower by the root of six, which is 2.4; draws come in steps of a picture
    assert 2.0 < (clustered.high - clustered.low) / (independent.high - independent.low) < 3.0
