"""The bridge to lmms-eval: what goes over, what comes back, and what is told where something is missing.

lmms-eval is in no environment of the tests. A program that leaves what lmms-eval 0.7.3 left stands for its Python; the slow
test at the end runs the real one: SIGHTLINE_LMMS_EVAL=/its/bin/python pytest -m slow tests/eval/test_bridge.py
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sightline.engines import ENGINES, Engines
from sightline.engines.roles import ChatRequest, Decoding
from sightline.engines.weights import locate
from sightline.errors import DataError, MissingPackage, RecipeError, RunError
from sightline.eval import Eval
from sightline.eval.bridge import LmmsEval, hand_over
from sightline.eval.bridge_results import evaluate
from sightline.eval.mme import Mme
from sightline.eval.scoring import read_benchmark, score
from sightline.execute import Execution, Executor, Silent
from sightline.recipe import parse
from sightline.run import evaluate as evaluate_recipe
from sightline.store.shards import Store
from tests.conftest import Sightline
from tests.eval.lmms_eval_task import QUESTIONS, numbers, sample, write_task

HAVE = {"lmms-eval": "0.7.3", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"}
STAND_IN = """\
#!{python}
import json, os, sys
from pathlib import Path

if sys.argv[1] == "-c":
    print({have!r})
    sys.exit()
request = json.loads(Path(sys.argv[2]).read_text())
out = Path(request["out"])
assert not (set(os.environ) & {{"RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"}})
print("one", "two\\rthree", "", "the last words", sep="\\n", file=sys.stderr)
for name, text in json.loads({left!r})[out.name].items():
    (out / name).write_text(text)
sys.exit({code})
"""
Program = Callable[..., str]


def left(texts: list[str], results: dict[str, Any], cut: int | None = None) -> dict[str, str]:
    """The files that a run of the task `sight` leaves."""
    lines = [sample(n, text, finish="length" if n == cut else "stop") for n, text in enumerate(texts)]
    about = {"packages": HAVE, "parts": {"sight": {"sha256": "5a", "samples": len(texts)}}, "results": {"sight": results}}
    return {"sight.json": json.dumps(about), "samples_sight.jsonl": "".join(json.dumps(line) + "\n" for line in lines)}


BASE = left(["Yes.", "Yes", "yes", ""], numbers(0.5, 2 / 3, 0.29), cut=3)
ALIGNED = left(["Yes.", "No.", "yes", "No"], numbers(1.0, 1.0, 0.0))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Writes a program that stands for the Python of lmms-eval's environment, and gives its path."""

    def write(have: Any = HAVE, code: int = 0, **runs: dict[str, str]) -> str:
        path = tmp_path / "python-with-lmms-eval"
        runs = runs or {"base": BASE, "aligned": ALIGNED}
        text = STAND_IN.format(python=sys.executable, have=json.dumps(have), left=json.dumps(runs), code=code)
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    return write


def over(python: str, root: Path, who: tuple[str, ...] = ("base",), **section: Any) -> Any:
    bridge = LmmsEval.model_validate({"python": python, "tasks": ["sight"], **section})
    models = {name: ENGINES.read({"kind": "transformers", "model": "miniature/policy", "batch_size": 4}) for name in who}
    executor = Executor(Store(root / "store"), Engines({}), 0, Execution())
    return evaluate(Eval(lmms_eval=bridge), models, executor, root / "run", lambda tally: None)


def values(outcome: Any, who: str) -> dict[str, float | None]:
    return {line.metric: line.numbers[who].value for line in outcome.lines if line.split == "random"}


def test_lmms_evals_numbers_keep_their_names_and_a_foreign_standard_error_is_told(program, tmp_path):
    theirs, ours = over(program(), tmp_path, ("base", "aligned"))
    (task,) = theirs["tasks"]
    assert (theirs["packages"]["lmms-eval"], task["task"], task["n"], task["sha256"]["base"]) == ("0.7.3", "sight", 4, "5a")
    accuracy, f1 = task["metrics"]
    assert accuracy == {
        "metric": "accuracy_seen",
        "base": {"value": 0.5, "stderr_clt": 0.29},
        "aligned": {"value": 1.0, "stderr_clt": 0.0},
    }
    assert f1["base"]["value"] == 2 / 3
    assert f1["base"]["stderr_is_of"] == "the mean score of a sample (0.5), not of f1_seen"
    assert "stderr_is_of" not in f1["aligned"]  # there the two numbers are one
    assert ours == []


def test_our_numbers_are_computed_from_the_same_answers_by_every_rule(program, tmp_path):
    data = write_task(tmp_path) / "sight_random.jsonl"
    theirs, ours = over(program(), tmp_path, ("base", "aligned"), ours={"sight": {"kind": "pope", "data": str(data)}})
    assert [(outcome.rule, outcome.benchmark) for outcome in ours] == [
        ("published", "sight-of-lmms-eval-published"),
        ("clean", "sight-of-lmms-eval-clean"),
    ]
    published, clean = ours
    # yes, yes, yes, "" of yes, no, yes, no: the published rule reads the empty one as a yes, the clean one as neither
    assert values(published, "base") == {
        "accuracy": 50, "F1": pytest.approx(200 / 3), "precision": 50, "recall": 100, "yes ratio": 100
    }  # fmt: skip
    assert values(clean, "base")["precision"] == pytest.approx(200 / 3)
    assert values(published, "aligned")["accuracy"] == values(clean, "aligned")["accuracy"] == 100
    accuracy = next(line for line in published.lines if line.metric == "accuracy")
    assert accuracy.difference.value == 50 and accuracy.n == 4
    assert published.cut == {"base": 1, "aligned": 0} and published.empty["base"] == 1
    assert theirs["not_recomputed"] == {}


def test_answers_that_do_not_join_are_told_and_take_nothing_with_them(program, tmp_path):
    data = write_task(tmp_path) / "sight_random.jsonl"
    data.write_text("".join(json.dumps({**question, "question_id": f"q{n}"}) + "\n" for n, question in enumerate(QUESTIONS)))
    asked = {"sight": {"kind": "pope", "data": str(data)}, "other": {"kind": "pope", "data": str(data)}}
    theirs, ours = over(program(), tmp_path, ours=asked)
    assert ours == [] and len(theirs["tasks"]) == 1
    assert "no question is called '1', and 3 more (4 answers, 4 questions)" in theirs["not_recomputed"]["sight"]
    assert "no such task was run" in theirs["not_recomputed"]["other"]


def test_base_and_adapter_go_over_with_all_that_the_script_needs(program, tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "2")  # as under torchrun
    monkeypatch.chdir(tmp_path)
    folder, saved = write_task(tmp_path), tmp_path / "adapter"
    saved.mkdir()
    (saved / "adapter_config.json").write_text("{}")
    engine = ENGINES.read({"kind": "transformers", "model": "miniature/policy", "adapter": "adapter", "batch_size": 4})
    section = LmmsEval(python=program(), tasks=["sight"], include_path=folder.name, limit=3)
    (run,) = hand_over(section, {"aligned": engine}, tmp_path / "store", tmp_path / "run", Silent(), folder.parent).values()
    request = json.loads((run.folder / "request.json").read_text())
    assert request["model"] == locate("miniature/policy") and request["adapter"] == str(saved)
    assert (request["include_path"], request["limit"], request["batch_size"]) == (str(folder), 3, 4)
    assert request["decoding"].startswith("greedy")
    base = engine.model_copy(update={"adapter": None, "batch_size": 1})
    hand_over(LmmsEval(python=program(), tasks=["sight"]), {"base": base}, tmp_path / "store", tmp_path / "run", Silent())
    replies = json.loads((tmp_path / "run" / "base" / "request.json").read_text())["replies"]
    assert replies != request["replies"], "replies of the base would pass for the adapter's"


@pytest.mark.parametrize(("words", "told"), [("", "all it said is in"), ("requests.exceptions.ConnectionError", "is on the hub")])
def test_a_crash_over_there_shows_its_last_words_and_where_the_rest_is(program, tmp_path, words, told):
    python = Path(program(code=3))
    python.write_text(python.read_text().replace("the last words", f"the last words {words}"))
    with pytest.raises(RunError, match="ended with code 3") as error:
        over(str(python), tmp_path)
    assert "one\n  three\n  the last words" in error.value.problem
    assert told in error.value.fix and "log.txt" in error.value.fix


def test_results_of_an_earlier_run_do_not_pass_for_those_of_one_that_left_none(program, tmp_path):
    over(program(), tmp_path)
    with pytest.raises(RunError, match="without results"):
        over(program(base={}), tmp_path)


def test_an_environment_without_lmms_eval_is_told_what_brings_it(program, tmp_path):
    with pytest.raises(MissingPackage, match="no lmms-eval") as error:
        over(sys.executable, tmp_path)
    assert "--no-deps lmms-eval==0.7.3" in error.value.fix
    with pytest.raises(MissingPackage, match="no peft"):
        over(program(have={**HAVE, "peft": None}), tmp_path)
    with pytest.raises(RecipeError, match="is no program"):
        over(str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(RecipeError, match="is no Python that runs"):
        over("/bin/true", tmp_path)
    with pytest.raises(RecipeError, match="is no folder"):
        over(program(), tmp_path, include_path="nowhere")


def test_another_version_than_was_tried_is_told(program, tmp_path):
    notes = []

    class Watch(Silent):
        def end(self, name: str, note: str) -> None:
            notes.append((name, note))

    section = LmmsEval(python=program(have={**HAVE, "lmms-eval": "0.9.0"}), tasks=["sight"])
    engine = ENGINES.read({"kind": "transformers", "model": "miniature/policy"})
    hand_over(section, {"base": engine}, tmp_path, tmp_path / "run", Watch())
    assert notes == [("lmms-eval/base", "lmms-eval 0.9.0, which was not tried; 0.7.3 was")]


def test_a_recipe_of_nothing_but_lmms_evals_tasks_runs_and_is_shown(program, tmp_path, sightline: Sightline):
    data = write_task(tmp_path) / "sight_random.jsonl"
    bridge = {"python": program(), "tasks": ["sight"], "ours": {"sight": {"kind": "pope", "data": data.name}}}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    recipe = {"name": "over", "eval": {"model": "miniature/policy", "adapter": "adapter", "lmms_eval": bridge}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    done = sightline("eval", "recipe.yaml", "--out", "runs/over")
    assert done.returncode == 0, done.stderr
    assert "sight-of-lmms-eval-clean (clean)" in done.stdout and "accuracy_seen │ 0.5 ± 0.29 │ 1 ± 0" in done.stdout
    assert "f1_seen       │ 0.6667 " in done.stdout  # without the standard error of something else
    found = json.loads((tmp_path / "runs" / "over" / "results.json").read_text())
    assert [entry["rule"] for entry in found["benchmarks"]] == ["published", "clean"]
    assert found["lmms_eval"]["tasks"][0]["metrics"][0]["base"]["value"] == 0.5
    page = (tmp_path / "runs" / "over" / "report.html").read_text()
    assert "0.5 ± 0.29" in page and ">0.6667<" in page and "lmms-eval 0.7.3 asked" in page
    compared = json.loads(sightline("compare", "runs/over", "--json").stdout)
    accuracy = compared["benchmarks"][0]["metrics"][0]
    assert [line["value"] for line in accuracy["runs"]] == [50, 100]


def test_an_environment_that_lacks_lmms_eval_is_told_before_anything_is_made(tmp_path):
    recipe = parse({"name": "over", "eval": {"model": "miniature/policy", "lmms_eval": {"python": "nowhere", "tasks": ["pope"]}}})
    with pytest.raises(RecipeError, match="nowhere"):
        evaluate_recipe(recipe, tmp_path / "runs" / "over")
    assert not (tmp_path / "runs" / "store" / "rows").exists()


def test_a_section_that_measures_nothing_or_names_what_is_no_benchmark_is_refused():
    with pytest.raises(ValidationError, match="nothing is measured"):
        Eval()
    with pytest.raises(ValidationError, match="no benchmarks named 'popes'"):
        LmmsEval(python="python", tasks=["sight"], ours={"sight": {"kind": "popes", "data": "x"}})


@pytest.mark.parametrize("with_document", [True, False], ids=["ours", "theirs"])
def test_a_log_is_a_file_of_answers_whoever_kept_it(tmp_path, with_document):
    data = write_task(tmp_path) / "sight_random.jsonl"
    log = tmp_path / "20261120_samples_sight.jsonl"
    lines = [sample(n, text, with_document) for n, text in enumerate(["Yes.", "Yes", "yes", "No, sir"])]
    log.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    (outcome,) = score(read_benchmark("pope", {"data": str(data)}), log, draws=100).benchmarks
    assert values(outcome, "answers")["accuracy"] == 75 and values(outcome, "answers")["recall"] == 100


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({**sample(0, "Yes"), "doc": None, "accuracy_seen": 1.0, "f1_seen": 1.0}, "sample 0 names no question"),
        (sample(0, ["Yes", "No"]), "sample 0 has 2 replies"),
        (sample(0, None), "sample 0 has 0 replies"),
    ],
)
def test_a_log_without_ids_or_with_several_replies_is_refused(tmp_path, line, told):
    data = write_task(tmp_path) / "sight_random.jsonl"
    log = tmp_path / "samples.jsonl"
    log.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=told):
        score(read_benchmark("pope", {"data": str(data)}), log)


def test_mmes_documents_are_joined_by_picture_and_question(tmp_path):
    asked = [f"Is there a {thing} in this image? Please answer yes or no." for thing in ("cat", "dog")]
    rows = [("1.jpg", asked[0], "Yes", "yes"), ("1.jpg", asked[1], "No", "Yes")]
    (tmp_path / "existence.txt").write_text("".join("\t".join(row[:3]) + "\n" for row in rows))
    lines = [
        {
            "doc_id": n,
            "doc": {"question_id": f"existence/{image}", "question": question, "answer": truth, "category": "existence"},
            "target": truth,
            "filtered_resps": said,
            "mme_perception_score": {"question_id": f"existence/{image}", "category": "existence", "score": 1.0},
        }
        for n, (image, question, truth, said) in enumerate(rows)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    mme = Mme.model_validate({"kind": "mme", "data": str(tmp_path / "existence.txt")})
    assert mme.read_answers(tmp_path / "samples.jsonl", mme.questions(tmp_path / "existence.txt")) == ["yes", "Yes"]


@pytest.mark.slow
def test_the_real_one_gives_the_answers_that_our_engine_gives_to_base_and_adapter(tmp_path):
    python = os.environ.get("SIGHTLINE_LMMS_EVAL")
    if not python:
        pytest.skip("SIGHTLINE_LMMS_EVAL names no Python that has lmms-eval")
    import PIL.Image

    folder = write_task(tmp_path)
    adapter = _adapter(tmp_path / "adapter")
    section = {"kind": "transformers", "model": "miniature/policy", "device": "cpu"}
    models = {"base": ENGINES.read(section), "aligned": ENGINES.read({**section, "adapter": adapter})}
    bridge = LmmsEval(python=python, tasks=["sight"], include_path=str(folder))
    runs = hand_over(bridge, models, tmp_path / "store", tmp_path / "run", Silent())
    pictures = Path(locate("miniature/policy")).parents[1] / "data" / "heldout" / "pictures"
    asked = [ChatRequest(each["text"], (PIL.Image.open(pictures / each["image"]),)) for each in QUESTIONS]
    said = {}
    for who, run in runs.items():
        said[who] = [json.loads(line)["filtered_resps"] for line in run.samples("sight").read_text().splitlines()]
        assert said[who] == [reply.text for reply in models[who].load().chat(asked, Decoding(max_tokens=16))]
    assert said["base"] != said["aligned"], "an adapter that changes nothing shows nothing"


def _adapter(folder: Path) -> str:
    import torch
    from peft import LoraConfig, get_peft_model

    from sightline.engines.transformers import load_model

    torch.manual_seed(0)
    model = load_model("miniature/policy", None, "float32", torch.device("cpu"))
    # not PEFT's own start, whose second factor is 0
    config = LoraConfig(r=8, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(folder)
    return str(folder)
