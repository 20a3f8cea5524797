"""MM-Vet: the original evaluator's numbers on replies that we wrote, and the clean rule by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.eval.compare import Comparison, Counts
from sightline.eval.judging import averaged
from sightline.eval.mm_vet import CAPABILITIES, MMVet
from sightline.eval.scoring import score

from .conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "mm_vet.json").read_text())
FIRST = [row["replies"][0] for row in GOLDEN["rows"].values()]


def mm_vet(place: Path, **settings: Any) -> MMVet:
    return MMVet(kind="mm_vet", data=str(place), **settings)


def entry(name: str, capability: list[str]) -> dict[str, Any]:
    return {"imagename": f"{name}.png", "question": f"Question {name}?", "answer": "yes<OR>no", "capability": capability}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rows = {name: entry(name, row["capability"]) for name, row in GOLDEN["rows"].items()}
    (tmp_path / "mm-vet.json").write_text(json.dumps(rows))
    return tmp_path


def numbers(found: dict[str, Any]) -> dict[str, float]:
    """By the split's name, `score` for all; those that have items."""
    named = {name.removeprefix("score (").removesuffix(")"): number for name, number in found.items()}
    return {name: number.value for name, number in named.items() if number.n}


def test_one_run_of_the_judge_gives_the_original_scripts_numbers(place: Path) -> None:
    expected = {name: value for name, value in GOLDEN["one_run"].items() if name != "std"}
    assert {"score", *CAPABILITIES} < set(expected)
    assert numbers(measured(mm_vet(place), place, FIRST)) == pytest.approx(expected, abs=1e-9)


def test_five_runs_give_the_original_scripts_means_and_spread(place: Path) -> None:
    bench = mm_vet(place, repeats=5)
    runs = [scored(bench, place, [row["replies"][run] for row in GOLDEN["rows"].values()]) for run in range(5)]
    comparison = Comparison({"base": Counts.of(averaged(runs))}, draws=200, seed=0)
    found = {metric.split or metric.name: comparison.number(metric, "base") for metric in bench.metrics()}
    expected = {name: value for name, value in GOLDEN["five_runs"].items() if name != "std"}
    assert {name: found[name].value for name in expected} == pytest.approx(expected, abs=1e-9)
    assert found["spread of score"].value == pytest.approx(GOLDEN["five_runs"]["std"], abs=1e-9)
    assert found["score"].n == len(FIRST)


@pytest.mark.parametrize(
    ("reply", "published", "clean"),
    [
        ("0.5", 0.5, 0.5),
        ("0.7\n", 0.7, 0.7),
        ("0.6 (partly)", 0.6, 0.6),
        (" 0.5", None, 0.5),
        ("Correctness: 0.9", None, 0.9),
        ("**0.6**", None, 0.6),
        ("0_1", 1.0, None),
        ("1e-1", 0.1, None),
        ("0.1 0.9", 0.1, None),
        ("0.2/1.0", None, None),
        (".4.", None, 0.4),
        ("0,5", None, None),
        ("0.4-0.5", None, None),
        ("1.1", None, None),
        ("-0.1", None, None),
        ("nan", None, None),
        ("none", None, None),
        ("", None, None),
    ],
)
def test_what_each_rule_reads(reply: str, published: float | None, clean: float | None) -> None:
    bench = mm_vet(Path())
    assert (bench.published(reply), bench.clean(reply)) == (published, clean)


def test_a_reply_that_could_not_be_had_is_no_zero(place: Path) -> None:
    bench = mm_vet(place)
    found = scored(bench, place, ["1.0"] * len(FIRST))
    missing = [replace(score, counts={"unjudged": 1}) for score in found[:8]]
    number = Comparison({"base": Counts.of([*missing, *found[8:]])}, 200, 0).number(bench.metrics()[0], "base")
    assert (number.value, number.n) == (100, len(FIRST) - 8)


def test_a_judge_whose_replies_all_lack_a_number_gives_no_clean_score(place: Path) -> None:
    found = measured(mm_vet(place, rule="clean"), place, ["hm"] * len(FIRST))["score"]
    assert (found.value, found.n, found.reason) == (None, 0, "no reply of the judge could be read")


def test_the_judge_completes_a_table(place: Path) -> None:
    bench = mm_vet(place)
    items = [question.item([]) for question in bench.questions(place)]
    assert bench.prompts(items, ["Yes | no."] * len(items))[0].endswith("\nQuestion v1_0? | yes <OR> no | Yes | no. | ")


def test_replies_come_by_id_or_as_the_scripts_grades(place: Path) -> None:
    bench = mm_vet(place)
    plain = dict(zip(GOLDEN["rows"], FIRST, strict=True))
    forms = {"plain.json": plain, "grades.json": {name: {"model": ["m"], "content": [said]} for name, said in plain.items()}}
    for name, content in forms.items():
        (place / name).write_text(json.dumps(dict(reversed(content.items()))))
        assert bench.read_answers(place / name, bench.questions(place)) == FIRST
    told = score(bench, place / "grades.json", draws=200).benchmarks[0]
    # by hand: 0,5 · empty · leading space · Correctness: 0.9 · 1.1 · -0.1 · 0.2/1.0 · 50% · 0.5. · one · **0.6** · 0x1 ·
    # infinity · 0.8. · the half sign · 0.7, · I'd say 0.5 · # · 0.9 and 0.1 on two lines, and with a tab between them
    assert told.unreadable == {"answers": 20}
    (place / "five.json").write_text(json.dumps({name: {"content": [said] * 5} for name, said in plain.items()}))
    with pytest.raises(DataError, match="5 runs of the judge"):
        bench.read_answers(place / "five.json", bench.questions(place))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"v2_0": entry("v2_0", ["rec", "seq"])}, "its capability is seq"),
        ({"v1_0": entry("v1_0", [])}, "its capability is empty"),
        ({"v1_0": "What?"}, "'text' is 'What.', not a record"),
        ({}, "no questions"),
    ],
)
def test_a_file_of_another_form_is_named(place: Path, rows: dict[str, Any], told: str) -> None:
    (place / "mm-vet.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=told):
        mm_vet(place).questions(place)
