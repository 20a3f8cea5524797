"""Kill a run with SIGKILL at random instants, go on each time, and compare the end with a run that nobody killed.

    head -n 60 recipes/prompts/quickstart.jsonl > few.jsonl
    python benchmarks/kill_and_resume.py recipes/quickstart.yaml --kills 10 --set make.prompts.path=few.jsonl

Compares every stored row file, every picture and the adapter, byte for byte, whenever the run has come to its end; then it begins
anew in an empty folder, until it has been killed that often. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = [sys.executable, "-c", "from sightline.cli import main; main()", "run"]


def start(recipe: str, overrides: list[str], folder: Path) -> subprocess.Popen[bytes]:
    sets = [part for override in overrides for part in ("--set", override)]
    log = (folder.parent / f"{folder.name}.log").open("ab")
    return subprocess.Popen([*COMMAND, recipe, *sets, "--out", str(folder)], stdout=log, stderr=log)


def results(root: Path) -> dict[str, bytes]:
    """Rows, pictures and trained weights; not the timings, the page, or what training keeps for its own resume."""
    kept = [*root.glob("store/rows/**/*.parquet"), *root.glob("store/pictures/*/*"), *root.glob("store/checkpoints/*/adapter_*")]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept if ".working" not in str(path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/kill-and-resume"))
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    whole, cut = options.folder / "whole", options.folder / "cut"
    whole.mkdir(parents=True)
    cut.mkdir()
    started = time.perf_counter()
    assert start(options.recipe, options.overrides, whole / "run").wait() == 0, f"see {whole}/run.log"
    seconds = time.perf_counter() - started
    print(f"uninterrupted: {seconds:.0f} s, {len(results(whole))} files")
    rng, kills = random.Random(options.seed), 0
    while kills < options.kills:
        process = start(options.recipe, options.overrides, cut / "run")
        instant = rng.uniform(1, seconds)
        try:
            process.wait(instant)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            print(f"kill {kills}: after {instant:.1f} s, {len(results(cut))} files stored", flush=True)
        else:
            compare(whole, cut)
            shutil.rmtree(cut)
            cut.mkdir()
    assert start(options.recipe, options.overrides, cut / "run").wait() == 0, f"see {cut}/run.log"
    compare(whole, cut)
    started = time.perf_counter()
    assert start(options.recipe, options.overrides, cut / "run").wait() == 0
    print(f"a finished run started again: {time.perf_counter() - started:.1f} s")


def compare(whole: Path, cut: Path) -> None:
    """Leave with code 1 where what a killed run came to differs from what an uninterrupted one left."""
    expected, found = results(whole), results(cut)
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    print(f"at its end: {len(expected)} files compared, {len(differing)} differ", *differing[:5])
    if differing:
        sys.exit(1)


if __name__ == "__main__":
    main()
