"""Judges: asked once about each answer, killed and resumed, named with the results; and questions without an answer."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sightline.engines import Engines
from sightline.engines.openai_http import OpenAIHTTP
from sightline.errors import DataError, RecipeError, RunError
from sightline.eval import Eval, Results, evaluate
from sightline.eval.compare import Comparison, Counts, Score
from sightline.eval.judging import averaged
from sightline.eval.llava_bench import LlavaBench
from sightline.eval.mm_vet import MMVet
from sightline.eval.mmhal import TYPES, MMHal
from sightline.eval.mt_bench import MTBench
from sightline.execute import Execution, Executor, Tally
from sightline.miniature import heldout
from sightline.recipe import read
from sightline.run import evaluate as evaluate_recipe
from sightline.store.shards import Store
from tests.servers import Server, text_of

REPOSITORY = Path(__file__).parents[2]
NUM_QUESTIONS = 16


def mmhal_data(folder: Path) -> Path:
    """Questions about held-out scenes, in the published form."""
    rows = []
    (folder / "images").mkdir(parents=True)
    for number in range(NUM_QUESTIONS):
        name = f"{number:03d}.png"
        (folder / "images" / name).write_bytes((heldout.FOLDER / "pictures" / name).read_bytes())
        row = {"question_type": TYPES[number % 8], "image_id": f"scene{number}", "image_src": f"https://a.b/{name}"}
        rows.append(
            {**row, "image_content": ["cup"], "question": "Describe the picture.", "gt_answer": f"A scene, no. {number}."}
        )
    (folder / "response_template.json").write_text(json.dumps(rows))
    return folder


def mt_bench_data(folder: Path) -> Path:
    folder.mkdir(parents=True)
    tasks = [
        {"question_id": number, "category": "writing", "turns": [f"Write {number}.", f"Rewrite {number}."]} for number in range(4)
    ]
    (folder / "question.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return folder


def rate(body: dict[str, Any]) -> str:
    """Rates a scene by its number; says nothing useful of scene 3."""
    scene = re.search(r"A scene, no\. (\d+)\.", text_of(body))
    if scene is None:
        return "Yes."  # a plain request, which tells whether the server is at fault
    number = int(scene[1])
    return "I cannot say." if number == 3 else f"I looked.\nRating: {number % 7}"


def served(server: Server, **settings: Any) -> dict[str, Any]:
    quick = {"concurrency": 1, "retries": 0, "backoff_s": 0.01, "timeout_s": 30.0}
    return {"kind": "openai_http", "model": "m", "base_url": server.url, **quick, **settings}


def engine(server: Server, **settings: Any) -> OpenAIHTTP:
    return OpenAIHTTP.model_validate(served(server, **settings))


def evaluated(
    root: Path, benchmark: dict[str, Any], judge: OpenAIHTTP, model: OpenAIHTTP, steps: list[Tally] | None = None
) -> Results:
    executor = Executor(Store(root), Engines({"judge": judge}), 0, Execution())
    section = Eval.model_validate({"benchmarks": [{"judge": "judge", **benchmark}], "draws": 200, "shard_size": 4})
    with executor.working():
        return evaluate(section, executor, {"base": model}, steps.append if steps is not None else None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return mmhal_data(tmp_path / "mmhal")


def say(body: dict[str, Any]) -> str:
    """A model's answer: how many turns it was shown, and its question."""
    return f"{len(body['messages'])}: {body['messages'][-1]['content']}"


def recipe(folder: Path, server: Server) -> Path:
    tree = {
        "name": "judged",
        "engines": {"judge": served(server)},
        "execution": {"threads": 1},
        "eval": {
            "model": "miniature/policy",
            "shard_size": 4,
            "draws": 200,
            "benchmarks": [{"kind": "mmhal", "data": "mmhal", "judge": "judge", "decoding": {"max_tokens": 12}}],
        },
    }
    (folder / "judged.yaml").write_text(yaml.safe_dump(tree))
    return folder / "judged.yaml"


def test_a_killed_evaluation_goes_on_without_paying_a_judge_again(tmp_path: Path, place: Path) -> None:
    def stuck(request: str, attempt: int) -> str | None:
        return "timeout" if dying and len(server.paid) >= 6 else None

    command = "import sys; from sightline.run import evaluate; evaluate(sys.argv[1], sys.argv[2])"
    with Server(rate, stuck, sleep_s=20.0) as server:
        dying = True
        wanted = recipe(tmp_path, server), tmp_path / "runs" / "judged"
        arguments = [sys.executable, "-c", command, *map(str, wanted)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL) as first:
            while server.faults["timeout"] == 0 and first.poll() is None:
                time.sleep(0.02)
            first.send_signal(signal.SIGKILL)
        assert first.returncode == -signal.SIGKILL
        dying = False
        evaluate_recipe(*wanted)
        asked = len(server.bodies)
        run = evaluate_recipe(*wanted)
    assert len(server.paid) == NUM_QUESTIONS and set(server.paid.values()) == {1}
    assert len(server.bodies) == asked  # the third run asks nothing

    (told,) = json.loads((run.folder / "results.json").read_text())["benchmarks"]
    ratings = [0 if number == 3 else number % 7 for number in range(NUM_QUESTIONS)]
    found = {line["metric"]: line["base"]["value"] for line in told["metrics"]}
    assert found["rating"] == pytest.approx(np.mean(ratings), rel=1e-5)
    assert found["hallucination"] == pytest.approx(100 * np.mean([rating < 3 for rating in ratings]), rel=1e-5)
    assert (told["unreadable"], told["unjudged"]) == ({"base": 1}, {"base": 0})
    assert (told["judge"]["model"], told["judge"]["repeats"]) == ("m", 1)
    assert told["judge"]["prompt"] == MMHal(kind="mmhal", data="").prompt_digest()
    assert run.manifest["steps"]["judging/mmhal-base"]["usage"]["calls"] == NUM_QUESTIONS
    page = (run.folder / "report.html").read_text()
    assert f"prompt {told['judge']['prompt']}" in page and "Replies of the judge that could not be read: base 1." in page
    replies = [row for shard in run.shards("judging/mmhal-base") for row in run.store.read(shard)]
    assert {"I cannot say."} < {row.text for row in replies}  # as they came


def test_another_rule_reads_the_stored_replies(tmp_path: Path, place: Path) -> None:
    benchmark = {"kind": "mmhal", "data": str(place)}
    with Server(rate) as server, Server(say) as model:
        published = evaluated(tmp_path / "store", benchmark, engine(server), engine(model))
        asked = len(server.bodies) + len(model.bodies)
        clean = evaluated(tmp_path / "store", {**benchmark, "rule": "clean"}, engine(server), engine(model))
        assert len(server.bodies) + len(model.bodies) == asked
        evaluated(tmp_path / "store", benchmark, engine(server, model="another"), engine(model))
        assert (len(server.bodies), len(model.bodies)) == (2 * NUM_QUESTIONS, NUM_QUESTIONS)
    ratings = [number % 7 for number in range(NUM_QUESTIONS) if number != 3]
    assert clean.benchmarks[0].lines[0].numbers["base"].value == pytest.approx(np.mean(ratings))
    assert published.benchmarks[0].lines[0].numbers["base"].value == pytest.approx(sum(ratings) / NUM_QUESTIONS)


def test_an_answer_that_could_not_be_judged_has_no_score_and_is_asked_about_again(tmp_path: Path, place: Path) -> None:
    def without_two(request: str, attempt: int) -> str | None:
        return "400" if down and re.search(r"A scene, no\. (1|9)\.", server.texts[request]) else None

    benchmark, steps = {"kind": "mmhal", "data": str(place)}, []
    with Server(rate, without_two) as server, Server(say) as model:
        down = True
        told = evaluated(tmp_path / "store", benchmark, engine(server), engine(model), steps).benchmarks[0]
        ratings = {number: 0 if number == 3 else number % 7 for number in range(NUM_QUESTIONS)}
        rated = [rating for number, rating in ratings.items() if number not in (1, 9)]
        assert told.unjudged == {"base": 2}
        assert (told.lines[0].n, told.lines[0].numbers["base"].value) == (NUM_QUESTIONS - 2, pytest.approx(np.mean(rated)))
        assert next(step for step in steps if step.name.startswith("judging")).dropped == {"no reply: HTTP 400": 2}
        down, paid = False, server.paid.copy()
        told = evaluated(tmp_path / "store", benchmark, engine(server), engine(model)).benchmarks[0]
    assert told.unjudged == {"base": 0}
    assert told.lines[0].numbers["base"].value == pytest.approx(np.mean(list(ratings.values())))
    new = server.paid - paid
    assert sorted(re.findall(r"A scene, no\. (\d+)", " ".join(server.texts[name] for name in new))) == ["1", "9"]


def mm_vet_data(folder: Path, number: int) -> Path:
    (folder / "images").mkdir(parents=True)
    rows = {}
    for name in (f"v{at}" for at in range(number)):
        (folder / "images" / f"{name}.png").write_bytes((heldout.FOLDER / "pictures" / "000.png").read_bytes())
        rows[name] = {"imagename": f"{name}.png", "question": f"Ask {name}!", "answer": "yes", "capability": ["rec"]}
    (folder / "mm-vet.json").write_text(json.dumps(rows))
    return folder


def test_mm_vets_judge_is_asked_up_to_four_times_more_and_each_time_once(tmp_path: Path) -> None:
    """As by the original script, whose judge grows warmer: 0, then 0, 0.5, 1.0 and 1.5."""
    warmth: dict[str, list[float]] = {"v0": [], "v1": [], "v2": []}

    def judge(body: dict[str, Any]) -> str:
        (name,) = (name for name in warmth if f"Ask {name}! | yes" in text_of(body))
        warmth[name].append(body["temperature"])
        readable_from = {"v0": 1, "v1": 3, "v2": 99}[name]
        return "0.6 of 1" if len(warmth[name]) >= readable_from else "Hard to say."

    benchmark = {"kind": "mm_vet", "data": str(mm_vet_data(tmp_path / "mm_vet", 3))}
    with Server(judge) as server, Server(say) as model:
        told = evaluated(tmp_path / "store", benchmark, engine(server), engine(model)).benchmarks[0]
        asked = len(server.bodies)
        evaluated(tmp_path / "store", benchmark, engine(server), engine(model))
        assert len(server.bodies) == asked
    assert warmth == {"v0": [0], "v1": [0, 0, 0.5], "v2": [0, 0, 0.5, 1.0, 1.5]}
    assert told.lines[0].numbers["base"].value == pytest.approx(100 * (0.6 + 0.6 + 0) / 3)
    assert told.unreadable == {"base": 1}


def test_questions_without_an_answer_stop_the_evaluation_and_are_asked_again_alone(tmp_path: Path, place: Path) -> None:
    def first_pictures(request: str, attempt: int) -> str | None:
        return "400" if down and len(model.asked) <= 3 else None

    benchmark = {"kind": "mmhal", "data": str(place)}
    with Server(rate) as server, Server(say, first_pictures) as model:
        down = True
        with pytest.raises(RunError, match=r"3 questions have no answer \(3 of answers/mmhal-base: no reply: HTTP 400\)"):
            evaluated(tmp_path / "store", benchmark, engine(server), engine(model))
        assert len(model.asked) <= NUM_QUESTIONS + 1  # perhaps once more, whether it is the server
        assert not server.bodies  # no judge is paid for a part
        down, paid = False, model.paid.copy()
        told = evaluated(tmp_path / "store", benchmark, engine(server), engine(model)).benchmarks[0]
    assert sum((model.paid - paid).values()) == 3
    assert (told.n, told.lines[0].n) == (NUM_QUESTIONS, NUM_QUESTIONS)
    assert not list((tmp_path / "store").rglob("*.calls.jsonl"))


def test_a_second_turn_is_asked_with_the_first_answer_before_it(tmp_path: Path) -> None:
    benchmark = {"kind": "mt_bench", "data": str(mt_bench_data(tmp_path / "mt"))}
    with (
        Server(lambda body: f"[[{len(text_of(body)) % 10 + 1}]]") as server,
        Server(lambda body: f"No. {len(body['messages'])}") as model,
    ):
        told = evaluated(tmp_path / "store", benchmark, engine(server), engine(model)).benchmarks[0]
    talks = [body["messages"] for body in model.bodies if len(body["messages"]) > 1]
    assert len(talks) == 4 and len(model.bodies) == 8
    for talk in talks:
        number = talk[0]["content"][0]["text"].removeprefix("Write ").removesuffix(".")
        assert talk[1:] == [{"role": "assistant", "content": "No. 1"}, {"role": "user", "content": f"Rewrite {number}."}]
    second = [text_of(body) for body in server.bodies if "[Conversation]" in text_of(body)]
    assert len(second) == 4 and all("Assistant: No. 1\n" in text and "Assistant: No. 3\n" in text for text in second)
    assert (told.n, told.pictures, told.lines[0].n) == (8, 4, 8)


def test_a_turn_whose_first_has_no_answer_is_not_asked(tmp_path: Path) -> None:
    benchmark = {"kind": "mt_bench", "data": str(mt_bench_data(tmp_path / "mt"))}

    def fault(request: str, attempt: int) -> str | None:
        return "400" if model.texts[request] == "Write 2." else None

    with Server(rate) as server, Server(say, fault) as model, pytest.raises(RunError) as caught:
        evaluated(tmp_path / "store", benchmark, engine(server), engine(model))
    assert "2 questions have no answer" in caught.value.problem
    assert "1 of answers/mt_bench-base: no reply to the question before" in caught.value.problem


def test_several_runs_of_a_judge_are_averaged_and_their_spread_is_told(tmp_path: Path, place: Path) -> None:
    def another_each_time(body: dict[str, Any]) -> str:
        return f"Rating: {0 if len(server.bodies) <= NUM_QUESTIONS else 6}"

    benchmark = {"kind": "mmhal", "data": str(place), "repeats": 3}
    with Server(another_each_time) as server, Server(say) as model:
        told = evaluated(tmp_path / "store", benchmark, engine(server), engine(model)).benchmarks[0]
    assert len(server.bodies) == 3 * NUM_QUESTIONS  # at temperature 0 too
    found = {line.metric: line for line in told.lines if line.split is None}
    assert found["rating"].numbers["base"].value == pytest.approx(4)
    assert found["rating"].n == NUM_QUESTIONS
    assert found["hallucination"].numbers["base"].value == pytest.approx(100 / 3)
    assert found["spread of rating"].numbers["base"].value == pytest.approx(np.std([0, 6, 6]))


def test_what_one_run_lacks_the_others_give() -> None:
    runs = [[Score("a", "a", {"rated": 1, "rating": 4, "unreadable": 0})], [Score("a", "a", {"unreadable": 1})]]
    (both,) = averaged(runs)
    assert {name: count for name, count in both.counts.items() if "#" not in name} == {
        "rated": 0.5, "rating": 2, "unreadable": 1,
    }  # fmt: skip


def test_results_say_who_judged_and_how_it_was_asked(tmp_path: Path, place: Path) -> None:
    benchmark = {"kind": "mmhal", "data": str(place)}
    changes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "none": ({}, {}),
        "rule": ({"rule": "clean"}, {}),
        "server": ({}, {"concurrency": 2}),
        "identity": ({}, {"extra_body": {"reasoning_effort": "low"}}),
        "decoding": ({"judging": {"max_tokens": 99}}, {}),
    }
    judges = {}
    with Server(rate) as server, Server(say) as model:
        for name, (settings, judge) in changes.items():
            found = evaluated(tmp_path / "store", {**benchmark, **settings}, engine(server, **judge), engine(model))
            judges[name] = found.to_json()["benchmarks"][0]["judge"]
    assert judges["none"] == judges["rule"] == judges["server"]
    for name in ("identity", "decoding"):
        assert {key for key, value in judges[name].items() if value != judges["none"][key]} == {name}


def test_each_benchmarks_prompt_has_a_digest_of_its_words() -> None:
    kinds = [MMHal, MMVet, LlavaBench, MTBench]
    digests = {kind.__name__: kind.model_construct().prompt_digest() for kind in kinds}
    assert len(set(digests.values())) == 4

    class Reworded(MMHal):
        forms = (MMHal.forms[0] + " ",)

    assert Reworded(kind="mmhal", data="").prompt_digest() != digests["MMHal"]


def test_two_models_of_which_one_has_an_unjudged_answer_are_not_tested_as_if_it_were_right() -> None:
    bench = MMHal(kind="mmhal", data="")
    hallucination = bench.metrics()[1]
    bad, good = ({"rated": 1, "hallucinated": wrong} for wrong in (1, 0))
    first = [Score(str(n), str(n), bad if n < 6 else good) for n in range(20)]
    second = [Score(str(n), str(n), {"unjudged": 1} if n < 6 else good) for n in range(20)]
    comparison = Comparison({"base": Counts.of(first), "aligned": Counts.of(second)}, 200, 0)
    assert comparison.difference(hallucination).test == "bootstrap"
    comparison = Comparison({"base": Counts.of(first), "aligned": Counts.of(first)}, 200, 0)
    assert comparison.difference(hallucination).test == "mcnemar"


@pytest.mark.parametrize(
    ("benchmark", "told"),
    [
        ({"kind": "mmhal", "data": "x"}, "names no judge"),
        ({"kind": "mmhal", "data": "x", "judge": "juge"}, "no engine named 'juge'"),
        ({"kind": "mmhal", "data": "x", "judge": "painter"}, "is no text_chat"),
    ],
)
def test_a_judge_that_cannot_be_is_told_by_the_recipe(tmp_path: Path, benchmark: dict[str, Any], told: str) -> None:
    tree = {
        "name": "x",
        "engines": {"painter": {"kind": "diffusers", "model": "m"}},
        "eval": {"model": "m", "benchmarks": [benchmark]},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(RecipeError, match=told):
        read(tmp_path / "x.yaml")


def test_what_a_judge_would_lack_is_told_before_a_model_answers(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes((heldout.FOLDER / "pictures" / "000.png").read_bytes())
    row = {"question_id": 0, "image": "0.png", "category": "conv", "text": "What?"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row))
    benchmark = {"kind": "llava_bench", "part": "in-the-wild", "data": str(tmp_path)}
    with Server(rate) as server, Server(say) as model, pytest.raises(DataError, match="needs the context of question 0"):
        evaluated(tmp_path / "store", benchmark, engine(server), engine(model))
    assert not model.bodies
