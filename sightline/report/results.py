"""What the benchmarks say: the headline, the table with intervals, and answers before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sightline.report.charts import Span, before_and_after
from sightline.report.pictures import Pictures, Shown
from sightline.report.wording import amount, ends, marked, number, p_value, signed

MEANINGS = {
    "chair_i": "hallucinated, of all objects mentioned",
    "chair_s": "answers with a hallucinated object",
    "coverage": "true objects that are mentioned",
    "recall": "of the true answers “yes”, those that are found",
    "accuracy": "right answers to yes/no questions",
    "f1": "balance of precision and recall on “yes”",
    "precision": "of the “yes” answers, those that are right",
    "yes_rate": "how often the answer is yes",
    "yes_ratio": "how often the answer is yes",
    "mentions": "objects mentioned in an answer",
    "length_ratio": "length of an answer, over that of a full true one",
    "words": "mean length of an answer",
    "length": "mean length of an answer",
    "rating": "mean of the judge's ratings",
    "hallucination": "answers that hallucinate, by the judge's rating",
    "informativeness": "how much the answers tell, true or not, by the judge's rating",
    "relative_score": "mean rating of the answers, over that of GPT-4's",
}
ASIDES = {
    "guesses": "Answers where the reading rule had to guess",
    "cut": "Answers cut at the longest length allowed",
    "empty": "Empty answers",
    "unreadable": "Replies of the judge that could not be read",
    "unjudged": "Answers without a score, because no reply of the judge could be had",
}
HELD_WITHIN = 2.0
"""An undecided change of at most this many points is called 'held'."""


@dataclass(frozen=True)
class Verdict:
    """better, worse, undecided; higher or lower where neither is better; '' where there is no interval."""

    word: str
    tone: str
    sign: str


@dataclass(frozen=True)
class Metric:
    """One line of the table."""

    name: str
    meaning: str
    unit: str
    better: str
    n: int | None
    base: Span | None
    aligned: Span | None
    difference: Span | None
    p: float | None
    resolvable: float | None
    reason: str
    plot: Markup | None

    @property
    def wanted(self) -> str:
        return {"lower": "lower is better", "higher": "higher is better"}.get(self.better, "")

    @property
    def points(self) -> str:
        """Unit of a difference."""
        return "points" if self.unit == "%" else self.unit

    @property
    def needed(self) -> str:
        """How large a difference these items would have shown, where they decide nothing."""
        if self.resolvable is None or self.verdict.word != "undecided":
            return ""
        return f"{number(self.resolvable, self.digits)} {self.points} would show"

    @property
    def p_text(self) -> str:
        return p_value(self.p)

    def shown(self, span: Span | None) -> str:
        return amount(span.value if span else None, self.unit)

    def interval(self, span: Span | None, plus: bool = False) -> str:
        if span is None or span.low is None or span.high is None:
            return ""
        return ends((span.low, span.high), self.digits, plus)

    @property
    def digits(self) -> int | None:
        return 1 if self.unit in ("%", "words") else None

    @property
    def change(self) -> str:
        return signed(self.difference.value, self.digits) if self.difference else "–"

    @property
    def verdict(self) -> Verdict:
        change = self.difference
        if change is None or change.low is None or change.high is None:
            return Verdict("", "none", "")
        if change.low <= 0 <= change.high:
            return Verdict("undecided", "undecided", "≈")
        up = change.value > 0
        sign = "▲" if up else "▼"
        if self.better not in ("higher", "lower"):
            return Verdict("higher" if up else "lower", "undecided", sign)
        return Verdict("better", "good", sign) if up == (self.better == "higher") else Verdict("worse", "bad", sign)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, read by one rule."""

    name: str
    rule: str
    kind: str
    n: int | None
    metrics: list[Metric]
    by_split: list[Metric]
    asides: list[str]


@dataclass(frozen=True)
class Example:
    """A picture, and what was said of it before and after."""

    picture: Shown | None
    question: str
    base: Markup
    aligned: Markup | None
    num_base: int
    num_aligned: int
    truth: str


def benchmarks(results: dict[str, Any]) -> list[Benchmark]:
    return [_benchmark(entry) for entry in results.get("benchmarks") or []]


def _benchmark(entry: dict[str, Any]) -> Benchmark:
    lines = entry.get("metrics") or []
    return Benchmark(
        name=str(entry["benchmark"]),
        kind=str(entry.get("kind") or entry["benchmark"]).lower(),
        rule=str(entry.get("rule") or ""),
        n=entry.get("n"),
        metrics=[_metric(line, entry.get("n")) for line in lines if not line.get("split")],
        by_split=[_metric(line, entry.get("n")) for line in lines if line.get("split")],
        asides=[
            *_asked(entry),
            *_judged(entry),
            *(f"{what}: {_by_model(entry[key])}." for key, what in ASIDES.items() if _by_model(entry.get(key))),
        ],
    )


def _asked(entry: dict[str, Any]) -> Iterator[str]:
    if entry.get("suffix"):
        added = str(entry["suffix"]).strip()
        yield f"The aligned model was asked the same with this behind it: “{added}”; the base model the benchmark's own question."


def _judged(entry: dict[str, Any]) -> Iterator[str]:
    judge = entry.get("judge")
    if judge:
        times = "once" if judge["repeats"] == 1 else f"{judge['repeats']} times"
        yield (
            f"Rated by the judge {judge['model']} (weights and settings {judge['identity']}, prompt {judge['prompt']}), asked "
            f"{times} about each answer. Numbers of another judge or prompt do not compare."
        )


def _metric(line: dict[str, Any], n: int | None) -> Metric:
    base, aligned, unit = read_span(line.get("base")), read_span(line.get("aligned")), str(line.get("unit") or "")
    change = line.get("difference") or {}
    told = [line.get("base") or {}, line.get("aligned") or {}, change]
    name = str(line["metric"])
    return Metric(
        name=name,
        meaning=MEANINGS.get(name.lower().replace(" ", "_"), ""),
        unit=unit,
        better=str(line.get("better") or "neither"),
        n=line.get("n", n),
        base=base,
        aligned=aligned,
        difference=read_span(change),
        p=change.get("p"),
        resolvable=change.get("resolvable"),
        reason=next((str(entry["reason"]) for entry in told if entry.get("reason")), ""),
        plot=_plot(base, aligned, unit),
    )


def read_span(entry: dict[str, Any] | None) -> Span | None:
    """A number of results.json; None where it has no value."""
    if not entry or entry.get("value") is None:
        return None
    return Span(entry["value"], entry.get("low"), entry.get("high"))


def _plot(base: Span | None, aligned: Span | None, unit: str) -> Markup | None:
    if base is None or aligned is None:
        return None
    is_share = unit == "%" and max(base.value, aligned.value) <= 100  # a ratio of lengths may be more
    return before_and_after(base, aligned, (0, 100) if is_share else None)


def _by_model(counts: dict[str, int] | None) -> str:
    """'base 3, aligned 5'; '' where there is nothing to count."""
    return ", ".join(f"{who} {number(count)}" for who, count in counts.items()) if counts and any(counts.values()) else ""


# The headline: the one sentence that a person should take home, and it has to be as honest as the table


def headline(found: list[Benchmark]) -> Markup | None:
    """What became of hallucination (or of the first metric that has a better side), and of coverage with it."""
    lead, bench = _lead(found)
    if lead is None or bench is None:
        return None
    coverage = _find(bench, "coverage") if lead.name.lower().startswith("chair") else None
    return Markup("{}{}.").format(_moved(lead), _coverage(coverage, lead.verdict.tone == "good"))


def _lead(found: list[Benchmark]) -> tuple[Metric | None, Benchmark | None]:
    ordered = sorted(found, key=lambda bench: (bench.kind != "chair", bench.rule != "clean"))
    for names in (("chair_i",), ("chair_s",), ("accuracy",), ()):
        for bench in ordered:
            metric = _find(bench, *names)
            if metric is not None and metric.base and metric.aligned:
                return metric, bench
    return None, None


def _find(bench: Benchmark, *names: str) -> Metric | None:
    """The metric of one of these names; with no names, the first that has a better side."""
    for metric in bench.metrics:
        if metric.name.lower() in names or (not names and metric.wanted):
            return metric
    return None


def _moved(metric: Metric) -> Markup:
    subject, of = {
        "chair_i": ("Hallucinated objects", " of mentions"),
        "chair_s": ("Answers that hallucinate", " of answers"),
    }.get(metric.name.lower(), (metric.name, ""))
    before, after = metric.shown(metric.base), metric.shown(metric.aligned)
    tone = metric.verdict.tone
    if tone in ("good", "bad"):
        verb = "rose" if metric.difference and metric.difference.value > 0 else "fell"
        return Markup('{} {} from <b class="was">{}</b> to <b class="{}">{}</b>{}').format(subject, verb, before, tone, after, of)
    doubt = "did not clearly change" if tone == "undecided" else "moved, with no interval to judge it by"
    return Markup("{} {}: {}{} before, {} after").format(subject, doubt, before, of, after)


def _coverage(metric: Metric | None, is_gain: bool) -> Markup | str:
    if metric is None or metric.base is None or metric.aligned is None:
        return ""
    before, after, tone = metric.shown(metric.base), metric.shown(metric.aligned), metric.verdict.tone
    if tone == "bad":
        return Markup('{} coverage fell from {} to <b class="bad">{}</b>').format(", but" if is_gain else ", and", before, after)
    if tone == "good":
        return Markup("; coverage rose from {} to {}").format(before, after)
    change = metric.difference.value if metric.difference else metric.aligned.value - metric.base.value
    return "; coverage held" if abs(change) <= HELD_WITHIN else f"; coverage is undecided ({before} before, {after} after)"


def footnotes(found: list[Benchmark]) -> Iterator[str]:
    """Under the headline: how sure it is, and what happened to the numbers it does not name."""
    lead, bench = _lead(found)
    if lead is None or bench is None:
        return
    if lead.interval(lead.difference):
        yield (
            f"{lead.name} changed by {lead.change} {lead.points} (95 % interval {lead.interval(lead.difference, plus=True)}), "
            f"compared picture by picture on {number(lead.n)} answers."
        )
    for metric in (_find(bench, "words", "length"), *(_find(other, "accuracy") for other in found if other.kind != bench.kind)):
        if metric and metric is not lead and metric.base and metric.aligned:
            what = "Length of answers" if metric.name.lower() in ("words", "length") else f"{_owner(found, metric)} accuracy"
            verdict = f", {metric.verdict.word}" if metric.verdict.word else ""
            yield f"{what}: {metric.shown(metric.base)} before, {metric.shown(metric.aligned)} after{verdict}."


def _owner(found: list[Benchmark], metric: Metric) -> str:
    return next(bench.name for bench in found if metric in bench.metrics).upper()


def examples(results: dict[str, Any], pictures: Pictures, count: int) -> list[Example]:
    return [_example(entry, pictures) for entry in (results.get("examples") or [])[:count]]


def _example(entry: dict[str, Any], pictures: Pictures) -> Example:
    before, after = entry.get("hallucinated_base") or [], entry.get("hallucinated_aligned") or []
    truth = entry.get("truth") or ""
    return Example(
        picture=pictures.show(entry.get("picture")),
        question=str(entry.get("question") or ""),
        base=marked(str(entry.get("base") or ""), before, "not in the picture"),
        aligned=marked(str(entry["aligned"]), after, "not in the picture") if entry.get("aligned") is not None else None,
        num_base=len(before),
        num_aligned=len(after),
        truth=truth if isinstance(truth, str) else ", ".join(map(str, truth)),
    )


def opening(shown: list[Example]) -> Example | None:
    """The example to open the page with: hallucinated before, not after, with its picture at hand."""
    fitting = (example for example in shown if example.picture and example.aligned)
    return next((example for example in fitting if example.num_base and not example.num_aligned), None)
