"""Numbers with their doubt: 95 % intervals, and paired comparisons of two models on the same items.

A benchmark's answers are counted per picture; a metric is a function of the summed counts. So every interval resamples whole
pictures (questions about one picture are not independent), and recomputes the whole metric for each draw.

Axes: D draws, G groups (pictures), C columns of counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from scipy.special import bdtr, ndtr, ndtri, stdtr, stdtrit

from sightline.errors import DataError

CONFIDENCE = 0.95
POWER = 0.8
ONE_PICTURE = "one picture alone has no spread"
BLOCK = 4_000_000  # cells of a block of draws: bounds the memory, whatever the number of pictures

Sums = Mapping[str, np.ndarray]
Better = Literal["higher", "lower"] | None


@dataclass(frozen=True)
class Score:
    """What one answer adds to the counts; `guessed` where the reading rule had nothing to go by."""

    item_id: str
    group: str
    counts: Mapping[str, float]
    guessed: bool = False
    hallucinated: tuple[str, ...] = ()
    """As the answer words it, for readers of the page."""
    truth: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Metric:
    """A number made of summed counts: `value` takes them by column, over any number of draws; NaN where there is none."""

    name: str
    value: Callable[[Sums], np.ndarray]
    items: str
    """Column that counts the items behind it; a metric without any is left out."""
    better: Better
    unit: str = "%"
    split: str | None = None
    undefined: str = "nothing to divide by"
    """Why there is no value, where there is none."""
    fraction: tuple[str, str] | None = None
    """Columns (part, whole) where it is a fraction of 0 to 1, before its unit."""
    is_outcome: bool = False
    """True where each item is a hit or not, whatever the model says; where no two share a picture, exact rules apply."""
    needs: str | None = None
    """Column that must not be 0 for the metric to mean anything, though it does not divide by it."""

    def of(self, sums: Sums) -> np.ndarray:
        """The metric, NaN where it has no value."""
        values = self.value(sums)
        return values if self.needs is None else np.where(sums[self.needs] == 0, np.nan, values)


def ratio(name: str, part: str, whole: str, items: str, better: Better, unit: str = "%", **more: Any) -> Metric:
    """Metric that divides one sum by another; in % where no other unit is given."""
    scale = 100.0 if unit == "%" else 1.0
    return Metric(name, lambda sums: scale * divided(sums[part], sums[whole]), items, better, unit, **more)


def fraction(name: str, part: str, whole: str, items: str, better: Better, **more: Any) -> Metric:
    """Ratio in % whose part lies within the whole."""
    return ratio(name, part, whole, items, better, fraction=(part, whole), **more)


def divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole != 0)


@dataclass(frozen=True)
class Counts:
    """Summed counts per group (G, C), and which items they are of."""

    groups: tuple[str, ...]
    columns: tuple[str, ...]
    table: np.ndarray
    items: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, scores: Sequence[Score]) -> Counts:
        """Add up the answers of each group; ValueError where a count is no finite number."""
        groups = tuple(sorted({score.group for score in scores}))
        columns = tuple(sorted({column for score in scores for column in score.counts}))
        rows, places = {group: row for row, group in enumerate(groups)}, {column: place for place, column in enumerate(columns)}
        cells = [rows[score.group] * len(columns) + places[column] for score in scores for column in score.counts]
        amounts = [count for score in scores for count in score.counts.values()]
        table = np.bincount(np.array(cells, np.intp), np.array(amounts, float), len(groups) * len(columns))
        if not np.isfinite(table).all():
            raise ValueError(f"a score of {columns[int(np.argmin(np.isfinite(table))) % len(columns)]!r} is no finite number")
        return cls(groups, columns, table.reshape(len(groups), len(columns)), frozenset(score.item_id for score in scores))

    def named(self, sums: np.ndarray) -> Sums:
        """Sums (D, C) by column; a column that nothing was counted in is 0."""
        return _Columns({column: sums[:, place] for place, column in enumerate(self.columns)}, np.zeros(len(sums)))

    def column(self, name: str) -> np.ndarray:
        """One column, per group."""
        return self.named(self.table)[name]

    def total(self, metric: Metric) -> float:
        """The metric over all groups."""
        return float(metric.of(self.named(self.table.sum(0, keepdims=True)))[0])


class _Columns(dict[str, np.ndarray]):
    def __init__(self, columns: Mapping[str, np.ndarray], missing: np.ndarray) -> None:
        super().__init__(columns)
        self.missing = missing

    def __missing__(self, name: str) -> np.ndarray:
        return self.missing


@dataclass(frozen=True)
class Number:
    """A metric of one model; without a value it says why. `interval` names the rule: wilson or bootstrap."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    interval: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Difference:
    """A metric of the second model less the first's, on the same items. `test` names the rule of p: mcnemar or bootstrap."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    test: str | None = None
    resolvable: float | None = None
    """The smallest true difference that this many pictures of this spread show in 80 % of such comparisons."""
    reason: str | None = None


def wilson(hits: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of independent items (Wilson, 1927)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # at the ends the formula gives 0 and 1 but for rounding
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == n else centre + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of items that one model alone gets right: a fair coin, thrown for each."""
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def percentiles(draws: np.ndarray, groups: int) -> tuple[float, float]:
    """95 % interval from draws over this many groups: the expanded percentile interval (Hesterberg, 2015).

    Draws scatter with the groups' variance over G, not G - 1, and as if it were known. So plain percentiles hold too little with
    few groups; here t stands for z, and the missing sqrt(G / (G - 1)) is put in. In 2,000 simulations with six correlated answers
    a picture it holds 93 to 97 % from 30 pictures on, plain percentiles from about 100 on. A share of a few per cent whose cases
    come in clumps needs about 100: with 48 it is 91 %.
    """
    known = draws[~np.isnan(draws)]
    tail = ndtr(math.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, (1 - CONFIDENCE) / 2))
    low, high = np.percentile(known, [100 * tail, 100 * (1 - tail)])
    return float(low), float(high)


def two_sided(draws: np.ndarray, groups: int) -> float:
    """p of no difference: below 5 % where the draws' interval excludes 0. Never below what 2 of the draws come to."""
    known = draws[~np.isnan(draws)]
    fewer = min((known <= 0).sum(), (known >= 0).sum())
    z = ndtri((1 + fewer) / (1 + len(known)))
    return min(1.0, 2 * float(stdtr(groups - 1, z * math.sqrt((groups - 1) / groups))))


def holm(family: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, each corrected for all of them (Holm, 1979), in their order.

    Where no difference is real, one of them or more falls below 5 % in at most one of 20 such families.
    """
    order = np.argsort(family)
    steps = np.asarray(family)[order] * np.arange(len(family), 0, -1)
    corrected = np.empty(len(family))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()


def smallest_difference(standard_error: float) -> float:
    """What a two-sided 5 % test of a difference with this standard error finds with a power of 80 %."""
    normal = NormalDist()
    return (normal.inv_cdf((1 + CONFIDENCE) / 2) + normal.inv_cdf(POWER)) * standard_error


def resample(tables: Sequence[np.ndarray], draws: int, seed: int) -> list[np.ndarray]:
    """Sums (D, C) of each table over groups drawn with replacement: the same draws for all tables, so that they stay paired."""
    groups = len(tables[0])
    rng = np.random.default_rng([seed, 0])
    sums: list[list[np.ndarray]] = [[] for _ in tables]
    for rows in _blocks(draws, groups):
        weights = rng.multinomial(groups, np.full(groups, 1 / groups), size=rows).astype(np.float64)
        for held, table in zip(sums, tables, strict=True):
            held.append(weights @ table)
    return [np.concatenate(held) for held in sums]


def _blocks(draws: int, groups: int) -> Iterator[int]:
    most = max(1, BLOCK // groups)
    for start in range(0, draws, most):
        yield min(most, draws - start)


class Comparison:
    """Measures metrics of one model, or of two on the same items, from one set of draws."""

    def __init__(self, models: Mapping[str, Counts], draws: int, seed: int) -> None:
        refuse_different_items(models)
        self.models = dict(models)
        tables = _aligned([counts.columns for counts in models.values()], [counts.table for counts in models.values()])
        self.columns, stacked = tables
        self.counts = {
            who: Counts(counts.groups, self.columns, table, counts.items)
            for (who, counts), table in zip(models.items(), stacked, strict=True)
        }
        self.drawn = dict(zip(models, resample(stacked, draws, seed), strict=True))

    def number(self, metric: Metric, who: str) -> Number:
        """The metric of one model, with its interval."""
        counts = self.counts[who]
        value, n = counts.total(metric), int(counts.column(metric.items).sum())
        if math.isnan(value):
            return Number(None, n=n, reason=metric.undefined)
        if self._is_plain_share(metric):
            assert metric.fraction is not None
            part, whole = (int(counts.column(name).sum()) for name in metric.fraction)
            low, high = wilson(part, whole)
            return Number(value, 100 * low, 100 * high, n, "wilson")
        draws = metric.of(counts.named(self.drawn[who]))
        pictures = _pictures(counts, metric.items)
        if pictures < 2 or not _spread(draws):
            return _without_spread(metric, counts, value, n)
        return Number(value, *percentiles(draws, pictures), n, "bootstrap", _gaps(draws))

    def difference(self, metric: Metric, who: str | None = None) -> Difference:
        """The metric of `who` (of the second model, if none is named) less the first's."""
        first, second, *_ = self.counts
        other = who or second
        value = self.counts[other].total(metric) - self.counts[first].total(metric)
        if math.isnan(value):
            return Difference(None, reason=metric.undefined)
        drawn = [metric.of(self.counts[model].named(self.drawn[model])) for model in (first, other)]
        draws = drawn[1] - drawn[0]
        pictures = _pictures(self.counts[first], metric.items)
        if pictures < 2:
            return Difference(value, reason=ONE_PICTURE)
        p, test = self._p(metric, first, other, draws)
        resolvable = smallest_difference(_spread(draws)) or None  # models that never differ tell nothing of it
        return Difference(value, *percentiles(draws, pictures), p, test, resolvable, _gaps(draws))

    def _p(self, metric: Metric, first: str, other: str, draws: np.ndarray) -> tuple[float, str]:
        """p of no difference, and its test.

        McNemar's exact test is for hits and misses on items of which no two share a picture: it takes the items on which one
        model alone is right for throws of a coin. Questions about one picture (POPE asks six) are right or wrong together, as a
        thing overlooked or imagined decides several, so that it would count the same evidence several times, and find differences
        where there are none. Where questions share pictures, pictures are resampled, both models' answers with them.
        """
        if not self._is_plain_share(metric):
            return two_sided(draws, _pictures(self.counts[first], metric.items)), "bootstrap"
        assert metric.fraction is not None
        before, after = (self.counts[model].column(metric.fraction[0]) for model in (first, other))
        return mcnemar(int((before > after).sum()), int((after > before).sum())), "mcnemar"

    def _is_plain_share(self, metric: Metric) -> bool:
        """True where the metric counts hits among items of which no two share a picture."""
        if not metric.is_outcome or metric.fraction is None:
            return False
        wholes = [counts.column(metric.fraction[1]) for counts in self.counts.values()]
        # where a judge's replies are missing, the models are not rated on the same answers
        return all(whole.max() <= 1 and np.array_equal(whole, wholes[0]) for whole in wholes)


def refuse_different_items(models: Mapping[str, Counts]) -> None:
    """DataError where two models were not asked the same."""
    (first, known), *others = models.items()
    for who, counts in others:
        if counts.items != known.items or counts.groups != known.groups:
            differing = len(counts.items ^ known.items)
            problem = f"these answers are to different items ({differing} differ)"
            raise DataError(f"{first} and {who}", problem, "compare answers to the same items")


def _aligned(columns: Sequence[tuple[str, ...]], tables: Sequence[np.ndarray]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """The tables with the columns of all of them, in one order; what a table lacks it counted 0 times."""
    every = tuple(sorted({column for names in columns for column in names}))
    widened = []
    for names, table in zip(columns, tables, strict=True):
        wide = np.zeros((len(table), len(every)))
        wide[:, [every.index(name) for name in names]] = table
        widened.append(wide)
    return every, widened


def _without_spread(metric: Metric, counts: Counts, value: float, n: int) -> Number:
    """A metric that no draw changes, as all pictures are alike: of a share it is known all the same what they rule out."""
    pictures = _pictures(counts, metric.items if metric.fraction is None else metric.fraction[1])
    if metric.fraction is not None:
        low, high = wilson(value / 100 * pictures, pictures)
        return Number(value, 100 * low, 100 * high, n, "wilson")
    if pictures < 2:
        return Number(value, n=n, reason=ONE_PICTURE)
    return Number(value, value, value, n, "bootstrap", "all pictures are alike: the interval knows no others")


def _spread(draws: np.ndarray) -> float:
    """Standard deviation of the draws; 0 where rounding alone sets them apart."""
    spread = float(np.nanstd(draws))
    return spread if spread > 1e-9 * float(np.nanmax(np.abs(draws))) else 0.0


def _gaps(draws: np.ndarray) -> str | None:
    gaps = int(np.isnan(draws).sum())
    return f"{gaps} of {len(draws)} draws had no value and are not in the interval" if gaps else None


def _pictures(counts: Counts, items: str) -> int:
    return int((counts.column(items) > 0).sum())
