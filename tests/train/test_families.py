"""Every family's packed trees against its own plain forward, in float64, on random models of the real architectures."""

import io
from collections.abc import Iterator
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sightline.engines import Engines
from sightline.engines.transformers import load_processor
from sightline.errors import TrainingError
from sightline.execute import Use
from sightline.rows import Pair
from sightline.store.shards import Store
from sightline.train import Train, attention, train, tuning
from sightline.train.base import Base
from sightline.train.examples import Encoder, Tree
from sightline.train.families import FAMILIES, family_of
from sightline.train.features import Features
from sightline.train.logprobs import TreeScorer, pack
from sightline.train.merge import merge
from sightline.train.negatives import MakeNegatives, Negatives
from sightline.train.objectives import CROSSED_TERMS, Term
from sightline.train.spoiling import parts, spoil_pixels
from tests.standins import BUILDERS, build

TERMS = (Term("chosen"), Term("rejected"))
SIZES = ((40, 30), (64, 32), (30, 56))
"""Pictures of three shapes: tall, wide, and nearly square, so that tiles and grids differ."""


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def folder(request, tmp_path_factory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("standins") / request.param)


@pytest.fixture(scope="module")
def network(folder):
    from transformers import AutoModelForImageTextToText

    return in_double(AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64))


def in_double(network):
    """Root-mean-square norms without their detour through float32, which is coarser than what is compared here."""
    for module in network.modules():
        kind = type(module)
        if kind.__name__.endswith("RMSNorm"):
            plus = 1.0 if kind.__name__.startswith("Gemma") else 0.0
            eps = getattr(module, "variance_epsilon", None) or module.eps
            module.forward = lambda states, module=module, plus=plus, eps=eps: (
                (plus + module.weight) * states * (states.square().mean(-1, keepdim=True) + eps).rsqrt()
            )
    return network


@pytest.fixture
def encoder(folder, store):
    return Encoder(load_processor(str(folder)), 1024, Use(Engines({}), store, 0).picture)


@pytest.fixture
def pairs(store) -> list[Pair]:
    """One picture, the same with another question, two pictures, three of them, and none."""
    first, second, third = (draw(store, size, seed) for seed, size in enumerate(SIZES))
    values = {"chosen": "A red cup.", "rejected": "The picture shows a cat, and nothing else.", "rule": "test"}
    asked = [
        ([first], "Describe what it shows."),
        ([first], "What colour is the cup?"),
        ([second, first], "Describe it."),
        ([third, first, second], "Say something."),
        ([], "Say something."),
    ]
    return [
        Pair(id=f"p{at}", key=f"p{at}", pictures=pictures, instruction=question, **values)
        for at, (pictures, question) in enumerate(asked)
    ]


def draw(store: Store, size: tuple[int, int], seed: int) -> str:
    numbers = np.random.default_rng(seed).integers(0, 256, (*reversed(size), 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(numbers).save(buffer, "PNG")
    return store.put_picture(buffer.getvalue())


@pytest.fixture(params=["masked", "split"])
def way(request, network, monkeypatch) -> Iterator[str]:
    """Masks of tokens by tokens, or a call a chain; where a window slides or pictures see all of themselves, there is one way."""
    text = network.config.get_text_config()
    before = text._attn_implementation
    if request.param == "split":
        if family_of(network).whole_pictures:
            pytest.skip("this family's pictures see all of themselves")
        attention.split(network)
        monkeypatch.setattr(attention, "SPLIT_FROM", 0)
    yield request.param
    text._attn_implementation = before


def plain(network, encoder: Encoder, pair: Pair, answer: str) -> Tensor:
    """The sum over an answer's tokens."""
    scores, tokens = plain_scores(network, encoder, pair, answer)
    return scores.gather(1, tokens[:, None]).sum()


def plain_scores(network, encoder: Encoder, pair: Pair, answer: str) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all words (N, V) in the places of an answer's tokens, and these tokens (N,).

    From the processor's own inputs and the model's own positions and masks.
    """
    processor = encoder.processor
    turns = [
        {"role": "user", "content": [*({"type": "image"} for _ in pair.pictures), {"type": "text", "text": pair.instruction}]}
    ]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    images = [encoder.pictures.open(name) for name in pair.pictures] or None
    # LLaVA's template writes no first token and no end; the others write both
    writes_first = bool(processor.tokenizer.bos_token) and prompt.startswith(processor.tokenizer.bos_token)
    said = f"{prompt} {answer}</s>" if prompt.endswith("ASSISTANT:") and "USER" in prompt else None
    if said is None:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        said = processor.apply_chat_template(turns).removesuffix("\n")
    inputs, start = (
        processor(text=[text], images=images, return_tensors="pt", add_special_tokens=not writes_first) for text in (said, prompt)
    )
    if len(pair.pictures) == 1:
        inputs["pixel_values"] = spoil_pixels(inputs["pixel_values"], *parts(pair.pictures[0])[1:])
    doubled = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    kept = network.config.get_text_config()._attn_implementation
    network.config.get_text_config()._attn_implementation = "sdpa"
    scores = network(**doubled).logits[0, :-1].log_softmax(-1)
    network.config.get_text_config()._attn_implementation = kept
    begin = start["input_ids"].shape[1]
    return scores[begin - 1 :], inputs["input_ids"][0, begin:]


def trees(encoder: Encoder, pairs: list[Pair]) -> list[Tree]:
    made = [encoder.tree(pair, TERMS) for pair in pairs]
    assert all(isinstance(tree, Tree) for tree in made), made
    return made  # type: ignore[return-value]


def packed(network, encoder: Encoder, pairs: list[Pair], features: Features | None = None) -> Tensor:
    return TreeScorer(network, features)(pack(trees(encoder, pairs), TERMS, encoder.pictures, encoder.pad))


def gradients(network, sums: Tensor) -> list[Tensor | None]:
    weights = torch.linspace(-1, 1, sums.numel(), dtype=sums.dtype).view_as(sums)
    return list(torch.autograd.grad((weights * sums).sum(), list(network.parameters()), allow_unused=True))


def test_every_family_has_a_stand_in():
    built = {name.removesuffix("_mistral") for name in BUILDERS}
    assert built == set(FAMILIES)


def test_packed_trees_have_the_logprobs_and_gradients_of_plain_rows(network, encoder, pairs, way):
    rows = torch.stack(
        [torch.stack([plain(network, encoder, pair, getattr(pair, term.response)) for term in TERMS]) for pair in pairs]
    )
    ours = packed(network, encoder, pairs)
    assert (ours - rows).abs().max() < 1e-9
    assert rows.abs().min() > 1  # the comparison is of something
    for mine, theirs in zip(gradients(network, ours), gradients(network, rows), strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or (mine - theirs).abs().max() < 1e-7 * max(1, theirs.abs().max())


@pytest.mark.parametrize("kind", ["noise", "other"])
def test_all_eight_terms_have_the_logprobs_of_plain_rows(network, encoder, store, pairs, way, kind):
    drawn = [replace(pair, pictures=[draw(store, SIZES[at], at)], instruction=f"Cup {at}?") for at, pair in enumerate(pairs[:3])]
    step = MakeNegatives(parts=["picture", "question"], settings=Negatives(picture=kind))
    negatives = list(step.make(Use(Engines({}), store, 0), drawn))
    made = [encoder.tree(pair, CROSSED_TERMS, negative) for pair, negative in zip(drawn, negatives, strict=True)]
    sums = TreeScorer(network)(pack(made, CROSSED_TERMS, encoder.pictures, encoder.pad))
    for row, pair, negative in zip(sums, drawn, negatives, strict=True):
        for value, term in zip(row, CROSSED_TERMS, strict=True):
            question = pair.instruction if term.question == "own" else negative.instruction
            pictures = pair.pictures if term.picture == "own" else negative.pictures
            asked = replace(pair, instruction=question, pictures=pictures)
            assert abs(value - plain(network, encoder, asked, getattr(pair, term.response))) < 1e-9


def test_a_frozen_tower_sees_each_picture_once_and_changes_nothing(network, encoder, pairs):
    family, model = family_of(network), network.model
    tower = model.get_submodule(family.vision_tower[0].removeprefix("model.").split(".")[0])
    before = packed(network, encoder, pairs)
    seen: list[int] = []
    hook = tower.register_forward_hook(lambda *given: seen.append(1))
    network.requires_grad_(False)
    features = Features()
    after = [packed(network, encoder, pairs, features) for _ in range(2)]
    hook.remove()
    network.requires_grad_(True)
    assert len(seen) == len({name for pair in pairs for name in pair.pictures}) == 3
    assert all((sums - before).abs().max() < 1e-9 for sums in after)


def test_a_projector_that_trains_behind_a_frozen_tower_has_its_plain_gradients(network, encoder, pairs):
    family = family_of(network)
    network.requires_grad_(False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(family.part_of(name) == "projector")
    found = [
        torch.autograd.grad((torch.linspace(-1, 1, 10).double() * sums.flatten()).sum(), trained)
        for sums in (packed(network, encoder, pairs), packed(network, encoder, pairs, Features()))
        if (trained := [parameter for parameter in network.parameters() if parameter.requires_grad])
    ]
    network.requires_grad_(True)
    assert len(found[0]) > 0
    for ours, theirs in zip(found[1], found[0], strict=True):
        assert (ours - theirs).abs().max() < 1e-7 * max(1, theirs.abs().max())


def section(folder: Path, **changes) -> Train:
    values = {"objective": {"kind": "dpo"}, "batch_size": 3, "epochs": 2, "learning_rate": 2e-2, "lora": {"rank": 2}, "warmup": 0}
    return Train.model_validate({"model": str(folder), **values, **changes})


def modes(folder: Path) -> dict[str, str]:
    """Adapters on every part that has linear layers: Gemma 3's projector has none."""
    return {"vision_tower": "lora", "projector": "full" if folder.name == "gemma3" else "lora", "language_model": "lora"}


def test_training_starts_at_log_two_learns_and_leaves_an_adapter_that_merges(folder, pairs, executor, tmp_path):
    shards = executor.store.source("pairs", "test", pairs, [], 4)
    for changes in ({}, {**modes(folder), "gradient_checkpointing": True}):
        made = train(section(folder, **changes), shards, executor)
        assert made.first_loss == pytest.approx(log(2), abs=1e-4)
        assert made.last_loss < 0.6, changes
    assert all(made.num_trained.values())
    merged = merge(made.folder, tmp_path / "merged")
    assert merged.num_tensors > 10


@pytest.mark.parametrize("part", ["vision_tower", "projector", "language_model"])
def test_a_part_that_trains_whole_is_all_of_it_and_nothing_else(folder, part):
    frozen = dict.fromkeys(("vision_tower", "projector", "language_model"), "frozen")
    network = Base(str(folder), None, "float32").network
    tuned = tuning.tune(network, section(folder, **{**frozen, part: "full"}))
    family = family_of(tuned)
    expected = {name for name, _ in tuned.named_parameters() if family.part_of(name) == part}
    assert {name for name, parameter in tuned.named_parameters() if parameter.requires_grad} == expected
    assert expected


def test_a_family_that_is_not_shown_right_is_refused(tiny):
    network = Base(str(tiny), None, "float32").network
    network.config.model_type = "kosmos"
    with pytest.raises(TrainingError, match="'kosmos' cannot be trained yet.*not been shown"):
        family_of(network)
