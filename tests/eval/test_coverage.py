"""Intervals hold the truth in about 95 of 100 evaluations, and p is below 5 % in about 5 of 100 where nothing changed: simulated.

Answers about one picture go together: each picture has chances of its own, drawn around the known truth. A simulated evaluation
is one of 2,000 models on the same pictures, so that all share their draws, which makes no interval wider or narrower.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from sightline.eval.compare import (
    Comparison,
    Counts,
    Metric,
    divided,
    fraction,
    mcnemar,
    ratio,
    resample,
    smallest_difference,
    two_sided,
    wilson,
)

SIMULATIONS, DRAWS, QUESTIONS = 2000, 600, 6
SHARE = fraction("share", "hit", "asked", "asked", "higher")
F1 = Metric("F1", lambda sums: 100 * divided(2 * sums["hit"], sums["yes"] + sums["true"]), "asked", "higher")
CHAIR = ratio("CHAIR_i", "wrong", "mentions", "asked", "lower")


def answers(rng: np.random.Generator, pictures: int, share: float, questions: int = QUESTIONS, close: float = 8.0) -> np.ndarray:
    """Right answers (simulations, pictures) to so many questions a picture; the lower `close`, the more they go together."""
    chances = rng.beta(close * share, close * (1 - share), (SIMULATIONS, pictures))
    return rng.binomial(questions, chances)


def held(metric: Metric, truth: float, **columns: np.ndarray) -> float:
    """Share of the simulations whose interval holds the truth. Columns are (simulations, pictures)."""
    names = tuple(sorted(columns))
    tables = np.stack(np.broadcast_arrays(*(columns[name] for name in names)), axis=-1).astype(float)
    groups = tuple(map(str, range(tables.shape[1])))
    counts = {str(at): Counts(groups, names, table, frozenset()) for at, table in enumerate(tables)}
    comparison = Comparison(counts, DRAWS, 0)
    numbers = [comparison.number(metric, who) for who in counts]
    return float(np.mean([number.low <= truth <= number.high for number in numbers]))


@pytest.mark.parametrize(("n", "share"), [(96, 0.25), (218, 0.5), (300, 0.9), (3000, 0.85)])
def test_wilsons_interval_of_a_share_of_independent_items(n: int, share: float) -> None:
    hits = np.random.default_rng(n).binomial(n, share, SIMULATIONS)
    assert 0.93 <= np.mean([low <= share <= high for low, high in (wilson(hit, n) for hit in hits)]) <= 0.97


@pytest.mark.parametrize("pictures", [30, 500])
def test_a_share_of_questions_that_share_pictures(pictures: int) -> None:
    hit = answers(np.random.default_rng(pictures), pictures, 0.8)
    assert 0.93 <= held(SHARE, 80.0, hit=hit, asked=np.full(pictures, QUESTIONS)) <= 0.97
    n = pictures * QUESTIONS
    as_if_independent = [wilson(hits, n) for hits in hit.sum(1)]
    assert np.mean([low <= 0.8 <= high for low, high in as_if_independent]) < 0.90  # why pictures are resampled


@pytest.mark.parametrize("pictures", [30, 96, 500])
def test_f1_of_questions_that_share_pictures(pictures: int) -> None:
    rng = np.random.default_rng(pictures)
    half = QUESTIONS // 2
    hit, false = answers(rng, pictures, 0.8, half), answers(rng, pictures, 0.15, half)
    truth = 100 * 2 * 0.8 / (0.8 + 0.15 + 1)
    columns = {"hit": hit, "yes": hit + false, "true": np.full(pictures, half), "asked": np.full(pictures, QUESTIONS)}
    assert 0.93 <= held(F1, truth, **columns) <= 0.97


@pytest.mark.parametrize(("pictures", "share"), [(30, 0.25), (96, 0.2), (300, 0.05), (500, 0.2)])
def test_a_ratio_whose_whole_varies_from_picture_to_picture(pictures: int, share: float) -> None:
    rng = np.random.default_rng(pictures)
    mentions = rng.integers(1, 9, (SIMULATIONS, pictures))
    wrong = answers(rng, pictures, share, mentions)
    assert 0.93 <= held(CHAIR, 100 * share, wrong=wrong, mentions=mentions, asked=np.ones(pictures)) <= 0.97


def test_where_the_bootstrap_holds_less_than_it_says() -> None:
    # few pictures with rare errors that come in clumps: the docstring of `percentiles` warns of it
    rng = np.random.default_rng(1)
    mentions = rng.integers(1, 9, (SIMULATIONS, 30))
    wrong = answers(rng, 30, 0.05, mentions)
    assert 0.88 <= held(CHAIR, 5.0, wrong=wrong, mentions=mentions, asked=np.ones(30)) < 0.93


@pytest.mark.parametrize("pictures", [30, 500])
def test_two_equal_models_differ_by_p_below_5_percent_in_5_of_100_evaluations(pictures: int) -> None:
    rng = np.random.default_rng(pictures)
    # a model is right on all questions about a picture or on none: one item a picture, counted six times
    models = [QUESTIONS * rng.binomial(1, 0.8, (SIMULATIONS, pictures)).astype(float) for _ in range(2)]
    first, second = (resample(list(model[:, :, None]), DRAWS, 0) for model in models)
    found = [two_sided(two - one, pictures) for one, two in zip(first, second, strict=True)]
    assert 0.03 <= np.mean(np.array(found) < 0.05) <= 0.07
    only_first, only_second = ((one > other).sum(1) * QUESTIONS for one, other in (models, models[::-1]))
    by_items = [mcnemar(int(one), int(two)) for one, two in zip(only_first, only_second, strict=True)]
    assert np.mean(np.array(by_items) < 0.05) > 0.3  # McNemar's test on the six as if they were independent


def test_a_difference_as_large_as_what_would_show_is_found_in_80_of_100_evaluations() -> None:
    # one model alone is right on 15 % of 300 pictures: a gain that equals what would show solves g = z sqrt((.15 - g²) / 300)
    z = norm.ppf(0.975) + norm.ppf(0.8)
    gain = math.sqrt(0.15 / (300 / z**2 + 1))
    assert smallest_difference(math.sqrt((0.15 - gain**2) / 300)) == pytest.approx(gain)
    chances = [(0.15 + gain) / 2, (0.15 - gain) / 2, 0.85]
    better = np.random.default_rng(0).choice([1.0, -1.0, 0.0], (SIMULATIONS, 300, 1), p=chances)
    found = [two_sided(draws, 300) < 0.05 for draws in resample(list(better), DRAWS, 0)]
    assert 0.76 <= np.mean(found) <= 0.84
