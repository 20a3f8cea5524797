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
from dpo_step import Step, add_sizes, build_model, interleaved, medians, our_step, planted, print_table, with_adapter
from torch import Tensor

SIDES = ("plain", "ours_live", "ours_stored")


def plain_step(folder: Path, options: argparse.Namespace) -> Step:
    """Eight rows a pair, one after the other, through the policy and, with its adapter off, through the reference."""
    from sightline.train.logprobs import as_logprobs
    from sightline.train.objectives.mcm_dpo import MCMDPO
    from sightline.train.tuning import recompute

    objective = MCMDPO()
    terms = objective.needed_terms()
    trees, encoder = planted(folder, options, objective)
    rows = [[_row(tree, term.name, encoder) for term in terms] for tree in trees]
    counts = torch.tensor([[length for _, _, length in row] for row in rows])
    network = with_adapter(folder)
    if options.checkpointing:
        recompute(network)
        network.train()

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
    return torch.tensor([tokens]), encoder.pictures[name]["pixel_values"], len(tree.segments[at].tokens)


def make_step(side: str, folder: Path, options: argparse.Namespace) -> Step:
    from sightline.train.objectives.mcm_dpo import MCMDPO

    return plain_step(folder, options) if side == "plain" else our_step(folder, options, side == "ours_live", MCMDPO())


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
