"""One MCM-DPO step of Sightline against eight plain forward passes of two models, interleaved in one run.

    python benchmarks/mcm_step.py            # a table
    python benchmarks/mcm_step.py --json     # one line

The model, its lengths and the measures are dpo_step.py's. The plain side does what MCM-DPO's code does: each of the eight
log-probabilities of a pair is a forward pass of the policy and one of the reference, each with its picture. Ours is one pass over
a tree of two roots, with a reference computed in the step, or with reference and features of the frozen tower stored.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from dpo_step import Step, add_sizes, build_model, interleaved, medians, pairs, print_table, with_adapter
from torch import Tensor

SIDES = ("plain", "ours_live", "ours_stored")


def drawn(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One more than asked for, so that there is another question."""
    return pairs(argparse.Namespace(**{**vars(options), "pairs": options.pairs + 1}))


def examples(options: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """Pairs and their negatives."""
    from sightline.rows import Pair
    from sightline.train.negatives import MakeNegatives, Negatives

    rows = [
        Pair(
            id=str(at), key=str(at), instruction=pair["question"], pictures=[pair["name"]], chosen=pair["chosen"],
            rejected=pair["rejected"], rule="benchmark",
        )
        for at, pair in enumerate(drawn(options))
    ]  # fmt: skip
    step = MakeNegatives(parts=["picture", "question"], settings=Negatives())
    return rows[: options.pairs], list(step.make(None, rows))[: options.pairs]  # type: ignore[arg-type]


def new_encoder(folder: Path, options: argparse.Namespace) -> Any:
    from sightline.engines.transformers import load_processor
    from sightline.train.examples import Encoder

    pictures = {pair["name"]: pair["picture"] for pair in drawn(options)}
    return Encoder(load_processor(str(folder)), 8192, pictures.__getitem__)


def plain_step(folder: Path, options: argparse.Namespace) -> Step:
    """Eight rows a pair, one after the other, through the policy and, with its adapter off, through the reference."""
    from sightline.train.logprobs import as_logprobs
    from sightline.train.objectives.mcm_dpo import MCMDPO

    encoder, objective = new_encoder(folder, options), MCMDPO()
    terms = objective.needed_terms()
    trees = [encoder.tree(row, terms, negative) for row, negative in zip(*examples(options), strict=True)]
    rows = [[_row(tree, term.name, encoder) for term in terms] for tree in trees]
    counts = torch.tensor([[length for _, _, length in row] for row in rows])
    network = with_adapter(folder)

    def sums() -> Tensor:
        found = []
        for tokens, pixels, length in (one for row in rows for one in row):
            logits = network(input_ids=tokens, pixel_values=pixels, use_cache=False).logits[0, -length - 1 : -1]
            found.append(logits.log_softmax(-1).gather(1, tokens[0, -length:, None]).sum())
        return torch.stack(found).view(len(rows), len(terms))

    def step() -> float:
        network.zero_grad()
        with torch.no_grad(), network.disable_adapter():
            reference = sums()
        loss = objective.loss(as_logprobs(sums(), counts, terms), as_logprobs(reference, counts, terms)).value
        loss.backward()
        return loss.item()

    return step


def _row(tree: Any, term: str, encoder: Any) -> tuple[Tensor, Tensor, int]:
    """A term's path through the tree as an ordinary row: tokens (1, T), its picture, the answer's length."""
    at = next(index for index, segment in enumerate(tree.segments) if segment.term == term)
    path = tree.path(at)[::-1]
    tokens = [token for index in path for token in tree.segments[index].tokens]
    [name] = [name for index in path for name in tree.segments[index].pictures]
    return torch.tensor([tokens]), encoder.pictures[name][None], len(tree.segments[at].tokens)


def our_step(folder: Path, options: argparse.Namespace, live: bool) -> Step:
    """The tree's one pass, as the trainer makes it."""
    from sightline.train import attention
    from sightline.train.features import Features
    from sightline.train.logprobs import TreeScorer, as_logprobs, pack
    from sightline.train.objectives.mcm_dpo import MCMDPO

    encoder, objective = new_encoder(folder, options), MCMDPO()
    terms = objective.needed_terms()
    trees = [encoder.tree(row, terms, negative) for row, negative in zip(*examples(options), strict=True)]
    batch = pack(trees, terms, encoder.pictures, encoder.pad)
    network = with_adapter(folder)
    attention.split(network.get_base_model())
    scorer, counts = TreeScorer(network, None if live else Features()), batch["num_tokens"]

    def reference() -> Any:
        with torch.no_grad(), network.disable_adapter():
            return as_logprobs(scorer(batch), counts, terms)

    stored = None if live else reference()

    def step() -> float:
        network.zero_grad()
        loss = objective.loss(as_logprobs(scorer(batch), counts, terms), stored or reference()).value
        loss.backward()
        return loss.item()

    return step


def make_step(side: str, folder: Path, options: argparse.Namespace) -> Step:
    return plain_step(folder, options) if side == "plain" else our_step(folder, options, live=side == "ours_live")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        build_model(Path(folder), options)
        found = interleaved({side: make_step(side, Path(folder), options) for side in SIDES}, options.rounds)
    made = medians(found, against="plain")
    print(json.dumps(made)) if options.json else print_table(made, "eight plain forwards of two models")


if __name__ == "__main__":
    main()
