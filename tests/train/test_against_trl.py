"""Loss and gradients against TRL's DPOTrainer, in float32, on the same pairs of unlike lengths."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from sightline.engines import Engines
from sightline.engines.transformers import load_processor
from sightline.execute import Use
from sightline.rows import Pair
from sightline.train.examples import Encoder
from sightline.train.logprobs import TreeScorer, as_logprobs, pack
from sightline.train.objectives import OBJECTIVES

from .conftest import draw_pairs

trl = pytest.importorskip("trl", reason="TRL, a development dependency, is not installed")

BETA = 0.1
CLOSE = 5e-5  # relative; sums of hundreds of numbers, and differences of large ones
CASES = {
    "sigmoid": {"kind": "dpo"},
    "sigmoid_norm": {"kind": "dpo", "length": "average"},
    "ipo": {"kind": "ipo"},
    "hinge": {"kind": "hinge"},
    "robust": {"kind": "robust", "label_smoothing": 0.1},
    "bco_pair": {"kind": "bco", "delta": "none"},
}


@pytest.fixture(scope="module")
def reference(tiny):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)


@pytest.fixture(scope="module")
def policy(reference):
    """The reference, moved a little, so that no gap is 0."""
    moved = copy.deepcopy(reference)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 0.01 * parameter.std() * torch.randn_like(parameter) if parameter.ndim > 1 else 0.0
    return moved


@pytest.fixture
def encoder(tiny, store):
    """Its template writes the first token: TRL 1.16 leaves that out of a template that does not, as LLaVA-1.5's."""
    processor = load_processor(str(tiny))
    processor.chat_template = "{{ '<s>' }}" + processor.chat_template
    return Encoder(processor, 256, Use(Engines({}), store, 0).picture)


@pytest.fixture
def pairs(store) -> list[Pair]:
    return draw_pairs(store, 4)


def theirs(loss_type: str, policy: Any, reference: Any, encoder: Encoder, pairs: list[Pair], folder: Any) -> torch.Tensor:
    """TRL's loss; its gradients lie in the policy."""
    from datasets import Dataset

    def turn(role: str, text: str) -> list[dict[str, Any]]:
        return [{"role": role, "content": [{"type": "text", "text": text}]}]

    rows = [
        {
            "images": [encoder.pictures.open(name) for name in pair.pictures],
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": pair.instruction}]}],
            "chosen": turn("assistant", pair.chosen),
            "rejected": turn("assistant", pair.rejected),
        }
        for pair in pairs
    ]
    arguments = trl.DPOConfig(
        output_dir=str(folder), loss_type=[loss_type], beta=BETA, label_smoothing=0.1 if loss_type == "robust" else 0.0,
        max_length=None, per_device_train_batch_size=len(rows), use_cpu=True, bf16=False, report_to="none",
        gradient_checkpointing=False, remove_unused_columns=False, disable_dropout=True,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=encoder.processor,
    )
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    loss.backward()
    return loss.detach()


def ours(section: dict[str, Any], policy: Any, reference: Any, encoder: Encoder, pairs: list[Pair]) -> torch.Tensor:
    objective = OBJECTIVES.read({**section, "beta": BETA})
    terms = objective.needed_terms()
    batch = pack([encoder.tree(pair, terms) for pair in pairs], terms, encoder.pictures, encoder.pad)
    with torch.no_grad():
        stored = TreeScorer(reference)(batch)
    counts = batch["num_tokens"]
    loss = objective.loss(as_logprobs(TreeScorer(policy)(batch), counts, terms), as_logprobs(stored, counts, terms))
    loss.value.backward()
    return loss.value.detach()


def gradients(network: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("loss_type", CASES)
def test_loss_and_gradients_equal_trls(loss_type, policy, reference, encoder, pairs, tmp_path):
    mine, other = copy.deepcopy(policy), copy.deepcopy(policy)
    expected = theirs(loss_type, other, copy.deepcopy(reference), encoder, pairs, tmp_path)
    made = ours(CASES[loss_type], mine, reference, encoder, pairs)
    assert made.item() == pytest.approx(expected.item(), rel=CLOSE)
    found, wanted = gradients(mine), gradients(other)
    assert found.keys() == wanted.keys()
    whole = torch.cat([gradient.flatten() for gradient in wanted.values()]).norm()
    for name, gradient in wanted.items():  # a key's bias has a gradient of 0, which is found as rounding
        assert (found[name] - gradient).norm() <= CLOSE * gradient.norm() + 1e-6 * whole, name
