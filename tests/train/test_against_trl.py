"""Loss and gradients against TRL's DPOTrainer and KTOTrainer, in float32, on the same pairs of unlike lengths."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from sightline.engines import Engines
from sightline.engines.transformers import load_processor
from sightline.execute import Use
from sightline.rows import Negative, Pair
from sightline.train.examples import Encoder
from sightline.train.logprobs import TreeScorer, as_logprobs, pack
from sightline.train.objectives import OBJECTIVES, Loss

from .conftest import draw_pairs, moved

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
    return moved(reference, 0.01)


@pytest.fixture
def encoder(tiny, store):
    """Its template writes the first token: TRL 1.16 leaves that out of a template that does not, as LLaVA-1.5's."""
    processor = load_processor(str(tiny))
    processor.chat_template = "{{ '<s>' }}" + processor.chat_template
    return Encoder(processor, 256, Use(Engines({}), store, 0).picture)


@pytest.fixture
def pairs(store) -> list[Pair]:
    return draw_pairs(store, 4)


def asked(encoder: Encoder, pair: Pair) -> dict[str, Any]:
    return {
        "images": [encoder.pictures.open(name) for name in pair.pictures],
        "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": pair.instruction}]}],
    }


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def theirs(
    loss_type: str, policy: Any, reference: Any, encoder: Encoder, rows: list[dict[str, Any]], folder: Any, **settings: Any
) -> torch.Tensor:
    """TRL's loss; its gradients lie in the policy."""
    from datasets import Dataset

    is_kto = loss_type == "kto"
    arguments = (trl.KTOConfig if is_kto else trl.DPOConfig)(
        output_dir=str(folder), loss_type=loss_type if is_kto else [loss_type], beta=BETA, **settings,
        max_length=None, per_device_train_batch_size=len(rows), use_cpu=True, bf16=False, report_to="none",
        gradient_checkpointing=False, remove_unused_columns=False, disable_dropout=True,
    )  # fmt: skip
    trainer = (trl.KTOTrainer if is_kto else trl.DPOTrainer)(
        model=policy,
        ref_model=reference,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=encoder.processor,
    )
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    loss.backward()
    return loss.detach()


def ours(
    section: dict[str, Any], policy: Any, reference: Any, encoder: Encoder, pairs: list[Pair], negatives: list[Negative | None]
) -> Loss:
    objective = OBJECTIVES.read({**section, "beta": BETA})
    terms = objective.needed_terms()
    trees = [encoder.tree(*held) for held in zip(pairs, [terms] * len(pairs), negatives, strict=True)]
    batch = pack(trees, terms, encoder.pictures, encoder.pad)
    with torch.no_grad():
        stored = TreeScorer(reference)(batch)
    counts = batch["num_tokens"]
    loss = objective.loss(as_logprobs(TreeScorer(policy)(batch), counts, terms), as_logprobs(stored, counts, terms))
    loss.value.backward()
    return loss


def gradients(network: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("loss_type", CASES)
def test_loss_and_gradients_equal_trls(loss_type, policy, reference, encoder, pairs, tmp_path):
    mine, other = copy.deepcopy(policy), copy.deepcopy(policy)
    rows = [{**asked(encoder, pair), "chosen": said(pair.chosen), "rejected": said(pair.rejected)} for pair in pairs]
    settings = {"label_smoothing": 0.1 if loss_type == "robust" else 0.0}
    expected = theirs(loss_type, other, copy.deepcopy(reference), encoder, rows, tmp_path, **settings)
    made = ours(CASES[loss_type], mine, reference, encoder, pairs, [None] * len(pairs))
    assert made.value.item() == pytest.approx(expected.item(), rel=CLOSE)
    assert_same_gradients(mine, other)


@pytest.mark.parametrize("has_gained", [True, False])
def test_ktos_loss_and_gradients_equal_trls(policy, reference, encoder, pairs, tmp_path, has_gained):
    """Rows of one answer, praised or blamed; TRL holds each against the answer of the row before it, and so is ours here."""
    if has_gained:  # on unrelated answers, which the moved model likes less: the bar is then above 0
        policy, reference = reference, policy
    mine, other = copy.deepcopy(policy), copy.deepcopy(policy)
    lacking = ("rejected", "chosen", "rejected", "rejected")
    lone = [replace(pair, **{side: None}) for pair, side in zip(pairs, lacking, strict=True)]
    answers = [next(iter(pair.answers.values())) for pair in lone]
    rows = [
        {**asked(encoder, pair), "completion": said(answer), "label": pair.chosen is not None}
        for pair, answer in zip(lone, answers, strict=True)
    ]
    negatives = [
        Negative(id=answer, key="", pair_id="", instruction=None, pictures=[], seed=0, source_ids=[], response=answer)
        for answer in [answers[-1], *answers[:-1]]
    ]
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.7}
    expected = theirs("kto", other, copy.deepcopy(reference), encoder, rows, tmp_path, **weights)
    made = ours({"kind": "kto", **weights}, mine, reference, encoder, lone, negatives)
    assert made.value.item() == pytest.approx(expected.item(), rel=CLOSE)
    assert (made.logs["bar"].item() > 0.01) == has_gained
    assert_same_gradients(mine, other)


def assert_same_gradients(mine: Any, other: Any) -> None:
    found, wanted = gradients(mine), gradients(other)
    assert found.keys() == wanted.keys()
    whole = torch.cat([gradient.flatten() for gradient in wanted.values()]).norm()
    for name, gradient in wanted.items():  # a key's bias has a gradient of 0, which is found as rounding
        assert (found[name] - gradient).norm() <= CLOSE * gradient.norm() + 1e-6 * whole, name
