"""What `sightline check` predicts of a step's memory, and what the step holds.

    python benchmarks/step_memory.py

LLaVAs of random weights, whose vision tower is 128 wide with 4 layers, train for two steps of two pairs, each case in a
process of its own. Measured is the peak of resident memory in the steps, over what the process holds before the model is loaded;
a training of the miniature policy comes first, so that libraries are in that, and the C library gives freed memory back at once.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dpo_step import build_model, pairs

from sightline.engines import Engines
from sightline.execute import Execution, Executor, Silent
from sightline.rows import Pair
from sightline.store.shards import Shard, Store
from sightline.train import Train, train
from sightline.train.preflight import Source, look

SIZES = {"width": 1024, "layers": 2, "side": 24, "pictures": 1, "question": 45, "answer": 100, "answers": 2, "pairs": 4}
CASES: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "LoRA": ({}, {}),
    "LoRA, checkpointed": ({}, {"gradient_checkpointing": True}),
    "LoRA, 6 layers": ({"layers": 6}, {}),
    "LoRA, 6 layers, checkpointed": ({"layers": 6}, {"gradient_checkpointing": True}),
    "LoRA, accumulation 2": ({}, {"accumulation": 2}),
    "LoRA, answers of 400": ({"answer": 400}, {}),
    "LoRA, bfloat16": ({}, {"dtype": "bfloat16"}),
    "LoRA on all parts": ({}, {"vision_tower": "lora", "projector": "lora"}),
    "projector alone": ({}, {"projector": "full", "language_model": "frozen"}),
    "language model whole": ({}, {"language_model": "full"}),
    "512 wide, LoRA": ({"width": 512}, {}),
    "512 wide, all parts whole": ({"width": 512}, {"language_model": "full", "projector": "full", "vision_tower": "full"}),
}
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def resident(entry: str) -> float:
    """MB of this process, now (VmRSS) or at most (VmHWM)."""
    found = re.search(rf"{entry}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found.group(1)) / 1000 * 1.024


class Peak(Silent):
    """Forgets the peak when the first step begins, and reads it after each."""

    mb = 0.0

    def begin(self, name: str, total: int, unit: str) -> None:
        if name == "train":
            Path("/proc/self/clear_refs").write_text("5")

    def advance(self, name: str, done: int) -> None:
        if name == "train":
            self.mb = resident("VmHWM")


def stored(store: Store, options: argparse.Namespace) -> list[Shard]:
    rows = []
    for at, pair in enumerate(pairs(options)):
        pictures = []
        for picture in pair["pictures"].values():
            stream = io.BytesIO()
            picture.save(stream, "PNG")
            pictures.append(store.put_picture(stream.getvalue()))
        texts = {"instruction": pair["question"], "chosen": pair["chosen"], "rejected": pair["rejected"]}
        rows.append(Pair(id=str(at), key=str(at), pictures=pictures, rule="", **texts))
    return store.source("pairs", "benchmark", rows, [], 16)


def section(model: str, **changes: Any) -> Train:
    return Train.model_validate({"model": model, "objective": {"kind": "dpo"}, "batch_size": 2, "epochs": 1, **changes})


def measured(name: str, root: Path) -> dict[str, float]:
    """Predicted and measured MB of a case."""
    sizes, changes = CASES[name]
    options = argparse.Namespace(**{**SIZES, **sizes})
    store, folder, watch = Store(root / "store"), root / "model", Peak()
    build_model(folder, options)
    shards = stored(store, options)
    train(section("miniature/policy"), shards, Executor(store, Engines({}), 0, Execution()))
    wanted = section(str(folder), **changes)
    memory = look(wanted, Source(store, shards), Silent()).memory
    assert memory
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident("VmRSS")
    train(wanted, shards, Executor(store, Engines({}), 0, Execution(threads=1), watch))
    parts = {entry: getattr(memory, entry) / 1e6 for entry in (*memory.__dataclass_fields__, "total")}
    return {**parts, "measured": watch.mb - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measured(options.only, Path(folder))))
        return
    names = ["weights", "gradients", "optimizer", "activations", "logits", "total", "measured"]
    print(f"| case | {' | '.join(names)} | predicted / measured |\n|{'---|' * (len(names) + 2)}")
    for case in CASES:
        command, given = [sys.executable, __file__, "--only", case], {**os.environ, **GIVE_BACK}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=given)
        found = json.loads(done.stdout.splitlines()[-1])
        numbers = " | ".join(f"{found[name]:.0f}" for name in names)
        print(f"| {case} | {numbers} | {found['total'] / found['measured']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
