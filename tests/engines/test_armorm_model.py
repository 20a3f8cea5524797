"""ArmoRM's arithmetic, on a small random model."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sightline.engines import armorm_model
from sightline.engines.armorm_model import GATE_MARK, PUBLISHED_OBJECTIVES, ArmoRM, _objectives
from sightline.miniature import answer_reward
from tests import standins

TALKS = [
    ("This picture was asked to show a red cup.", "The picture shows a red cup in the park."),
    ("Hi", "No."),
    ("Was ist zu sehen? 多少", "A car, a cat and, perhaps, a ship (or two)."),
]


@pytest.fixture(scope="module")
def model() -> ArmoRM:
    torch.manual_seed(0)
    made = answer_reward.new_model().eval()
    with torch.no_grad():
        made.reward_transform_matrix.copy_(torch.randn(5, 5))
        made.gating.logit_scale.fill_(1.7)
    return made


def test_the_score_is_the_gate_weighed_transformed_rewards(model: ArmoRM):
    prompt, answer = TALKS[0]
    text = f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{prompt}{GATE_MARK}{answer}<|eot_id|>"
    ids = model.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    mark = model.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    with torch.no_grad():
        states = model.model(input_ids=ids).last_hidden_state[0].double().numpy()
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    gate = states[ids[0].tolist().index(mark)]  # the first end of a turn: the user's
    for layer in range(2):
        gate = np.maximum(0, weights[f"gating.layers.{layer}.weight"] @ gate + weights[f"gating.layers.{layer}.bias"])
    logits = (weights["gating.layers.2.weight"] @ gate + weights["gating.layers.2.bias"]) / 10
    gates = np.exp(logits) / np.exp(logits).sum() * 1.7
    rewards = weights["regression_layer.weight"] @ states[-1]
    (found,) = model.score([(prompt, answer)])
    assert found.rewards == pytest.approx(rewards, abs=1e-5)
    assert found.gates == pytest.approx(gates, abs=1e-5)
    assert found.score == pytest.approx(gates @ (rewards @ weights["reward_transform_matrix"]), abs=1e-5)


RECORDED = [  # score, and the first three rewards and gates
    (-0.129839688539505, [-0.6463872194, 0.4420698881, 0.0144057870], [0.0032342975, 0.0013571258, 0.0031889484]),
    (0.008810792118310928, [-2.9006938934, -0.9098790884, -2.0425457954], [0.0038904776, 0.0011254933, 0.0110750999]),
    (0.7628500461578369, [1.3384816647, 1.9255977869, 0.0417169929], [0.0026075952, 0.0016948996, 0.0082237944]),
]


def test_the_score_is_the_original_implementations(tmp_path: Path):
    """Recorded with LlamaForRewardModelWithGating of RLHFlow/ArmoRM-Llama3-8B-v0.1's modeling_custom.py (a public copy of it), on
    transformers 4.40.2, in float32 on a CPU, one talk at a time: the stand-in's weights, token ids and mark of the answer."""
    found = ArmoRM.from_folder(standins.build("armorm", tmp_path)).score(TALKS)
    for talk, (score, rewards, gates) in zip(found, RECORDED, strict=True):
        assert talk.score == pytest.approx(score, abs=1e-5)
        assert talk.rewards[:3] == pytest.approx(rewards, abs=1e-5)
        assert talk.gates[:3] == pytest.approx(gates, abs=1e-5)


def test_a_batch_scores_as_its_conversations_do_alone(model: ArmoRM):
    together = [talk.score for talk in model.score(TALKS)]
    assert together == pytest.approx([model.score([talk])[0].score for talk in TALKS], abs=1e-5)
    assert together == pytest.approx([talk.score for talk in model.score(TALKS, batch_size=2)], abs=1e-5)


@pytest.mark.parametrize("longest", [4096, 60])
def test_answers_to_one_prompt_share_its_reading_and_score_as_alone(model: ArmoRM, monkeypatch: pytest.MonkeyPatch, longest: int):
    """Prompts and answers of several lengths, an answer that begins as another, one that comes twice, one with a mark in it."""
    monkeypatch.setattr(armorm_model, "LONGEST_TREE", longest)
    exact = deepcopy(model).double()
    first, second = "Which?", "This picture was asked to show a red cup, a blue car and a tree. Describe what it shows."
    talks = [
        *((first, answer) for answer in ("A red cup.", "A red cup.", "A red cup. It stands in the park, on a table.", "No.")),
        *((second, answer) for answer in ("A car.", f"A car.{GATE_MARK}A cup, too.", "The picture shows a red cup.")),
        ("Hi", "No."),
    ]
    read: list[int] = []
    monkeypatch.setattr(exact.model, "forward", _counted(exact.model.forward, read))
    together = exact.score([talks[at] for at in (4, 0, 7, 1, 5, 2, 6, 3)])
    num_together, read[:] = sum(read), []
    for at, found in zip((4, 0, 7, 1, 5, 2, 6, 3), together, strict=True):
        (alone,) = exact.score([talks[at]])
        assert (found.score, *found.rewards) == pytest.approx((alone.score, *alone.rewards), abs=1e-6)
        assert found.gates == pytest.approx(alone.gates, abs=1e-9)
    assert longest < 4096 or num_together < sum(read)


def _counted(forward: Callable[..., Any], read: list[int]) -> Callable[..., Any]:
    """The forward, noting how many tokens it read."""

    def counted(**inputs: Any) -> Any:
        read.append(inputs["input_ids"].numel())
        return forward(**inputs)

    return counted


def test_the_gate_reads_the_prompt_and_never_the_answer(model: ArmoRM):
    first, second = model.score([("Which?", "A red cup."), ("Which?", "No.")])
    assert first.gates == pytest.approx(second.gates, abs=1e-6)
    assert first.rewards != pytest.approx(second.rewards, abs=1e-3)


def test_a_saved_folder_scores_the_same_and_has_the_published_names(model: ArmoRM, tmp_path: Path):
    model.save_folder(tmp_path, torch.float32)
    again = ArmoRM.from_folder(tmp_path)
    assert again.objectives == ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    assert [talk.score for talk in again.score(TALKS)] == pytest.approx([talk.score for talk in model.score(TALKS)], abs=1e-6)
    names = set(load_file(tmp_path / "model.safetensors"))
    own = {name for name in names if not name.startswith("model.")}
    layers = {f"gating.layers.{number}.{part}" for number in range(3) for part in ("weight", "bias")}
    assert own == {"regression_layer.weight", "reward_transform_matrix", "gating.logit_scale"} | layers
    assert {"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"} <= names


def test_a_configuration_without_names_gets_the_published_nineteen(model: ArmoRM):
    config = type(model.config)(num_objectives=19)
    assert _objectives(config) == PUBLISHED_OBJECTIVES
    assert len(PUBLISHED_OBJECTIVES) == 19


def test_an_answer_that_starts_with_newlines_keeps_its_gate(model: ArmoRM):
    plain, padded = model.score([("Which?", "A cup."), ("Which?", "\n\n  A cup.\n")])
    assert padded == plain
