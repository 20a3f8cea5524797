"""The headline and the verdicts say what the numbers say, and no more."""

import pytest
from markupsafe import Markup

from sightline.report.charts import Axis, Span, nice_ticks, strip_ticks, thinned
from sightline.report.results import benchmarks, footnotes, headline
from sightline.report.wording import duration, marked, number, signed


def result(base: float, aligned: float, low: float, high: float, metric: str = "CHAIR_i", better: str | None = "lower") -> dict:
    difference = {"value": aligned - base, "low": low, "high": high, "p": 0.5}
    spans = {"base": {"value": base}, "aligned": {"value": aligned}}
    return {"metric": metric, "better": better, "unit": "%", **spans, "difference": difference}


def said(*metrics: dict) -> str:
    found = benchmarks({"benchmarks": [{"benchmark": "chair", "rule": "clean", "n": 600, "metrics": list(metrics)}]})
    sentence = headline(found)
    return "" if sentence is None else sentence.striptags().replace("\u00a0", " ")


FELL = result(21.4, 6.3, -17.0, -13.2)
COVERAGE = "coverage"


def test_a_fall_that_its_interval_confirms_is_called_a_fall():
    held = result(94.1, 93.6, -1.4, 0.4, COVERAGE, "higher")
    assert said(FELL, held) == "Hallucinated objects fell from 21.4 % to 6.3 % of mentions; coverage held."


def test_a_loss_of_coverage_stands_in_the_same_sentence():
    lost = result(94.1, 80.0, -16.0, -12.2, COVERAGE, "higher")
    assert (
        said(FELL, lost) == "Hallucinated objects fell from 21.4 % to 6.3 % of mentions, but coverage fell from 94.1 % to 80.0 %."
    )


def test_a_large_but_uncertain_change_of_coverage_is_not_called_held():
    unsure = result(94.0, 90.0, -9.0, 1.0, COVERAGE, "higher")
    assert said(FELL, unsure).endswith("coverage is undecided (94.0 % before, 90.0 % after).")


def test_a_change_whose_interval_includes_zero_is_not_called_a_fall():
    assert (
        said(result(21.4, 20.0, -3.1, 0.3))
        == "Hallucinated objects did not clearly change: 21.4 % of mentions before, 20.0 % after."
    )


def test_a_rise_is_called_a_rise():
    assert said(result(6.0, 9.5, 1.0, 6.0)) == "Hallucinated objects rose from 6.0 % to 9.5 % of mentions."


def test_without_an_aligned_model_there_is_no_headline_and_no_verdict():
    alone = {"metric": "CHAIR_i", "better": "lower", "unit": "%", "base": {"value": 20.0, "low": 18.0, "high": 22.0}}
    found = benchmarks({"benchmarks": [{"benchmark": "chair", "n": 5, "metrics": [alone]}]})
    assert headline(found) is None
    assert not list(footnotes(found))
    assert found[0].metrics[0].verdict.word == ""


@pytest.mark.parametrize(
    ("low", "high", "better", "word"),
    [
        (-2.0, -1.0, "lower", "better"),
        (-2.0, -1.0, "higher", "worse"),
        (1.0, 2.0, "higher", "better"),
        (1.0, 2.0, "lower", "worse"),
        (-1.0, 1.0, "lower", "undecided"),
        (0.0, 1.0, "higher", "undecided"),
        (1.0, 2.0, None, "higher"),
        (-2.0, -1.0, "neither", "lower"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_better_side(low, high, better, word):
    line = result(50.0, 50.0 + (low + high) / 2, low, high, better=better)
    assert benchmarks({"benchmarks": [{"benchmark": "x", "metrics": [line]}]})[0].metrics[0].verdict.word == word


def test_only_whole_words_are_marked_and_answers_cannot_bring_html():
    text = marked("A cat, two cats & a category <b>", ["cat"], "absent")
    assert text == Markup('A <mark title="absent">cat</mark>, two <mark title="absent">cats</mark> &amp; a category &lt;b&gt;')


def test_numbers_read_as_people_write_them():
    assert [number(3), number(1200), number(-0.004), number(21.44), number(None)] == ["3", "1,200", "0.00", "21.4", "–"]
    assert [signed(0.5, 1), signed(-0.5, 1), signed(0.0, 1)] == ["+0.5", "−0.5", "0.0"]
    assert [duration(s).replace("\u00a0", " ") for s in (0.01, 3.14, 59.6, 192, 7500)] == [
        "< 0.1 s",
        "3.1 s",
        "1 min 0 s",
        "3 min 12 s",
        "2 h 5 min",
    ]


def test_ticks_are_round_and_hold_all_values():
    assert nice_ticks(0.03, 0.71) == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert nice_ticks(-3.2, 1.0) == [-4.0, -2.0, 0.0, 2.0]
    assert nice_ticks(5.0, 5.0) == [4.5, 5.0, 5.5]


def test_a_scale_starts_at_zero_where_that_costs_little_and_stays_within_bounds():
    assert strip_ticks([Span(21.4, 19.6, 23.1), Span(6.3, 5.1, 7.6)], (0, 100))[0] == 0
    ticks = strip_ticks([Span(98.0, 97.0, 99.0), Span(99.5, 98.9, 99.9)], (0, 100))
    assert ticks[0] >= 96
    assert ticks[-1] == 100
    assert Axis(0, 50, 10, 110).at(25) == 60


def test_a_ratio_above_a_hundred_percent_is_drawn_on_a_scale_that_holds_it():
    ratio = result(123.4, 104.1, -20.9, -17.8, "length_ratio")
    [benchmark] = benchmarks({"benchmarks": [{"benchmark": "chair", "n": 600, "metrics": [ratio]}]})
    assert "on a scale from 100 to 125" in str(benchmark.metrics[0].plot)


def test_long_curves_are_thinned_by_means_and_keep_their_end():
    points = [(float(step), 2.0 * step) for step in range(1000)]
    thin = thinned(points, most=100)
    assert len(thin) <= 100
    assert thin[0] == (5.0, 10.0)  # the mean of steps 0 to 10
    assert thin[-1] == points[-1]
