"""A recipe whose prompts, instructions and claims are written by a model: checked, carried out, killed and gone on with."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import sightline
from sightline.errors import DataError, RecipeError
from sightline.show import show
from tests.conftest import REPOSITORY
from tests.make.writer import QUICK, asked_for
from tests.servers import Server, text_of

TOPICS = ["art", "nature"]


def recipe(url: str) -> dict[str, Any]:
    served = {"kind": "openai_http", "model": "writer-model", "base_url": url, **QUICK, "concurrency": 1}
    return {
        "name": "written",
        "execution": {"shard_size": 2, "threads": 1},
        "engines": {
            "painter": {"kind": "diffusers", "model": "miniature/painter", "steps": 2, "max_sequence_length": 1},
            "eyes": {"kind": "image_reward", "model": "miniature/image-reward"},
            "policy": {"kind": "transformers", "model": "miniature/policy"},
            "writer": served,
            "judge": {**served, "model": "judge-model"},
        },
        "make": {
            "prompts": {"kind": "written", "engine": "writer", "topics": TOPICS, "count": 4, "per_call": 1},
            "images": {"engine": "painter", "guidance": [1, 5]},
            "ranking": {"scorer": "eyes"},
            "instructions": {"kind": "written", "engine": "writer"},
            "responses": {"pool": [{"engine": "policy", "samples": 2, "decoding": {"temperature": 1.0, "max_tokens": 20}}]},
            "annotations": {"claims": {"kind": "claims", "judge": "judge", "split": {"engine": "writer"}}},
            "pairs": {"kind": "all_pairs", "weights": {"claims": 1.0}, "allow_cut": True},
        },
    }


def answer(body: dict[str, Any]) -> str:
    """Everything that the recipe asks for."""
    text = text_of(body)
    if body["model"] == "judge-model":
        return random.Random(text).choice(["Yes.", "No."])
    if text.startswith("Write "):
        rng = random.Random(body["seed"])
        kinds = ["a cup", "a tree", "a cat", "a bird", "a lamp", "a boat"]
        scenes = [" and ".join(rng.sample(kinds, 3)) for _ in range(asked_for(body)[0])]
        return json.dumps({"prompts": [f"{scene} in the park" for scene in scenes]})
    if text.startswith("A picture was made"):
        return '{"instruction": "Describe the picture."}'
    said = re.search(r"\[Answer\]\n(.*?)\n\[End of answer\]", text, re.DOTALL)[1]
    return json.dumps({"claims": [{"claim": f"{word}.", "question": f"Is {word} right?"} for word in said.split()[-3:]]})


def saved(tmp_path: Path, tree: dict[str, Any]) -> Path:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("make.prompts.engine=writr", r"make\.prompts: no engine named 'writr'.*\n.*did you mean 'writer'"),
        ("make.prompts.engine=eyes", r"make\.prompts: engine 'eyes' \(image_reward\) is no text_chat\n.*engines that are: "),
        ("make.instructions.engine=painter", r"make\.instructions: engine 'painter' \(diffusers\) is no text_chat"),
        ("make.annotations.claims.split.engine=nobody", r"make\.annotations\.claims: no engine named 'nobody'"),
        ("make.prompts.topics=[art, art]", r"make\.prompts: the topic 'art' stands twice"),
        ("make.instructions.wording=Ask.", r"make\.instructions\.wording: the text lacks its slot 'prompt'"),
        ("make.annotations.claims.objects=miniature/objects", r"make\.annotations\.claims: claims come from word lists, or from"),
    ],
)
def test_a_check_finds_what_is_wrong_before_anything_is_asked(tmp_path, override, said):
    with Server(answer) as server, pytest.raises((RecipeError, DataError), match=said):
        sightline.check(saved(tmp_path, recipe(server.url)), [override])
    assert server.bodies == []


def test_a_check_tells_of_a_file_that_is_not_there(tmp_path):
    with Server(answer) as server:
        missing = sightline.check(saved(tmp_path, recipe(server.url)), ["make.instructions={kind: file, path: none.txt}"]).missing
    (error,) = missing
    assert error.where.endswith("none.txt") and error.problem.startswith("the instructions cannot be read")


def test_a_check_says_who_will_write_the_prompts(tmp_path):
    with Server(answer) as server:
        facts = sightline.check(saved(tmp_path, recipe(server.url))).facts
    assert "prompts: 4 over 2 topics, which 'writer' writes when the run begins" in facts and server.bodies == []


def test_killed_at_any_call_it_goes_on_and_asks_for_nothing_that_was_answered(tmp_path):
    """The server kills the process that asks, while it asks for prompts and for splits, when nothing else is under way."""
    running: list[subprocess.Popen] = []

    def fault(request, attempt):
        if running and len(server.paid) in kills:
            kills.remove(len(server.paid))
            running[-1].send_signal(signal.SIGKILL)
            return "cut"
        return None

    with Server(answer, fault) as server:
        kills: list[int] = []
        path = saved(tmp_path, recipe(server.url))
        whole = sightline.make(path, tmp_path / "whole" / "run")
        owed = dict(server.paid)
        splits = [place for place, name in enumerate(owed) if "Take the answer apart" in server.texts[name]]
        server.paid.clear()
        kills += [2, splits[0] + 1]
        command = [sys.executable, "-c", "from sightline.cli import main; main()", "make", str(path)]
        while kills:
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
            out = tmp_path / "cut" / "run"
            running.append(subprocess.Popen([*command, "--out", str(out)], env=environment, stdout=subprocess.DEVNULL))
            assert running[-1].wait(300) == -signal.SIGKILL
        cut = sightline.make(path, out)
        assert dict(server.paid) == owed
    steps = [name for name in whole.manifest["steps"] if name.startswith(("replies", "splits"))]
    assert {"replies/prompts-1", "replies/instructions", "splits/claims"} <= set(steps)
    for step in whole.manifest["steps"]:
        assert cut.rows(step) == whole.rows(step)
    assert len(whole.rows("prompts")) == 4 and {row.topic for row in whole.rows("prompts")} == set(TOPICS)
    leads_back(whole)


def leads_back(run: Any) -> None:
    """A pair shows the replies in which its prompt, instruction and claims were written."""
    pair = run.rows("pairs")[0]
    console = Console(width=200, record=True, file=(run.folder / "out").open("w"))
    for part in show(run.folder, pair.id, 10):
        console.print(part)
    heads = [line.strip(" \u2502\u251c\u2514\u2500").split(" ")[0] for line in console.export_text().splitlines()]
    assert {"pairs", "splits/claims", "judgements/claims", "instructions", "replies/instructions", "images", "prompts"} <= set(
        heads
    )
    assert any(head.startswith("replies/prompts-") for head in heads)
    page = (run.folder / "report.html").read_text()
    assert "replies/prompts-1" in page and "splits/claims" in page
