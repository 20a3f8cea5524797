"""The engine against a real server, `transformers serve`, with a tiny model: answers, a judge, and a whole recipe over HTTP."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import PIL.Image
import pytest
import yaml

from sightline.check import check
from sightline.engines.openai_http import OpenAIHTTP
from sightline.engines.roles import ChatRequest, Decoding
from sightline.engines.transformers import Transformers
from sightline.engines.weights import locate
from sightline.errors import RunError
from sightline.miniature import world
from sightline.run import make

GREEDY = Decoding(max_tokens=24)
KEY = "sk-secret-0123456789abcdef"


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """A server's address, and the name of its model: the miniature policy, which may be sampled from."""
    pytest.importorskip("fastapi", reason="transformers serve needs pip install 'transformers[serving]'")
    folder = tmp_path_factory.mktemp("served")
    model = shutil.copytree(locate("miniature/policy"), folder / "policy")
    settings = model / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_sample": True}))  # else it ignores the temperature
    (folder / "hub").mkdir()  # without it /v1/models is an error
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import app; app()", "serve", str(model)]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"},
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            if httpx2.get(address, timeout=2).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(log.read_text())


@pytest.fixture
def engine(served) -> OpenAIHTTP:
    address, model = served
    return OpenAIHTTP(kind="openai_http", model=model, base_url=address, concurrency=4, timeout_s=60.0)


@pytest.fixture(scope="module")
def scenes() -> list[PIL.Image.Image]:
    rng = np.random.default_rng(0)
    return [world.draw(world.sample(rng), rng) for _ in range(5)]


def test_greedy_replies_are_those_of_the_model_in_this_process(engine, scenes):
    texts = ["Describe the picture.", "Is there a cup in the picture?"]
    requests = [ChatRequest(text, (picture,)) for text in texts for picture in scenes]
    here = Transformers(kind="transformers", model="miniature/policy").load().chat(requests, GREEDY)
    there = engine.load().chat(requests, GREEDY)
    assert [(reply.text, reply.finish) for reply in there] == [(reply.text, reply.finish) for reply in here]
    assert len({reply.text for reply in there}) > 5  # it looks at the pictures


def test_a_cut_reply_says_so(engine, scenes):
    (reply,) = engine.load().chat([ChatRequest("Describe the picture.", (scenes[0],))], Decoding(max_tokens=5))
    assert (reply.finish, reply.num_tokens) == ("length", 5)


def test_a_seed_decides_what_is_sampled(engine, scenes):
    # one at a time: this server's seed is the whole process's, and requests at once would draw from one stream
    chat = engine.model_copy(update={"concurrency": 1}).load()
    asked = [ChatRequest("Describe the picture.", (scenes[0],), seed) for seed in range(4)]
    sampled = Decoding(temperature=1.5, max_tokens=24)
    texts = [reply.text for reply in chat.chat(asked, sampled)]
    assert [reply.text for reply in chat.chat(asked, sampled)] == texts
    assert len(set(texts)) > 1


def test_a_model_that_the_server_does_not_have_is_told(engine):
    with pytest.raises(RunError, match="HTTP 400.*another"):
        engine.model_copy(update={"model": "another"}).load().chat([ChatRequest("Describe the picture.")], GREEDY)


def test_a_recipe_gets_answers_and_a_judge_over_http_and_its_key_stays_outside(served, tmp_path, monkeypatch):
    address, model = served
    monkeypatch.setenv("SERVER_KEY", KEY)
    server = {"kind": "openai_http", "model": model, "base_url": address, "api_key_env": "SERVER_KEY", "concurrency": 4}
    recipe = {
        "name": "served",
        "engines": {
            "painter": {"kind": "diffusers", "model": "miniature/painter", "steps": 2, "max_sequence_length": 1},
            "eyes": {"kind": "image_reward", "model": "miniature/image-reward"},
            "policy": {**server, "input_price": 1.0, "output_price": 1.0},
        },
        "make": {
            "prompts": {"kind": "file", "path": "prompts.txt"},
            "images": {"engine": "painter", "guidance": [1, 5]},
            "ranking": {"scorer": "eyes"},
            "instructions": {"templates": ["Describe the picture."]},
            "responses": {"decoding": {"max_tokens": 24}, "pool": [{"engine": "policy"}]},
            "annotations": {"judge": {"kind": "judge", "judge": "policy", "rubric": "vlfeedback", "decoding": {"max_tokens": 8}}},
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "prompts.txt").write_text("a red cup in the kitchen\na blue bird in the park\n")
    assert f"model {model}: a server answers at {address}" in check(tmp_path / "recipe.yaml").facts

    run = make(tmp_path / "recipe.yaml", tmp_path / "runs" / "served")
    assert [row.text for row in run.rows("responses/policy") if row.text] and run.dropped("responses/policy") == []
    judgements = run.rows("judgements/judge")
    assert len(judgements) == 2 and all("[Answer 1]" in row.question for row in judgements)
    # the miniature speaks of pictures, never in ratings: what it says is kept, and read as nothing
    assert {row.score for row in run.rows("annotations/judge")} == {None}
    used = run.manifest["steps"]["responses/policy"]["usage"]
    assert used["calls"] == 2 and used["cost"] == pytest.approx((used["input_tokens"] + used["output_tokens"]) / 1e6)
    assert run.manifest["steps"]["images"]["usage"] == {}

    rows = [run.rows(step) + run.dropped(step) for step in run.manifest["steps"]]
    assert KEY not in repr(rows)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
