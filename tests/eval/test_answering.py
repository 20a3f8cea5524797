"""Engines of a recipe that answer benchmarks, such as a server's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.errors import RecipeError
from sightline.recipe import parse
from sightline.run import evaluate
from sightline.sweep import sweep
from tests.servers import Server, text_of

POPE = {"kind": "pope", "data": "miniature/heldout"}
NUM_PICTURES = 3


def tree(server_url: str, **section: Any) -> dict[str, Any]:
    def served(model: str) -> dict[str, Any]:
        return {"kind": "openai_http", "model": model, "base_url": server_url, "retries": 0}

    return {
        "name": "served",
        "engines": {
            "plain": served("plain"),
            "lora": served("lora"),
            "painter": {"kind": "diffusers", "model": "miniature/painter"},
        },
        "execution": {"threads": 1},
        "train": {"pairs": "not/there", "model": "miniature/policy", "objective": {"kind": "dpo"}},
        "eval": {"benchmarks": [POPE], "limit": NUM_PICTURES, "draws": 200, **section},
    }


def test_served_models_are_evaluated_and_compared_without_training(tmp_path: Path) -> None:
    def say(body: dict[str, Any]) -> str:
        return "Yes." if body["model"] == "plain" else "No."

    with Server(say) as server:
        told = tree(server.url, engines={"base": "plain", "aligned": "lora"}, suffix=" Be brief.")
        (tmp_path / "served.yaml").write_text(yaml.safe_dump(told))
        run = evaluate(tmp_path / "served.yaml", tmp_path / "runs" / "served")
        asked = len(server.bodies)
        evaluate(tmp_path / "served.yaml", tmp_path / "runs" / "served")
        assert len(server.bodies) == asked  # the answers are stored
    assert all(count == 1 for count in server.paid.values())
    suffixed = {(body["model"], text_of(body).endswith(" Be brief.")) for body in server.bodies}
    assert suffixed == {("plain", False), ("lora", True)}
    (result,) = json.loads((run.folder / "results.json").read_text())["benchmarks"]
    found = {line["metric"]: line for line in result["metrics"]}
    # POPE asks about as many things that are in a picture as about things that are not
    assert {who: found["accuracy"][who]["value"] for who in ("base", "aligned")} == {"base": 50, "aligned": 50}
    assert {who: found["recall"][who]["value"] for who in ("base", "aligned")} == {"base": 100, "aligned": 0}
    assert found["recall"]["difference"]["value"] == -100  # YAML has the names in their alphabet's order


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"engines": {"base": "plan"}}, "eval.engines.base.*no engine named 'plan'.*plain"),
        ({"engines": {"base": "painter"}}, "eval.engines.base.*vision_chat"),
        ({"engines": {"aligned": "lora"}}, "aligned is compared with base"),
        ({"engines": {"base": "plain"}, "model": "miniature/policy"}, "leave out engines or model"),
        ({"engines": {"base": "plain"}, "adapter": "runs/x/adapter"}, "leave out engines or adapter"),
        ({"engines": {"base": "plain"}, "lmms_eval": {"python": "python", "tasks": ["pope"]}}, "leave out engines or lmms_eval"),
        ({"engines": {"tuned": "plain"}}, "eval.engines.tuned"),
    ],
)
def test_engines_that_cannot_answer_are_refused_before_anything_is_asked(section: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        parse(tree("http://127.0.0.1:9/v1", **section))


def test_a_sweep_of_served_models_is_refused(tmp_path: Path) -> None:
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(tree("http://127.0.0.1:9/v1", engines={"base": "plain"})))
    with pytest.raises(RecipeError, match="in place of what each point trains"):
        sweep(tmp_path / "served.yaml", ["train.seed=0,1"], tmp_path / "runs" / "grid")
