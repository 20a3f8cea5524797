"""Build pairs from a million stored annotations: peak memory and time, in a process of its own.

    python benchmarks/million.py            # a table
    python benchmarks/million.py --json     # one line

Instructions, four answers to each (`--answers`) and a score of each answer are stored as shards first, as a run leaves them. Then
a process that does nothing else makes `best_worst` pairs of them through the executor. Its peak counts from its start, libraries
included. Scores are drawn from few values, so that ties occur and are dropped.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import memory
import numpy as np

from sightline.engines import Engines
from sightline.execute import Execution, Executor, Task
from sightline.make.best_worst import BestWorst
from sightline.rows import Annotation, Instruction, Origin, Response, Row
from sightline.store.address import digest
from sightline.store.shards import Shard, Store, num_buckets

STEPS = ("instructions", "responses/pool", "annotations/judge")
ORIGIN = Origin(engine="pool", model="none", revision="none")
WORDS = np.array(
    "a the red blue green cup tree bird house park street shows picture stands beside under with and near two".split()
)


def write(store: Store, options: argparse.Namespace) -> None:
    """The shards of the three steps, with keys spread over as many as the store would make."""
    rng = np.random.default_rng(0)
    number = options.annotations // options.answers
    for bucket, keys in enumerate(np.array_split(np.arange(number), num_buckets(number, options.shard_size))):
        made: list[list[Row]] = [[], [], []]
        for key in keys.tolist():
            for rows, new in zip(made, _case(key, options.answers, rng), strict=True):
                rows += new
        for step, rows in zip(STEPS, made, strict=True):
            store.write(Shard(step, bucket, f"{bucket:032x}"), rows)


def _case(key: int, answers: int, rng: np.random.Generator) -> tuple[list[Row], list[Row], list[Row]]:
    """An instruction, its answers of about a hundred words, and their scores."""
    about: dict[str, Any] = {"key": f"prompt-{key}"}
    instruction = Instruction(id=digest("i", key), text="Describe the picture.", pictures=[digest("p", key)], **about)
    responses: list[Row] = []
    annotations: list[Row] = []
    for index in range(answers):
        text = " ".join(WORDS[rng.integers(len(WORDS), size=rng.integers(80, 120))])
        response = Response(
            id=digest("r", key, index), instruction_id=instruction.id, instruction=instruction.text,
            pictures=instruction.pictures, text=text, model="pool", index=index, finish="stop", num_tokens=130, origin=ORIGIN,
            **about,
        )  # fmt: skip
        score = float(rng.integers(1, 6))
        aspects = {"faithful": score, "complete": 3.0, "clear": 4.0}
        annotation = Annotation(
            id=digest("a", key, index), response_id=response.id, annotator="judge", score=score, aspects=aspects,
            sees_picture=True, **about,
        )  # fmt: skip
        responses.append(response)
        annotations.append(annotation)
    return [instruction], responses, annotations


def build(root: Path) -> dict[str, Any]:
    """Make the pairs of what is stored there; what it took."""
    store = Store(root)
    inputs = [
        [Shard(step, int(path.stem, 16), path.stem) for path in sorted((root / "rows" / step).glob("?" * 32 + ".parquet"))]
        for step in STEPS
    ]
    executor = Executor(store, Engines({}), 0, Execution())
    begun = time.process_time()
    policy = BestWorst(kind="best_worst", weights={"judge": 1.0})
    tally = executor.run(Task("pairs", policy, STEPS), inputs)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pairs": tally.rows,
        "dropped": tally.dropped,
        "shards": len(tally.shards),
        "cpu_s": time.process_time() - begun,
        "peak_mb": max(memory.peak(), used.ru_maxrss / 2**10),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--answers", type=int, default=4, help="to an instruction")
    parser.add_argument("--shard-size", type=int, default=512, help="instructions a shard, as execution.shard_size")
    parser.add_argument("--folder", type=Path, help="disk to work on; absent: the system's place for temporary files")
    parser.add_argument("--json", action="store_true", help="one line")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(build(options.only)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        begun = time.process_time()
        write(Store(Path(folder)), options)
        written = time.process_time() - begun
        done = subprocess.run([sys.executable, __file__, "--only", folder], stdout=subprocess.PIPE, text=True, check=True)
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet")) / 2**20
    made = {**json.loads(done.stdout.splitlines()[-1]), "annotations": options.annotations, "stored_mb": stored}
    if options.json:
        print(json.dumps({**made, "written_cpu_s": written}))
        return
    print("| annotations | shards | stored MB | pairs | dropped | CPU s | peak MB |\n|---|---|---|---|---|---|---|")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in made["dropped"].items())
    counts = f"{made['annotations']:,} | {made['shards']} | {made['stored_mb']:.0f} | {made['pairs']:,} | {dropped}"
    print(f"| {counts} | {made['cpu_s']:.0f} | {made['peak_mb']:.0f} |")


if __name__ == "__main__":
    main()
