"""Every objective of the table: loss and gradients of packed trees against those of plain rows, in float64.

On LLaVA; on every other family, too, with `pytest -m slow tests/train/test_every_objective.py`.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.engines import Engines
from sightline.engines.transformers import load_processor
from sightline.execute import Use
from sightline.rows import Negative, Pair
from sightline.train.changes import changed
from sightline.train.examples import Encoder
from sightline.train.logprobs import TreeScorer, as_logprobs, pack
from sightline.train.negatives import MakeNegatives, Negatives
from sightline.train.objectives import OBJECTIVES, Objective, Term
from tests.standins import BUILDERS, build

from . import test_families, test_logprobs
from .conftest import draw_pairs, moved

SECTIONS = {"mix": {"parts": [{"objective": {"kind": "kto", "nll": 0.5}}, {"weight": 0.3, "objective": {"kind": "mcm_dpo"}}]}}
"""Of kinds that need more than their name."""

Held = list[tuple[Pair, Negative | None]]


@pytest.fixture(scope="module", params=["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(BUILDERS))])
def folder(request, tiny, tmp_path_factory) -> Path:
    return tiny if request.param == "tiny" else build(request.param, tmp_path_factory.mktemp("standins") / request.param)


@pytest.fixture(scope="module")
def reference(folder):
    from transformers import AutoModelForImageTextToText

    return test_families.in_double(AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64))


@pytest.fixture(scope="module")
def policy(reference):
    """The reference, moved, so that no gap is 0 and some guesses are others."""
    return test_families.in_double(moved(reference, 0.05))  # once again: what was copied reads the reference's weights


@pytest.fixture
def encoder(folder, store) -> Encoder:
    return Encoder(load_processor(str(folder)), 1024, Use(Engines({}), store, 0).picture)


def plain_scores(network: nn.Module, encoder: Encoder, pair: Pair, answer: str) -> tuple[Tensor, Tensor]:
    """By the miniature's own template, or by a family's."""
    is_miniature = encoder.tokenizer.name_or_path.endswith("tiny")
    return (test_logprobs if is_miniature else test_families).plain_scores(network, encoder, pair, answer)


def objective_of(kind: str) -> Objective:
    return OBJECTIVES.read({"kind": kind, **SECTIONS.get(kind, {})})


def held(objective: Objective, store) -> Held:
    """Pairs and what they are held against: two share instruction and chosen answer. Rows of one answer where they may be."""
    pairs = [replace(pair, instruction=f"{pair.instruction} {at} cup.") for at, pair in enumerate(draw_pairs(store, 3))]
    pairs.append(replace(pairs[0], id="twin", rejected="The picture shows nothing but a long street, and a bird on a tree."))
    lacking = [side for side in ("chosen", "rejected") if Term(side, optional=True) in objective.needed_terms()]
    pairs += [replace(pairs[at], id=f"no {side}", instruction=side, **{side: None}) for at, side in enumerate(lacking)]
    parts = sorted({part for term in objective.needed_terms() for part in term.negatives})
    step = MakeNegatives(parts=parts, settings=Negatives(noise_step=999))
    negatives = list(step.make(Use(Engines({}), store, 0), pairs)) if parts else [None] * len(pairs)
    return list(zip(pairs, negatives, strict=True))


def plain_term(network: nn.Module, encoder: Encoder, pair: Pair, negative: Negative | None, term: Term) -> tuple[Tensor, int]:
    """A term's sum and how many tokens it counts, from ordinary forward passes."""
    question = pair.instruction if term.question == "own" else negative.instruction
    asked = replace(pair, instruction=question, pictures=pair.pictures if term.picture == "own" else negative.pictures)
    answer = negative.response if term.response == "unrelated" else getattr(pair, term.response)
    if answer is None:
        return torch.zeros((), dtype=torch.float64), 0
    scores, tokens = plain_scores(network, encoder, asked, answer)
    if term.tokens == "guessed":
        noisy, _ = plain_scores(network, encoder, replace(asked, pictures=negative.pictures), answer)
        tokens = noisy.argmax(1)
    values = scores.gather(1, tokens[:, None])[:, 0]
    if term.tokens == "changed":
        prompt = encoder.tokenizer("a b c d e f g h")["input_ids"]  # any that both have in common
        sides = [plain_scores(network, encoder, asked, text)[1].tolist() for text in (pair.rejected, pair.chosen)]
        found = dict(zip(("rejected", "chosen"), changed(*([*prompt, *side] for side in sides)), strict=True))[term.response]
        values = values[[at - len(prompt) for at in found]]
    return values.sum(), len(values)


def plain_rows(network: nn.Module, encoder: Encoder, rows: Held, terms: tuple[Term, ...]) -> tuple[Tensor, Tensor]:
    made = [[plain_term(network, encoder, pair, negative, term) for term in terms] for pair, negative in rows]
    sums = torch.stack([torch.stack([value for value, _ in row]) for row in made])
    return sums, torch.tensor([[count for _, count in row] for row in made])


def gradients(network: nn.Module, loss: Tensor) -> list[Tensor]:
    return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("kind", list(OBJECTIVES))
def test_packed_trees_give_the_loss_and_gradients_of_plain_rows(kind, policy, reference, encoder, store):
    objective, other = objective_of(kind), objective_of(kind)  # two: some remember
    terms, rows = objective.needed_terms(), held(objective, store)
    batch = pack([encoder.tree(pair, terms, negative) for pair, negative in rows], terms, encoder.pictures, encoder.pad)
    packed, counts = TreeScorer(policy)(batch), batch["num_tokens"]
    plain, plain_counts = plain_rows(policy, encoder, rows, terms)
    with torch.no_grad():
        packed_reference = TreeScorer(reference)(batch)
        plain_reference, _ = plain_rows(reference, encoder, rows, terms)
    assert torch.equal(counts, plain_counts)
    assert (packed - plain).abs().max() < 1e-9 and (packed_reference - plain_reference).abs().max() < 1e-9
    assert (plain - plain_reference)[plain_counts > 0].abs().min() > 1e-5  # each term moved, far more than what is compared
    ours = objective.loss(as_logprobs(packed, counts, terms), as_logprobs(packed_reference, counts, terms))
    theirs = other.loss(as_logprobs(plain, counts, terms), as_logprobs(plain_reference, counts, terms))
    assert abs(ours.value - theirs.value) < 1e-9
    assert ours.logs.keys() == theirs.logs.keys() and all(abs(ours.logs[name] - theirs.logs[name]) < 1e-9 for name in ours.logs)
    expected = gradients(policy, theirs.value)
    assert max(gradient.abs().max() for gradient in expected) > 1e-4
    for found, gradient in zip(gradients(policy, ours.value), expected, strict=True):
        assert (found - gradient).abs().max() < 1e-7 * max(1, gradient.abs().max())
