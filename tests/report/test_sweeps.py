"""A sweep's tables and plot, against numbers worked out by hand."""

import csv
import json
import xml.etree.ElementTree as ElementTree

import pytest

from sightline.errors import RunError
from sightline.report.charts import Span
from sightline.report.sweep_plot import Scale, plot
from sightline.report.sweeps import Entry, Measured, Metric, Sweeps, markdown

CHAIR = Metric("chair", "CHAIR_i", None, "%", "lower")
WORDS = Metric("chair", "words", None, "words", None)


def entry(
    size: str, seed: str, value: float | None, items: str = "a", rule: str = "clean", num_pairs: int | None = None
) -> Entry:
    """A run whose base scores 27; its interval is 2 wide, that of its difference 4."""
    aligned = None if value is None else Span(value, value - 1, value + 1)
    change = None if value is None else Span(value - 27, value - 29, value - 25)
    measured = [
        Measured(CHAIR, 600, Span(27.0, 25.0, 29.0), aligned, change, 0.01),
        Measured(WORDS, 600, Span(9.5), Span(8.0), None, None),
    ]
    terms = {"chair": [[[0, items]], {"rule": rule}, None]}
    return Entry((size, seed), f"num_pairs-{size}-seed-{seed}", num_pairs or int(size), 16, terms, measured)


def sweep(*entries: Entry, **more: object) -> Sweeps:
    axes = {"train.num_pairs": ["50", "100", "200"], "train.seed": ["0", "1", "2"]}
    return Sweeps("sizes", axes, {"train.seed"}, list(entries), **{"planned": len(entries), **more})


SIZES = sweep(
    *(
        entry(size, str(seed), value)
        for size, values in (("50", (10, 12, 17)), ("100", (26,)))
        for seed, value in enumerate(values)
    )
)


def test_a_point_has_the_mean_of_its_seeds_and_the_spread_between_them():
    """10, 12, 17: mean 13, squared distances 9 + 1 + 16 = 26, over 2, root 3.606."""
    few, more = SIZES.means[:2]
    assert few.labels == ("50",) and (few.num_runs, few.num_values, few.num_pairs) == (3, 3, 50)
    assert (few.value, few.base, few.difference) == (13, 27, -14)
    assert few.spread == pytest.approx(13**0.5) == few.difference_spread
    assert few.within == (12, 14) and few.difference_within == (-16, -12) and few.num_apart == 3
    assert more.value == 26 and more.spread is None
    assert more.num_apart == 0  # -1 with an interval from -3 to 1


def test_the_markdown_table_has_a_line_for_each_point():
    text = markdown(SIZES)
    assert "## chair: CHAIR_i (%, lower is better)" in text and "4 runs. mean:" in text
    assert "| 50 | 50 | 3 | 27.0 | 13.0 | 3.6 | 12.0 to 14.0 | −14.0 | 3.6 | −16.0 to −12.0 | 3 of 3 |" in text
    assert "| 100 | 100 | 1 | 27.0 | 26.0 | – | 25.0 to 27.0 | −1.0 | – | −3.0 to +1.0 | 0 of 1 |" in text
    assert "## chair: words (words)" in text


def test_a_run_without_a_value_is_counted_and_not_zero():
    gaps = sweep(entry("50", "0", 10), entry("50", "1", None))
    assert gaps.means[0].value == 10 and gaps.means[0].num_values == 1
    assert "| 50 | 50 | 1 of 2 | 27.0 | 10.0 |" in markdown(gaps)


def test_csv_and_json_hold_every_run(tmp_path):
    SIZES.write(tmp_path)
    with (tmp_path / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 2
    assert {
        key: rows[0][key] for key in ("train.num_pairs", "train.seed", "name", "aligned", "aligned_low", "difference", "p")
    } == {
        "train.num_pairs": "50",
        "train.seed": "0",
        "name": "CHAIR_i",
        "aligned": "10",
        "aligned_low": "9",
        "difference": "-17",
        "p": "0.01",
    }
    told = json.loads((tmp_path / "sweep.json").read_text())
    assert told["axes"]["train.num_pairs"] == ["50", "100", "200"] and told["repeated"] == ["train.seed"]
    assert told["means"][0]["value"] == 13 and told["means"][0]["labels"] == {"train.num_pairs": "50"}
    assert len(told["runs"]) == len(rows)
    assert "<td>50</td>" in (tmp_path / "sweep.html").read_text()


def test_a_sweep_that_is_not_finished_says_so():
    assert "1 of 9 runs so far" in markdown(sweep(entry("50", "0", 10), planned=9))


@pytest.mark.parametrize("other", [{"items": "b"}, {"rule": "published"}])
def test_runs_that_were_not_measured_alike_are_refused(other):
    with pytest.raises(RunError, match="chair was not measured alike"):
        sweep(entry("50", "0", 10), entry("100", "0", 10, **other))


def test_the_plot_has_a_dot_for_each_run_at_its_size():
    """100 lies a third of the way from 50 to 200; the axis begins and ends 8 % of that way further out."""
    drawn = sweep(entry("50", "0", 10), entry("100", "1", 12), entry("200", "1", 14))
    tree = ElementTree.fromstring(plot(drawn))
    dots = list(tree.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(dots) == 3  # words have no better side and no panel
    axis = Scale.of(drawn).axis()
    assert (axis.low, axis.high) == (50 - 12, 200 + 12)
    at = [float(dot.get("cx")) for dot in dots]
    assert (at[1] - at[0]) / (at[2] - at[0]) == pytest.approx(1 / 3, abs=1e-3)
    assert float(dots[0].get("cy")) > float(dots[2].get("cy"))  # 10 below 14


def test_pairs_are_placed_by_how_many_trained_and_words_side_by_side():
    every = sweep(entry("50", "0", 10), entry("null", "0", 12, num_pairs=239))
    assert Scale.of(every).places == {"50": 50, "null": 239}
    wide = sweep(entry("10", "0", 10), entry("1000", "0", 12))
    assert Scale.of(wide).places == pytest.approx({"10": 1, "1000": 3})
    named = Sweeps("how", {"how": ["dpo", "sft"]}, set(), [Entry((how,), how, 9, 1, {}, []) for how in ("dpo", "sft")], 2)
    assert Scale.of(named).places == {"dpo": 0, "sft": 1} and not Scale.of(named).is_numeric


def test_lines_of_a_second_axis_have_colours_of_their_own():
    axes = {"train.num_pairs": ["50", "100"], "how": ["dpo", "<sft>"]}
    entries = [
        Entry((size, how), f"{size}-{how}", int(size), 1, {}, entry(size, "0", value).measured)
        for value, (size, how) in enumerate((size, how) for size in axes["train.num_pairs"] for how in axes["how"])
    ]
    tree = ElementTree.fromstring(plot(Sweeps("x", axes, set(), entries, 4)))
    means = [one.get("stroke") for one in tree.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(means) == 2 and len(set(means)) == 2


def test_where_nothing_is_compared_the_plot_says_so():
    only = Sweeps("x", {"train.seed": ["0"]}, {"train.seed"}, [Entry(("0",), "seed-0", 9, 1, {}, entry("9", "0", 1).measured)], 1)
    assert "Nothing to draw" in plot(only)
    assert "| 9 | 1 | 27.0 | 1.0 |" in markdown(only)
