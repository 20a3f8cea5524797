"""Packed trees against plain rows of prompt and answer, in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from sightline.engines import Engines
from sightline.engines.transformers import load_processor
from sightline.execute import Use
from sightline.rows import Pair
from sightline.train import attention, logprobs
from sightline.train.examples import Encoder, Segment, Tree
from sightline.train.features import Disk, Features
from sightline.train.logprobs import TreeScorer, merged, pack, token_logprobs
from sightline.train.negatives import MakeNegatives, Negatives
from sightline.train.objectives import CROSSED_TERMS, Term
from sightline.train.spoiling import parts, spoil_pixels
from sightline.train.tuning import recompute

from .conftest import draw_pairs

TERMS = (Term("chosen"), Term("rejected"))


@pytest.fixture(scope="module")
def network(tiny):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float64)


@pytest.fixture
def encoder(tiny, store):
    return Encoder(load_processor(str(tiny)), 256, Use(Engines({}), store, 0).picture)


@pytest.fixture
def pairs(store) -> list[Pair]:
    """Answers of other lengths, one picture twice, one pair of two pictures, one of none."""
    first, second, third, fourth = draw_pairs(store, 4)
    again = replace(
        second, pictures=first.pictures, rejected="The picture shows nothing at all in the park, and that is a long story."
    )
    both = replace(third, pictures=[*first.pictures, *third.pictures])
    return [first, again, both, replace(fourth, pictures=[], instruction="Say something.", chosen="No.")]


@pytest.fixture(params=["masked", "split"])
def network_either_way(request, tiny, monkeypatch):
    """The model with one mask of tokens by tokens, and with a call a chain."""
    from transformers import AutoModelForImageTextToText

    made = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float64)
    if request.param == "split":
        attention.split(made)
        monkeypatch.setattr(attention, "SPLIT_FROM", 0)
        monkeypatch.delattr(logprobs, "tree_mask")  # whoever asks for a mask all the same is told
    return made


def plain(network: nn.Module, encoder: Encoder, pair: Pair, answer: str) -> Tensor:
    """The sum over an answer's tokens, from an ordinary forward pass over prompt and answer."""
    scores, tokens = plain_scores(network, encoder, pair, answer)
    return scores.gather(1, tokens[:, None]).sum()


def plain_scores(network: nn.Module, encoder: Encoder, pair: Pair, answer: str) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all words (N, V) in the places of an answer's tokens, and these tokens (N,)."""
    processor = encoder.processor
    turns = [
        {"role": "user", "content": [*({"type": "image"} for _ in pair.pictures), {"type": "text", "text": pair.instruction}]}
    ]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    images = [encoder.pictures.open(name) for name in pair.pictures] or None
    start = processor(text=[prompt], images=images, return_tensors="pt")["input_ids"].shape[1]
    inputs = processor(text=[processor.apply_chat_template(turns)], images=images, return_tensors="pt")
    if "pixel_values" in inputs:
        spoiling = [parts(name)[1:] for name in pair.pictures]
        pixels = [spoil_pixels(one, *how) for one, how in zip(inputs["pixel_values"], spoiling, strict=True)]
        inputs["pixel_values"] = torch.stack(pixels).double()
    scores = network(**inputs).logits[0, :-1].log_softmax(-1)
    return scores[start - 1 :], inputs["input_ids"][0, start:]


def packed(network: nn.Module, encoder: Encoder, pairs: list[Pair]) -> Tensor:
    trees = [encoder.tree(pair, TERMS) for pair in pairs]
    return TreeScorer(network)(pack(trees, TERMS, encoder.pictures, encoder.pad))


def gradients(network: nn.Module, sums: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, sums.numel(), dtype=sums.dtype).view_as(sums)
    return torch.autograd.grad((weights * sums).sum(), list(network.parameters()), allow_unused=True)


def test_packed_trees_have_the_logprobs_and_gradients_of_plain_rows(network_either_way, encoder, pairs):
    network = network_either_way
    rows = torch.stack(
        [
            torch.stack([plain(network, encoder, pair, pair.chosen), plain(network, encoder, pair, pair.rejected)])
            for pair in pairs
        ]
    )
    trees = packed(network, encoder, pairs)
    assert (trees - rows).abs().max() < 1e-9
    assert rows.abs().min() > 1  # the comparison is of something
    for ours, theirs in zip(gradients(network, trees), gradients(network, rows), strict=True):
        assert (ours is None) == (theirs is None)
        # relative to the largest: Llama's norms go through float32 whatever the weights are
        assert ours is None or (ours - theirs).abs().max() < 1e-7 * max(1, theirs.abs().max())


def norm_in_double(self, states: Tensor) -> Tensor:
    return self.weight * states * (states.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


def test_all_pairs_of_an_instruction_are_one_tree_with_the_gradients_of_separate_ones(
    network_either_way, encoder, store, monkeypatch
):
    """VLFeedback's six pairs of four answers: one picture, one question and four branches, each once."""
    network = network_either_way
    # Llama's own goes through float32 whatever the weights are, which shows where the gradients of seven pairs partly cancel
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm_in_double)
    pair, other = draw_pairs(store, 2)
    answers = ["A red cup.", "A red cup and a cat.", "A green tree in the park, and a bird.", "No."]
    chosen_over = [(better, worse) for at, better in enumerate(answers) for worse in answers[at + 1 :]]
    six = [replace(pair, id=f"p{at}", chosen=better, rejected=worse) for at, (better, worse) in enumerate(chosen_over)]
    about_the_same = replace(other, id="q", pictures=pair.pictures, instruction="What colour is the cup?")
    trees = [encoder.tree(one, TERMS) for one in [*six, about_the_same]]
    batch = pack(trees, TERMS, encoder.pictures, encoder.pad)
    rows, _ = merged(trees, TERMS)
    assert len(rows) == 1 and len(batch["inputs"]) == 1  # seven pairs share the picture, six of them the question
    assert sum(segment.term is not None for segment in rows[0].segments) == 4 + 2
    assert rows[0].num_tokens < sum(tree.num_tokens for tree in trees) / 2
    together = TreeScorer(network)(batch)
    alone = torch.cat([TreeScorer(network)(pack([tree], TERMS, encoder.pictures, encoder.pad)) for tree in trees])
    assert (together - alone).abs().max() < 1e-9
    for ours, theirs in zip(gradients(network, together), gradients(network, alone), strict=True):
        assert ours is None or (ours - theirs).abs().max() < 1e-9 * max(1, theirs.abs().max())


@pytest.mark.parametrize("kind", ["crop", "noise", "other"])
def test_all_eight_terms_have_the_logprobs_of_plain_rows(network_either_way, encoder, store, kind):
    """(own or other question) x (own or other picture) x (chosen or rejected), in one tree of two roots."""
    drawn = [replace(pair, instruction=f"{pair.instruction} {at} cup.") for at, pair in enumerate(draw_pairs(store, 3))]
    step = MakeNegatives(parts=["picture", "question"], settings=Negatives(picture=kind))
    negatives = list(step.make(Use(Engines({}), store, 0), drawn))
    trees = [encoder.tree(pair, CROSSED_TERMS, negative) for pair, negative in zip(drawn, negatives, strict=True)]
    sums = TreeScorer(network_either_way)(pack(trees, CROSSED_TERMS, encoder.pictures, encoder.pad))
    for row, pair, negative in zip(sums, drawn, negatives, strict=True):
        for value, term in zip(row, CROSSED_TERMS, strict=True):
            question = pair.instruction if term.question == "own" else negative.instruction
            pictures = pair.pictures if term.picture == "own" else negative.pictures
            asked = replace(pair, instruction=question, pictures=pictures)
            assert abs(value - plain(network_either_way, encoder, asked, getattr(pair, term.response))) < 1e-9, term.name
    assert [len(tree.segments) for tree in trees] == [14] * 3  # two pictures, each with two questions of two answers
    assert len({round(value, 6) for value in sums[0].tolist()}) == 8


def test_each_distinct_picture_goes_through_the_tower_once(network, encoder, pairs):
    seen = []
    hook = network.model.vision_tower.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(args[0])), with_kwargs=True
    )
    packed(network, encoder, pairs)
    hook.remove()
    assert seen == [2]  # five places show two pictures (the fourth pair has none)


def test_kept_features_change_nothing_and_stay_within_their_bound(network, encoder, pairs):
    trees = [encoder.tree(pair, TERMS) for pair in pairs]
    batch, features = pack(trees, TERMS, encoder.pictures, encoder.pad), Features()
    for _ in range(2):
        assert (TreeScorer(network, features)(batch) - TreeScorer(network)(batch)).abs().max() < 1e-9
    one = features._held.use(batch["names"][0])
    assert one.shape == (1, 9, 32)  # a miniature picture's cells, the tiny tower's width
    small = Features(limit=one.nbytes)
    TreeScorer(network, small)(batch)
    assert [name for name in batch["names"] if name in small._held] == batch["names"][-1:]


def test_features_on_disk_outlive_a_run_within_their_bound(network, encoder, pairs, tmp_path):
    folder = tmp_path / "features"
    batch = pack([encoder.tree(pair, TERMS) for pair in pairs], TERMS, encoder.pictures, encoder.pad)
    before = TreeScorer(network)(batch)
    TreeScorer(network, Features(disk=Disk(folder, 1 << 20)))(batch)
    size = {path.stat().st_size for path in folder.iterdir()}.pop()
    assert len(list(folder.iterdir())) == len(batch["names"]) == 2
    seen: list[int] = []
    hook = network.model.vision_tower.register_forward_hook(lambda *given: seen.append(1))
    after = TreeScorer(network, Features(disk=Disk(folder, 1 << 20)))(batch)
    assert not seen
    assert (after - before).abs().max() < 1e-9
    crowded = Disk(folder, 2 * size)
    crowded.read(batch["names"][0])
    crowded.write("another", crowded.read(batch["names"][0]))
    hook.remove()
    assert crowded.read(batch["names"][1]) is None  # unused for longest
    assert crowded.read("another").equal(crowded.read(batch["names"][0]))


def test_a_deeper_tree_sees_its_own_path_only(network_either_way, encoder):
    """Two questions on one picture, two answers each: the shape that later objectives need."""
    network = network_either_way
    prompt, first, second, yes, no = (tuple(range(at, at + 5)) for at in (300, 310, 320, 330, 340))
    segments = (Segment(prompt), Segment(first, 0), Segment(second, 0), Segment(no, 1, "rejected"), Segment(yes, 2, "chosen"))
    sums = TreeScorer(network)(pack([Tree("deep", segments)], TERMS, encoder.pictures, 0))[0]
    for value, path in zip(sums, ((*prompt, *second, *yes), (*prompt, *first, *no)), strict=True):
        row = torch.tensor([path])
        scores = network(input_ids=row).logits[0, :-1].log_softmax(-1).gather(1, row[0, 1:, None])[9:]
        assert abs(value - scores.sum()) < 1e-9


def test_no_branch_keeps_a_copy_of_its_prefix_for_gradients(tiny, encoder, pairs, monkeypatch):
    from transformers import AutoModelForImageTextToText

    network = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float64)
    attention.split(network)
    monkeypatch.setattr(attention, "SPLIT_FROM", 0)
    batch = pack([encoder.tree(pair, TERMS) for pair in pairs], TERMS, encoder.pictures, encoder.pad)
    seen = {cut + end - start for _, start, end, origin, cut in batch["chains"].tolist() if origin >= 0}
    kept: set[int] = set()

    def keep(tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and tensor.shape[1] == 2:  # (1, heads, columns, width)
            kept.add(tensor.shape[2])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        TreeScorer(network)(batch)
    assert kept and not kept & seen


def test_gradient_checkpointing_changes_no_gradient(network_either_way, encoder, pairs):
    network = network_either_way
    before = gradients(network, packed(network, encoder, pairs))
    recompute(network)
    network.train()
    after = gradients(network, packed(network, encoder, pairs))
    network.eval()  # which computes once again
    assert all(theirs is None or torch.allclose(ours, theirs, atol=1e-12) for ours, theirs in zip(after, before, strict=True))


def test_the_heads_pieces_add_up_to_the_whole():
    torch.manual_seed(0)
    head, hidden, tokens = (
        nn.Linear(8, 50).double(),
        torch.randn(23, 8, dtype=torch.float64, requires_grad=True),
        torch.arange(23),
    )
    whole = token_logprobs(head, hidden, tokens)
    pieces = token_logprobs(head, hidden, tokens, at_once=7 * 50)
    assert torch.equal(whole, head(hidden).log_softmax(-1)[torch.arange(23), tokens]) or torch.allclose(whole, pieces, atol=1e-14)
    grads = [torch.autograd.grad(values.sum(), [hidden, head.weight]) for values in (whole, pieces)]
    assert all(torch.allclose(one, two, atol=1e-12) for one, two in zip(*grads, strict=True))
