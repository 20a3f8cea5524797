"""Kill a run with SIGKILL at random instants, go on each time, and compare the end with a run that nobody killed.

    python -m sightline.miniature.prompts 30 > many.jsonl    # of each of ten topics
    python benchmarks/kill_and_resume.py recipes/quickstart.yaml --kills 10 --set make.prompts.path=many.jsonl

Compares every stored row file, every picture and the adapter, byte for byte, whenever the run has come to its end; then it begins
anew in an empty folder, until it has been killed that often. Every process of a run notes which shards it begins and ends and how
much it asks of engines for each: no shard that ended may be begun again, and what was asked for shards that were not cut must be
what the uninterrupted run asked. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTES = "SIGHTLINE_BENCHMARK_NOTES"  # the file that the processes of a run write to; its workers import this file, too
COMMAND = [sys.executable, __file__]


def take_notes(path: Path) -> None:
    """From now on every shard and every request to an engine of this process leaves a line in the file."""
    from sightline import execute
    from sightline.engines import Engines

    make_shard, use = execute.make_shard, Engines.use
    under_way: list[str] = []

    def note(what: str, number: int = 0) -> None:
        line = json.dumps({"what": what, "shard": under_way[-1] if under_way else None, "pid": os.getpid(), "number": number})
        with path.open("a") as file:
            file.write(line + "\n")

    def noted_shard(user: Any, task: Any, shard: Any, sources: Any) -> None:
        under_way.append(f"{shard.step} {shard.address}")
        note("begin")
        make_shard(user, task, shard, sources)
        note("end")
        under_way.pop()

    execute.make_shard = noted_shard  # type: ignore[assignment]
    Engines.use = lambda self, name, role: _Noted(use(self, name, role), note)  # type: ignore[method-assign]


class _Noted:
    """An engine whose requests are counted, before it answers them."""

    def __init__(self, engine: Any, note: Callable[[str, int], None]) -> None:
        self._engine, self._note = engine, note

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if not callable(found):
            return found

        def counted(asked: Any, *others: Any) -> Any:
            self._note("ask", len(asked))
            return found(asked, *others)

        return counted


@dataclass
class Asked:
    """What engines were asked: for shards that were made whole, for shards that a kill cut, and outside of any."""

    whole: dict[str, int]
    cut: list[int]
    outside: int
    twice: list[str]


def asked(notes: Path) -> Asked:
    """The notes' sums. The last time that a shard is begun made it whole; a time before that must have been cut."""
    found = Asked({}, [], 0, [])
    ended: set[str] = set()
    attempts: dict[tuple[str, int], int] = {}
    for line in notes.read_text().splitlines():
        event = json.loads(line)
        shard, pid = event["shard"], event["pid"]
        if shard is None:
            found.outside += event["number"]
        elif event["what"] == "begin":
            if shard in ended:
                found.twice.append(shard)
            found.cut += [number for (other, _), number in attempts.items() if other == shard]
            attempts = {key: number for key, number in attempts.items() if key[0] != shard} | {(shard, pid): 0}
        elif event["what"] == "ask":
            attempts[shard, pid] = attempts.get((shard, pid), 0) + event["number"]
        else:
            ended.add(shard)
    for (shard, _), number in attempts.items():
        found.whole[shard] = found.whole.get(shard, 0) + number
    return found


def start(recipe: str, overrides: list[str], folder: Path) -> subprocess.Popen[bytes]:
    sets = [part for override in overrides for part in ("--set", override)]
    environment = {**os.environ, NOTES: str(folder.parent / "notes.jsonl")}
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        command = [*COMMAND, "run", recipe, *sets, "--out", str(folder)]
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


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
    print(f"uninterrupted: {seconds:.0f} s, {len(results(whole))} files", flush=True)
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
    wanted, got = asked(whole / "notes.jsonl"), asked(cut / "notes.jsonl")
    print(
        f"engines: {sum(wanted.whole.values())} requests uninterrupted; {sum(got.whole.values())} for the same shards, and "
        f"{sum(got.cut)} for {len(got.cut)} shards that were under way when killed; {len(got.twice)} shards made twice",
        flush=True,
    )
    if differing or wanted.whole != got.whole or wanted.outside or got.outside or got.twice:
        sys.exit(1)


if NOTES in os.environ:
    take_notes(Path(os.environ[NOTES]))

if __name__ == "__main__":
    if NOTES in os.environ:  # a run of ours
        from sightline.cli import main as command_line

        command_line()
    else:
        main()
