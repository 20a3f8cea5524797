"""Who plays the models that the shipped recipes name: stand-ins of their architectures, and one server for all that is asked
over HTTP or that random weights cannot do, which is to write JSON and to say yes or no."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sightline.recipe import read
from tests import painters, standins
from tests.make.writer import QUICK, asked_for
from tests.servers import Server, shown_answers, text_of

STAND_INS = {
    "stabilityai/stable-diffusion-3-medium-diffusers": "stable_diffusion_3",
    "stabilityai/sd-turbo": "stable_diffusion",
    "THUDM/ImageReward": "image_reward",
    "RLHFlow/ArmoRM-Llama3-8B-v0.1": "armorm",
    "llava-hf/llava-1.5-7b-hf": "llava",
    "llava-hf/llava-1.5-13b-hf": "llava",
    "llava-hf/llava-v1.6-mistral-7b-hf": "llava_next_mistral",
    "llava-hf/llava-v1.6-vicuna-7b-hf": "llava_next",
    "llava-hf/llava-v1.6-vicuna-13b-hf": "llava_next",
    "llava-hf/llava-v1.6-34b-hf": "llava_next",
    "llava-hf/llama3-llava-next-8b-hf": "llava_next",
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2_5_vl",
    "Qwen/Qwen3-VL-2B-Instruct": "qwen3_vl",
    "HuggingFaceM4/Idefics3-8B-Llama3": "idefics3",
    "HuggingFaceTB/SmolVLM-256M-Instruct": "idefics3",
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": "smolvlm",
    "OpenGVLab/InternVL3-8B-hf": "internvl",
    "OpenGVLab/InternVL3-14B-hf": "internvl",
    "google/gemma-3-4b-it": "gemma3",
    "google/gemma-3-12b-it": "gemma3",
}
"""The architecture of each model that a recipe loads, by the name of its stand-in."""
SPEAKS = {"laptop": ("helper",), "rlaif-v": ("labeller",)}
"""Engines whose models run in the process, and whose replies have to be understood."""


class Cast:
    """Builds each stand-in once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = cache(self._model)

    def _model(self, name: str) -> str:
        kind = STAND_INS[name]
        builder = painters if kind in painters.BUILDERS else standins
        place = self.folder / kind
        return str(place if place.is_dir() else builder.build(kind, place))

    def overrides(self, recipe: str, server: Server) -> Iterator[str]:
        """Settings that put stand-ins in the models' places, and nothing else."""
        found, _ = read(recipe)
        for name, engine in found.engines.items():
            if engine.served:
                told = {"api_key_env": "null", "base_url": server.url, "extra_body": "{}", **QUICK}
                yield from (f"engines.{name}.{key}={value}" for key, value in told.items())
            elif name in SPEAKS.get(recipe, ()):
                served = {"kind": "openai_http", "model": engine.model, "base_url": server.url, **QUICK}
                yield f"engines.{name}={json.dumps(served)}"
            else:
                yield f"engines.{name}.model={self.model(engine.model)}"
        yield f"train.model={self.model(found.train.model)}"


def quick(recipe: str) -> Iterator[str]:
    """Settings that make the work small: few tokens, a step or two. What random weights write does not end, and counts."""
    found, _ = read(recipe)
    yield from ("execution.threads=1", "execution.shard_size=4", "eval.draws=100", "make.pairs.allow_cut=true")
    yield from ("make.responses.decoding.max_tokens=6", "train.epochs=1", "train.batch_size=2", "train.accumulation=1")
    for number, member in enumerate(found.make.responses.pool):
        if member.decoding and member.decoding.max_tokens:
            yield f"make.responses.pool.{number}.decoding.max_tokens=6"
    for number in range(len(found.eval.benchmarks)):
        yield f"eval.benchmarks.{number}.decoding.max_tokens=4"
    for name, engine in found.engines.items():
        if engine.kind == "diffusers":
            yield f"engines.{name}.steps=2"


def answer(body: dict[str, Any]) -> str:
    """What the server says to whatever the recipes ask: JSON where that is wanted, ratings by the words that are rated."""
    text = text_of(body)
    rng = random.Random(f"{text}{body.get('seed')}")
    if text.startswith("Write ") and "prompts for a model" in text:
        return json.dumps({"prompts": [_scene(rng) for _ in range(asked_for(body)[0])]})
    if text.startswith("A picture was made"):
        return json.dumps({"instruction": "Describe what is to be seen."})
    if "Take the answer apart" in text:
        said = re.search(r"\[Answer\]\n(.*?)\n\[End of answer\]", text, re.DOTALL)[1]
        return json.dumps({"claims": [{"claim": f"{word}.", "question": f"Is {word} there?"} for word in said.split()[:3]]})
    if shown := shown_answers(body):
        return json.dumps({"answers": [_rated(body, place, said) for place, said in enumerate(shown, 1)]})
    return _benchmark(body, text) or rng.choice(["Yes.", "No."])


def _scene(rng: random.Random) -> str:
    return " ".join(rng.sample([f"{first}{second}" for first in "bcdfg" for second in ("arn", "oat", "ell", "ump", "ink")], 10))


def _rated(body: dict[str, Any], place: int, said: str) -> dict[str, Any]:
    """The rubric's aspects, each on its scale."""
    rng = random.Random(said)
    asked = body["response_format"]["json_schema"]["schema"]["properties"]["answers"]["items"]["properties"]
    ratings = {name: rng.choice(form["enum"]) for name, form in asked.items() if name not in ("answer", "reason")}
    return {"answer": place, "reason": "seen", **ratings}


def _benchmark(body: dict[str, Any], text: str) -> str | None:
    """A rating in the form that a benchmark's judge is asked for."""
    forms = {"Prediction | Rating": "0.5", "[Assistant 2]": "8 6\nso", "[[7]]": "Rating: [[6]]", '"Rating: N"': "Fine. Rating: 4"}
    return next((reply for mark, reply in forms.items() if mark in text), None)
