"""Train all miniature models from nothing: python -m sightline.miniature.build

Each model lands in a folder of its own, in half precision, and is an ordinary model folder. The order matters: the image reward
learns from the painter's pictures, the answer reward from the pool's answers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"

Builder = Callable[..., None]  # (folder, seed, share, log)


def builders() -> dict[str, Builder]:
    """How to build each model, in an order that has what it needs."""
    from sightline.miniature import answer_reward, image_reward, painter, vlms

    speakers = {name: partial(vlms.build, name) for name in (*vlms.POOL, "judge")}
    return {"painter": painter.build, "image-reward": image_reward.build, **speakers, "answer-reward": answer_reward.build}


def build(names: list[str], out: Path, seed: int, share: float, log: Callable[[str], None] = print) -> None:
    """Build the named models into folders below `out`; a share below 1 trains that much shorter."""
    import torch

    torch.set_num_threads(1)  # sums keep their order, so that a seed gives the same weights on every machine of a kind
    for name in names:
        started, worked = time.perf_counter(), time.process_time()
        builders()[name](out / name, seed=seed, share=share, log=log)
        log(f"{name}: {time.perf_counter() - started:.0f} s, {time.process_time() - worked:.0f} s of one core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="build these models only", choices=list(builders()))
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to; the shipped one by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="below 1: train that much shorter, to see that it runs")
    options = parser.parse_args()
    build(options.only or list(builders()), options.out, options.seed, options.share)


if __name__ == "__main__":
    main()
