"""Intervals and paired comparisons, against SciPy and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap
from scipy.stats import norm as normal
from scipy.stats import t as student

from sightline.errors import DataError
from sightline.eval.compare import (
    Comparison,
    Counts,
    Score,
    fraction,
    holm,
    mcnemar,
    percentiles,
    ratio,
    resample,
    smallest_difference,
    two_sided,
    wilson,
)

RATE = fraction("rate", "hits", "asked", "asked", "higher", is_outcome=True)
PER = ratio("per", "hits", "asked", "asked", None, unit="objects")


def counts(hits: list[float], asked: list[float] | None = None, ids: list[str] | None = None) -> Counts:
    """One group for each entry."""
    asked = asked or [1.0] * len(hits)
    ids = ids or [str(number) for number in range(len(hits))]
    return Counts.of(
        [Score(i, f"{int(i):05d}", {"hits": hit, "asked": many}) for i, hit, many in zip(ids, hits, asked, strict=True)]
    )


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 600), (600, 600), (48, 96), (7, 13), (1499, 3000)])
def test_wilson_interval_equals_scipys(hits: int, n: int) -> None:
    theirs = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 5), (3, 17), (0, 12), (240, 300)])
def test_mcnemar_equals_scipys_binomial_test_of_the_discordant_items(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_resolving_power_equals_the_textbook_formula() -> None:
    # two independent rates near one half, 96 items each: 20.2 points; paired with 15 % discordant items: 11.1 points
    assert 100 * smallest_difference(math.sqrt(2 * 0.25 / 96)) == pytest.approx(20.2, abs=0.05)
    assert 100 * smallest_difference(math.sqrt(0.15 / 96)) == pytest.approx(11.1, abs=0.05)


def test_counts_add_up_the_answers_of_a_picture() -> None:
    found = Counts.of([Score("a", "2", {"x": 1}), Score("b", "1", {"x": 2, "y": 5}), Score("c", "2", {"x": 4})])
    assert found.groups == ("1", "2")
    assert found.column("x").tolist() == [2, 5]
    assert found.column("y").tolist() == [5, 0]
    assert found.column("never counted").tolist() == [0, 0]


def test_a_count_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="'y' is no finite number"):
        Counts.of([Score("a", "2", {"x": 1, "y": 1}), Score("b", "1", {"x": 2, "y": math.nan})])


def test_answers_that_count_for_nothing_have_no_columns() -> None:
    assert Counts.of([Score("a", "2", {}), Score("b", "1", {})]).column("x").tolist() == [0, 0]
    assert Counts.of([]).table.shape == (0, 0)


def test_a_share_of_pictures_gets_wilsons_interval() -> None:
    number = Comparison({"base": counts([1] * 30 + [0] * 70)}, 100, 0).number(RATE, "base")
    low, high = binomtest(30, 100).proportion_ci(0.95, method="wilson")
    assert (number.value, number.low, number.high) == pytest.approx((30, 100 * low, 100 * high))
    assert (number.n, number.interval) == (100, "wilson")


def test_a_share_of_several_items_a_picture_is_resampled_by_pictures() -> None:
    # six items a picture, all right or all wrong: as uncertain as 40 pictures are, not as 240 items
    number = Comparison({"base": counts([6] * 20 + [0] * 20, [6] * 40)}, 4000, 0).number(RATE, "base")
    assert (number.n, number.interval) == (240, "bootstrap")
    assert (number.low, number.high) == pytest.approx((50 - 15.5, 50 + 15.5), abs=1.5)  # 1.96 * sqrt(.25 / 40)


def test_the_bootstrap_equals_resampling_picture_by_picture() -> None:
    table = np.array([[1.0, 2.0], [0.0, 3.0], [4.0, 4.0]])
    (sums,) = resample([table], draws=50_000, seed=1)
    assert sums.mean(0) == pytest.approx(table.sum(0), rel=0.01)
    assert sums.var(0) == pytest.approx(3 * table.var(0), rel=0.03)


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    sample = counts([0, 3, 1, 2, 5, 0, 1], [5] * 7)
    one, same, other = (Comparison({"base": sample}, 300, seed).number(PER, "base") for seed in (4, 4, 5))
    assert one == same
    assert (one.low, one.high) != (other.low, other.high)


def test_a_paired_difference_is_narrower_than_two_separate_intervals() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(300)
    first = (rng.random(300) < hard).astype(float)
    second = np.where(rng.random(300) < 0.1, 1.0, first)
    comparison = Comparison({"base": counts(list(first)), "aligned": counts(list(second))}, 2000, 0)
    change = comparison.difference(RATE)
    base = comparison.number(RATE, "base")
    assert change.value == pytest.approx(100 * (second - first).mean())
    assert change.high - change.low < 0.7 * (base.high - base.low)
    # the mean of 300 differences: its own standard error, by the usual formula
    error = 100 * (second - first).std() / math.sqrt(300)
    assert (change.high - change.low) / (2 * 1.96) == pytest.approx(error, rel=0.1)
    assert change.resolvable == pytest.approx(2.8016 * error, rel=0.1)
    assert change.test == "mcnemar"
    assert change.p == pytest.approx(binomtest(int((first > second).sum()), int((first != second).sum())).pvalue)


def test_a_difference_of_a_model_and_itself_is_zero_and_undecided() -> None:
    sample = counts([0, 3, 1, 2, 5], [5] * 5)
    change = Comparison({"base": sample, "aligned": sample}, 200, 0).difference(PER)
    assert (change.value, change.low, change.high, change.p) == (0, 0, 0, 1)


def test_p_is_below_five_percent_where_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(0)
    for shift in np.linspace(0, 3, 31):
        draws = rng.normal(shift, 1, 4000)
        for groups in (8, 30, 2000):
            low, _ = percentiles(draws, groups)
            assert (two_sided(draws, groups) < 0.05) == (low > 0) or abs(low) < 0.02


def test_a_rate_of_zero_still_has_an_upper_end() -> None:
    none = Comparison({"base": counts([0] * 100, [3] * 100)}, 200, 0).number(
        fraction("x", "hits", "asked", "asked", "lower"), "base"
    )
    assert (none.value, none.low, none.interval) == (0, 0, "wilson")
    assert none.high == pytest.approx(100 * binomtest(0, 100).proportion_ci(0.95, method="wilson").high)


def test_a_metric_without_a_value_says_why() -> None:
    nothing = fraction("x", "hits", "never", "asked", "lower", undefined="never asked")
    comparison = Comparison({"base": counts([1, 0]), "aligned": counts([0, 0])}, 200, 0)
    assert (comparison.number(nothing, "base").value, comparison.number(nothing, "base").reason) == (None, "never asked")
    assert (comparison.difference(nothing).value, comparison.difference(nothing).reason) == (None, "never asked")


def test_draws_without_a_value_are_counted_not_hidden() -> None:
    number = Comparison({"base": counts([1, 0, 0, 0, 0], [1, 1, 0, 0, 0])}, 1000, 0).number(PER, "base")
    # a draw of five misses both pictures that count in (3/5)^5 of the cases
    assert number.reason is not None
    assert int(number.reason.split()[0]) == pytest.approx(1000 * 0.6**5, abs=30)


def test_models_that_answered_different_items_are_not_compared() -> None:
    with pytest.raises(DataError, match="2 differ"):
        Comparison({"base": counts([1, 0]), "aligned": counts([1, 0], ids=["0", "7"])}, 200, 0)


def test_one_picture_alone_has_a_value_and_no_interval_but_for_a_share_of_it() -> None:
    alone = {"base": counts([3], [4]), "aligned": counts([1], [4])}
    comparison = Comparison(alone, 200, 0)
    number, change = comparison.number(PER, "base"), comparison.difference(PER)
    assert (number.value, number.low, number.reason) == (0.75, None, "one picture alone has no spread")
    assert (change.value, change.low, change.p, change.reason) == (-0.5, None, None, "one picture alone has no spread")
    share = comparison.number(fraction("x", "hits", "asked", "asked", "higher"), "base")
    assert (share.low, share.high) == pytest.approx(tuple(100 * end for end in wilson(0.75, 1)))


def test_models_that_never_differ_do_not_tell_what_would_show() -> None:
    sample = counts([0, 3, 1, 2, 5], [5] * 5)
    assert Comparison({"base": sample, "aligned": sample}, 200, 0).difference(PER).resolvable is None


def test_holm_by_hand() -> None:
    # ordered .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and none below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_percentiles_are_widened_to_what_t_and_the_missing_degree_of_freedom_ask() -> None:
    # of normal draws with the bootstrap's variance of a mean, s²(G-1)/G², the interval is the mean's t interval
    draws = np.random.default_rng(0).normal(0, math.sqrt(9 / 10) * 1.0, 2_000_000)
    low, high = percentiles(draws, 10)
    assert (low, high) == pytest.approx(student.interval(0.95, df=9), rel=0.01)


def test_three_models_are_compared_with_the_first_on_the_same_draws() -> None:
    many = {"a": counts([0, 3, 1, 2], [5] * 4), "b": counts([1, 3, 2, 2], [5] * 4), "c": counts([5, 3, 4, 2], [5] * 4)}
    together = Comparison(many, 500, 1)
    alone = Comparison({"a": many["a"], "c": many["c"]}, 500, 1)
    assert together.difference(PER, "c") == alone.difference(PER)


def test_a_bootstrapped_ratio_has_scipys_interval_at_the_widened_level() -> None:
    rng = np.random.default_rng(5)
    asked = rng.integers(1, 6, size=25)
    hits = rng.binomial(asked, rng.beta(2, 6, size=25))
    number = Comparison({"base": counts(list(hits), list(asked))}, 20_000, 0).number(PER, "base")
    level = 1 - 2 * normal.cdf(-math.sqrt(25 / 24) * student.ppf(0.975, 24))
    theirs = bootstrap(
        (hits, asked),
        lambda some, of, axis: some.sum(axis) / of.sum(axis),
        paired=True,
        method="percentile",
        confidence_level=level,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (number.low, number.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
