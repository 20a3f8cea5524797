"""Prepare many pairs for training, from the file they come in to the first batch: CPU time and peak memory.

    python benchmarks/prepare.py --pairs 5000 20000 100000            # a table
    python benchmarks/prepare.py --pairs 5000 20000 100000 --json     # one line

Each number of pairs has a process of its own, and a file of LLaVA records about a few hundred drawn scenes, six pairs a question,
two answers of about a hundred words a pair. The objective reads no reference, so that no model is asked: what is measured is
reading, checking, storing, tokenising and finding rows again. Peaks are over what the process holds after it has prepared a few
pairs, so that modules and pictures are loaded; a later stage's is never below an earlier one's. Bytes a pair are what the peak
grows by from the fewest pairs to the most.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memory
import numpy as np

PAIRS_A_QUESTION = 6
SCENES_AN_ANSWER = 5


def write_records(folder: Path, count: int, num_pictures: int) -> None:
    """A file of LLaVA records, an array as LLaVA's own, and the pictures that they name."""
    from sightline.miniature import world

    folder.mkdir()
    rng = np.random.default_rng(0)
    scenes = [world.sample(rng) for _ in range(num_pictures)]
    for at, scene in enumerate(scenes):
        world.draw(scene, rng).save(folder / f"{at}.png")
    told = [world.describe(scene) for scene in scenes]
    with (folder / "pairs.json").open("w") as stream:
        for at in range(count):
            answers = [" ".join(told[one] for one in drawn) for drawn in rng.integers(len(told), size=(2, SCENES_AN_ANSWER))]
            question = f"<image>\n{world.DESCRIBE} {at // PAIRS_A_QUESTION}"
            sides = {
                side: [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
                for side, answer in zip(("conversations", "rejected_conversations"), answers, strict=True)
            }
            record = {"id": f"row-{at}", "image": f"{at // PAIRS_A_QUESTION % num_pictures}.png", **sides}
            stream.write(("[\n" if at == 0 else ",\n") + json.dumps(record, indent=2))
        stream.write("\n]\n")


def stages(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """What happens to the folder's pairs before training; each stage's name once it is through."""
    from sightline.engines import Engines
    from sightline.execute import Execution, Executor
    from sightline.formats import import_rows
    from sightline.store.folders import RowFolder
    from sightline.store.shards import Store
    from sightline.train import Train, _prepare, _Training
    from sightline.train.dataset import Examples

    executor = Executor(Store(folder / "store"), Engines({}), 0, Execution(threads=1, shard_size=options.shard_size))
    section = Train.model_validate({"model": options.model, "objective": {"kind": "simpo"}, "batch_size": 16})
    step = section.reference_step()
    import_rows(folder / "pairs.json", "llava", None, folder / "pairs")
    yield "import"
    pairs = RowFolder.open(folder / "pairs", "pairs").adopt(executor.store, options.shard_size)
    yield "take into the store"
    prepared = _prepare(_Training("reference", section, pairs), step, executor, None)
    yield "look at each pair"
    examples = Examples(section, step.base, executor, pairs, prepared)
    order = list(examples.sampler(0) or range(len(examples)))
    examples.collate([examples[at] for at in order[: section.batch_size]])
    yield "first batch"
    for at in order:
        examples[at]
    yield "an epoch's trees"


def measured(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """CPU seconds of each stage, and the peak so far in MB."""
    list(stages(folder / "few", options))
    made: dict[str, list[float]] = {}
    memory.forget_peak()
    begun, held = time.process_time(), memory.resident()
    for name in stages(folder / "many", options):
        made[name] = [time.process_time() - begun, memory.peak() - held]
        begun = time.process_time()
    return made


def in_a_process(count: int, arguments: list[str], options: argparse.Namespace) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_records(Path(folder) / "few", PAIRS_A_QUESTION * options.pictures, options.pictures)
        write_records(Path(folder) / "many", count, options.pictures)
        command = [sys.executable, __file__, *arguments, "--only", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def bytes_a_pair(made: dict[int, dict[str, list[float]]], stage: str) -> float:
    """Growth of the peak from the fewest pairs to the most."""
    fewest, most = min(made), max(made)
    return (made[most][stage][1] - made[fewest][stage][1]) * 2**20 / max(most - fewest, 1)


def print_table(made: dict[int, dict[str, list[float]]]) -> None:
    counts = sorted(made)
    print("| stage | " + " | ".join(f"{count:,} pairs: CPU s, pairs a s, peak MB" for count in counts) + " | bytes a pair |")
    print("|---|" + "---|" * (len(counts) + 1))
    for stage in made[counts[0]]:
        cells = [(*made[count][stage], count / made[count][stage][0]) for count in counts]
        told = " | ".join(f"{seconds:.1f}, {rate:,.0f}, {peak:.0f}" for seconds, peak, rate in cells)
        print(f"| {stage} | {told} | {bytes_a_pair(made, stage):,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[5_000, 20_000, 100_000])
    parser.add_argument("--pictures", type=int, default=300, help="that the pairs are about")
    parser.add_argument("--model", default="miniature/policy", help="whose processor makes the tokens")
    parser.add_argument("--shard-size", type=int, default=16, help="execution.shard_size")
    parser.add_argument("--folder", type=Path, help="disk to work on; absent: the system's place for temporary files")
    parser.add_argument("--json", action="store_true", help="one line")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measured(options.only, options)))
        return
    arguments = [argument for argument in sys.argv[1:] if argument != "--json"]
    made: dict[int, dict[str, Any]] = {count: in_a_process(count, arguments, options) for count in options.pairs}
    if options.json:
        print(json.dumps({"stages": made, "bytes_a_pair": bytes_a_pair(made, "an epoch's trees")}))
    else:
        print_table(made)


if __name__ == "__main__":
    main()
