"""Finished runs side by side: what is compared, what is refused, and what is written."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError, RunError
from sightline.eval import evaluate
from sightline.eval.compare import Difference, Number
from sightline.eval.runs import Line, compare, sides
from sightline.miniature import heldout
from sightline.recipe import Recipe
from sightline.report import comparison
from sightline.run import opened
from sightline.store.runs import Run
from tests.conftest import Sightline
from tests.eval.test_evaluate import MODELS, Looker

DATA = "miniature/heldout"
BOTH = [{"kind": "pope", "data": DATA}, {"kind": "chair", "data": DATA}]


def finished(folder: Path, models: dict[str, Looker] = MODELS, benchmarks: list[dict[str, Any]] = BOTH, **section: Any) -> Path:
    """A run whose benchmarks were answered by these models, its store beside it."""
    tree = {"name": "x", "eval": {"benchmarks": benchmarks, "limit": 12, "draws": 200, **section}}
    with opened(Recipe.model_validate(tree), folder, (), None) as work:
        assert work.recipe.eval is not None
        results = evaluate(work.recipe.eval, work.executor, models, lambda tally: work.note(tally, 0.0))
        work.run.note(results=results.to_json())
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole` holds the model with its habit and the one without; `plain` the one without alone."""
    place = tmp_path_factory.mktemp("compared")
    finished(place / "whole")
    finished(place / "plain", {"base": MODELS["aligned"]})
    return place


def compared(*names: Any) -> dict[str, Any]:
    return compare(sides([str(name) for name in names]))


def metrics(found: dict[str, Any], benchmark: str) -> dict[str, list[dict[str, Any]]]:
    """A benchmark's lines, by metric."""
    entry = next(entry for entry in found["benchmarks"] if entry["benchmark"] == benchmark)
    return {metric["metric"]: metric["runs"] for metric in entry["metrics"] if not metric["split"]}


def test_a_run_compared_with_itself_before_training_has_the_numbers_of_its_page(runs: Path) -> None:
    found = compared(runs / "whole")
    assert found["runs"] == ["whole:base", "whole:aligned"]
    for entry in Run.open(runs / "whole").manifest["results"]["benchmarks"]:
        lines = metrics(found, entry["benchmark"])
        for metric in (metric for metric in entry["metrics"] if not metric["split"]):
            base, aligned = lines[metric["metric"]]
            assert {"run": "whole:base", **metric["base"]} == base
            change = aligned.pop("difference")
            assert {"run": "whole:aligned", **metric["aligned"]} == aligned
            assert metric["difference"].items() <= change.items()


def test_models_of_several_runs_are_compared_with_the_first(runs: Path) -> None:
    found = compared(f"{runs / 'whole'}:base", runs / "whole", runs / "plain")
    first, second, third = metrics(found, "chair")["CHAIR_i"]
    assert [line["run"] for line in (first, second, third)] == found["runs"] == ["whole:base", "whole:aligned", "plain:base"]
    assert "difference" not in first
    # the plain run's only model is the one that the other run trained
    assert second["difference"] == third["difference"]
    assert second["difference"]["value"] == pytest.approx(second["value"] - first["value"], rel=1e-5)


def test_the_first_metrics_p_values_are_corrected_as_one_family_and_no_others(runs: Path) -> None:
    found = compared(runs / "whole")
    pope, chair = (metrics(found, name)[metric][1]["difference"] for name, metric in (("pope", "accuracy"), ("chair", "CHAIR_i")))
    low, high = sorted([pope["p"], chair["p"]])
    assert sorted([pope["corrected"], chair["corrected"]]) == pytest.approx([2 * low, max(2 * low, high)], rel=1e-5)
    assert "corrected" not in metrics(found, "pope")["F1"][1]["difference"]
    assert found["family"].startswith("2 tests: each benchmark's first metric (pope accuracy, chair CHAIR_i)")


@pytest.mark.parametrize(
    ("seen", "resolvable", "below"), [(-3.0, 4.2, True), (5.0, 4.2, False), (-4.2, 4.2, False), (0, None, None)]
)
def test_a_difference_smaller_than_what_would_show_is_marked(seen: float, resolvable: float | None, below: bool | None) -> None:
    line = Line("b", Number(50.0, 40.0, 60.0, 10), Difference(seen, seen - 1, seen + 1, 0.04, "bootstrap", resolvable))
    assert line.to_json()["difference"].get("is_below_resolvable") is below
    metric = {"metric": "F1", "split": None, "unit": "%", "runs": [line.to_json()]}
    (row,) = comparison.rows({"metrics": [metric]})
    assert row[-1] == ("below" if below else "")


@pytest.mark.parametrize(
    ("benchmark", "section", "words"),
    [
        ({"kind": "pope", "rule": "clean"}, {}, ["pope: rule is 'published' in whole:aligned, 'clean' in other"]),
        ({"kind": "chair", "decoding": {"max_tokens": 64}}, {}, ["chair: decoding.max_tokens is 512 in whole", "64 in other"]),
        (
            {"kind": "pope", "suffix": " Say yes or no."},
            {},
            ["pope: suffix is '' in", "' Say yes or no.' in other", "items only"],
        ),
        ({"kind": "chair"}, {"limit": 10}, ["chair: 2 items only whole:aligned was asked"]),
    ],
)
def test_what_was_not_measured_alike_is_refused_and_says_why(
    runs: Path, benchmark: dict[str, Any], section: dict[str, Any], words: list[str]
) -> None:
    other = finished(
        runs / f"other-{benchmark['kind']}-{len(str(benchmark))}", benchmarks=[{**benchmark, "data": DATA}], **section
    )
    with pytest.raises(DataError) as caught:
        compared(f"{runs / 'whole'}:aligned", f"{other}:base")
    for word in words:
        assert word in caught.value.problem


def test_results_of_different_judges_are_refused_whatever_the_recipes_call_them(runs: Path) -> None:
    judges = {"mine": {"model": "gpt-4-0314", "prompt": "ab"}, "theirs": {"model": "gpt-4-0314", "prompt": "cd"}}
    for name, judge in judges.items():
        run = Run.open(finished(runs / f"judged-{name}", benchmarks=BOTH[1:]))
        manifest = run.manifest
        manifest["results"]["benchmarks"][0] |= {"judge": judge}
        manifest["results"]["benchmarks"][0]["terms"] |= {"judge": name}
        run.write_manifest(manifest)
    with pytest.raises(DataError) as caught:
        compared(runs / "judged-mine", runs / "judged-theirs")
    assert "chair: judge.prompt is 'ab' in judged-mine, 'cd' in judged-theirs" in caught.value.problem
    assert "model" not in caught.value.problem
    assert compared(f"{runs / 'judged-mine'}:base", runs / "judged-mine")["benchmarks"]


def copied(folder: Path) -> Path:
    """The held-out scenes as a data folder of one's own."""
    return Path(shutil.copytree(heldout.FOLDER, folder))


def test_other_labels_and_another_list_of_words_are_refused(runs: Path, tmp_path: Path) -> None:
    data = copied(tmp_path / "data")
    for split in heldout.SPLITS:
        lines = [json.loads(line) for line in (data / f"pope_{split}.jsonl").read_text().splitlines()]
        turned = [{**line, "label": {"yes": "no", "no": "yes"}[line["label"]]} for line in lines]
        (data / f"pope_{split}.jsonl").write_text("\n".join(map(json.dumps, turned)))
    (data / "synonyms.txt").write_text((data / "synonyms.txt").read_text() + "unicorn\n")
    other = finished(runs / "relabelled", benchmarks=[{**benchmark, "data": str(data)} for benchmark in BOTH])
    asked = Run.open(other).rows("items/pope")
    with pytest.raises(DataError) as caught:
        compared(runs / "whole", other)
    assert f"pope: {len(asked)} items have another truth" in caught.value.problem
    assert "chair: synonyms.txt is '" in caught.value.problem


def test_data_that_lies_elsewhere_is_the_same_data(runs: Path, tmp_path: Path) -> None:
    here = copied(tmp_path / "data")
    other = finished(runs / "elsewhere", benchmarks=[{**benchmark, "data": str(here)} for benchmark in BOTH])
    assert metrics(compared(runs / "whole", other), "chair")["CHAIR_i"][1]["difference"]["value"] == 0


def test_a_run_of_another_machine_needs_its_store_and_not_its_data(tmp_path: Path) -> None:
    data = copied(tmp_path / "data")
    finished(tmp_path / "there" / "run", benchmarks=[{"kind": "chair", "data": str(data)}])
    before = compared(tmp_path / "there" / "run")
    shutil.rmtree(data)
    moved = Path(shutil.move(tmp_path / "there", tmp_path / "here")) / "run"
    assert compared(moved) == before
    shutil.rmtree(moved.parent / "store")
    with pytest.raises(RunError, match="rows of items/chair are not in the run's store"):
        compared(moved)


def test_a_benchmark_that_not_all_runs_have_is_named(runs: Path) -> None:
    half = finished(runs / "half", benchmarks=BOTH[1:])
    found = compared(runs / "whole", half)
    assert found["left_out"] == {"pope": ["whole"]}
    assert "pope is not compared: only whole ran it." in list(comparison.notes(found))
    other = finished(runs / "pope-alone", benchmarks=BOTH[:1])
    with pytest.raises(DataError, match=r"no benchmark is in all of them: chair \(half\), pope \(pope-alone\)"):
        compared(half, other)


def test_a_learned_suffix_is_told(runs: Path) -> None:
    taught = finished(runs / "taught", benchmarks=BOTH[1:], suffix="\nFaithfulness:4")
    found = compared(f"{taught}:base", taught)
    assert [note for note in comparison.notes(found) if "taught:aligned was asked with '\\nFaithfulness:4'" in note]


def test_what_is_no_two_models_is_refused(runs: Path, tmp_path: Path) -> None:
    whole = runs / "whole"
    with pytest.raises(RunError, match="this is one model"):
        compared(runs / "plain")
    with pytest.raises(RunError, match="named twice"):
        compared(whole, f"{whole}:aligned")
    with pytest.raises(RunError, match="no model 'bse' was evaluated here") as caught:
        compared(whole, f"{whole}:bse")
    assert "base, aligned" in caught.value.fix
    with pytest.raises(RunError, match="no run is here"):
        compared(whole, tmp_path)
    with opened(Recipe.model_validate({"name": "x"}), tmp_path / "empty", (), None):
        pass
    with pytest.raises(RunError, match="nothing was evaluated in this run"):
        compared(whole, tmp_path / "empty")


def test_a_run_of_an_older_sightline_is_to_be_scored_again(runs: Path) -> None:
    old = Run.open(finished(runs / "old"))
    manifest = old.manifest
    manifest["steps"] = {name: step for name, step in manifest["steps"].items() if not name.startswith("scores/")}
    old.write_manifest(manifest)
    with pytest.raises(RunError, match="no scores of pope are stored") as caught:
        compared(runs / "whole", old.folder)
    assert "nothing is generated" in caught.value.fix
    for benchmark in manifest["results"]["benchmarks"]:
        del benchmark["terms"]
    old.write_manifest(manifest)
    with pytest.raises(RunError, match="kept no terms"):
        compared(runs / "whole", old.folder)


def test_folders_of_one_name_are_told_apart_by_their_paths(runs: Path, tmp_path: Path) -> None:
    twin = finished(tmp_path / "whole")
    assert compared(runs / "whole", twin)["runs"] == [str(runs / "whole"), str(twin)]


def test_the_csv_has_every_number_and_the_markdown_every_headline(runs: Path, tmp_path: Path) -> None:
    found = compared(runs / "whole")
    paths = comparison.write(found, tmp_path / "tables")
    assert [path.name for path in paths] == ["compare.md", "compare.csv", "compare.tex"]
    records = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert len(records) == sum(len(metric["runs"]) for entry in found["benchmarks"] for metric in entry["metrics"])
    (record,) = (r for r in records if (r["metric"], r["split"], r["run"]) == ("F1", "popular", "whole:aligned"))
    line = next(m["runs"][1] for m in found["benchmarks"][0]["metrics"] if (m["metric"], m["split"]) == ("F1", "popular"))
    assert (float(record["value"]), float(record["difference_p"])) == (line["value"], line["difference"]["p"])
    table = [row.split(" | ") for row in paths[0].read_text().splitlines() if row.startswith("| ")]
    assert {len(row) for row in table} == {len(comparison.HEADER)}
    assert any(row[0] == "| CHAIR\\_i (%)" for row in table)


def test_the_latex_has_no_character_that_latex_would_read(runs: Path) -> None:
    found = compared(runs / "whole")
    found["runs"][1] = name = r"50% & $more_{of}^#~<it>|\ "
    for entry in found["benchmarks"]:
        for metric in entry["metrics"]:
            metric["runs"][1]["run"] = name
    text = comparison.latex(found)
    escaped = r"50\% \& \$more\_\{of\}\textasciicircum{}\#\textasciitilde{}\textless{}it\textgreater{}\textbar{}\textbackslash{} "
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(line.replace(escaped, "").replace(r"\&", "").count("&") == len(comparison.HEADER) - 1 for line in rows)
    assert escaped in text
    assert name not in "".join(line for line in text.splitlines() if not line.startswith("%"))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2


def test_a_file_in_the_place_of_the_folder_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("mine")
    with pytest.raises(RunError, match="this is a file"):
        comparison.write(compared(runs / "whole"), tmp_path / "tables")
    assert (tmp_path / "tables").read_text() == "mine"


def test_the_command_prints_json_writes_tables_and_complains_without_a_traceback(
    runs: Path, tmp_path: Path, sightline: Sightline
) -> None:
    done = sightline("compare", str(runs / "whole"), "--json", "--out", str(tmp_path / "tables"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == compared(runs / "whole")
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"compare.md", "compare.csv", "compare.tex"}
    shown = sightline("compare", str(runs / "whole"))
    assert "CHAIR_i" in shown.stdout and "Holm" in shown.stdout
    alone = sightline("compare", str(runs / "plain"))
    assert alone.returncode == 1 and "this is one model" in alone.stderr and "Traceback" not in alone.stderr
