"""Time and memory of a DPO step against picture tokens, answer length and pairs a picture: ours, and TRL's.

    python benchmarks/step_scaling.py            # a table
    python benchmarks/step_scaling.py --json     # one line
    python benchmarks/step_scaling.py --quick    # small sizes, to see that it runs

One of the three changes at a time, the others stand at the sizes of the base case. The model, the sides and the measures are
dpo_step.py's: TRL with its completion-only head; ours with a reference computed in the step ("live"); ours with reference and
features of the frozen tower stored. All pairs of one question's answers are one batch. Picture tokens come from as few square
pictures as make their number (2,880: five of 576, as LLaVA-NeXT's tiles). Tokens are those of our packed tree: where 1,000 of
them take the same, time and memory grow in proportion to what there is to read.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from dpo_step import add_sizes, build_model, interleaved, make_step, medians, peaks, planted

SIDES = ("trl_compact", "ours_live", "ours_stored")
QUICK = {"width": 128, "side": 8, "answer": 16, "rounds": 1, "picture_tokens": [64, 192], "answer_tokens": [8, 16],
         "answer_counts": [2, 3]}  # fmt: skip

COLUMNS = ("changes", "picture tokens", "answer", "pairs", "tokens", "CPU s a step: TRL, live, stored", "times as fast: live",
           "times as fast: stored", "peak MB: TRL, live, stored", "stored: CPU s, MB per 1,000 tokens")  # fmt: skip
HEADER = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def as_pictures(tokens: int) -> dict[str, int]:
    """The fewest square pictures of so many tokens together, and their side."""
    number = next(n for n in range(1, tokens + 1) if tokens % n == 0 and math.isqrt(tokens // n) ** 2 == tokens // n)
    return {"pictures": number, "side": math.isqrt(tokens // number)}


def cases(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, int]]]:
    """What changes, and the sizes of the case."""
    base = {"pictures": options.pictures, "side": options.side, "answer": options.answer, "answers": options.answers}
    yield from (("picture tokens", {**base, **as_pictures(tokens)}) for tokens in options.picture_tokens)
    yield from (("answer length", {**base, "answer": length}) for length in options.answer_tokens)
    yield from (("pairs a picture", {**base, "answers": count}) for count in options.answer_counts)


def measured(sizes: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, peaks and ratios of each side, and how many tokens our tree holds."""
    gc.collect()  # trainers and models of the case before hold each other
    case = argparse.Namespace(**{**vars(options), **sizes})
    asked = {**sizes, **{name: getattr(options, name) for name in ("width", "layers", "question", "threads")}}
    arguments = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        build_model(Path(folder), case)
        peak_of = peaks(Path(folder), SIDES, [*arguments, *(["--checkpointing"] if options.checkpointing else [])])
        found = interleaved({side: make_step(side, Path(folder), case) for side in SIDES}, options.rounds)
        tokens = packed_tokens(Path(folder), case)
    sides = {side: {**row, "peak_mb": peak_of[side]} for side, row in medians(found, against="trl_compact").items()}
    return {"sizes": sizes, "tokens": tokens, "sides": sides}


def packed_tokens(folder: Path, case: argparse.Namespace) -> int:
    from sightline.train.logprobs import merged
    from sightline.train.objectives.dpo import DPO

    trees, _ = planted(folder, case, DPO(beta=0.1))
    return sum(tree.num_tokens for tree in merged(trees, DPO(beta=0.1).needed_terms())[0])


def line(what: str, made: dict[str, Any]) -> str:
    """A case as a line of the table."""
    sizes, rows, thousands = made["sizes"], [made["sides"][side] for side in SIDES], made["tokens"] / 1000
    count = sizes["answers"] * (sizes["answers"] - 1) // 2
    faster = ["{:.2f} [{:.2f}, {:.2f}]".format(*row["times_as_fast"]) for row in rows[1:]]
    cells = [
        what,
        f"{sizes['pictures'] * sizes['side'] ** 2:,} | {sizes['answer']} | {count} | {made['tokens']:,}",
        ", ".join(f"{row['cpu_s']:.2f}" for row in rows),
        *faster,
        ", ".join(f"{row['peak_mb']:.0f}" for row in rows),
        f"{rows[-1]['cpu_s'] / thousands:.2f}, {rows[-1]['peak_mb'] / thousands:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser)
    parser.set_defaults(answer=128, rounds=5)
    parser.add_argument("--picture-tokens", type=int, nargs="*", default=[256, 576, 1024, 1536, 2880])
    parser.add_argument("--answer-tokens", type=int, nargs="*", default=[32, 128, 512])
    parser.add_argument("--answer-counts", type=int, nargs="*", default=[2, 3, 4], help="answers a question: 1, 3, 6 pairs")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    made: dict[str, dict[str, Any]] = {}
    if not options.json:
        print(HEADER, flush=True)
    for what, sizes in cases(options):
        known = json.dumps(sizes)  # the base case comes once for each thing that passes through it
        if known not in made:
            made[known] = measured(sizes, options)
        if not options.json:
            print(line(what, made[known]), flush=True)
    if options.json:
        print(json.dumps([{"changes": what, **made[json.dumps(sizes)]} for what, sizes in cases(options)]))


if __name__ == "__main__":
    main()
