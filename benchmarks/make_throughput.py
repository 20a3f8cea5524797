"""Pictures, answers and scores made the published way and ours, by the same loaded models, interleaved in one run.

    python benchmarks/make_throughput.py            # a table
    python benchmarks/make_throughput.py --json     # one line

The published way is that of PDS-DPO's scripts: one picture, one answer, one score at a time. Each is one call of the loaded
engine's own inner function, so that nothing but the model's work is counted there. Ours is the engine as a recipe uses it:
batches, lengths sorted, the guidance scales of a prompt in one batch, its samples on one reading. Models are the miniature ones,
as the quickstart names them. What both ways give is compared.

By the clock, as a recipe runs: the quickstart's step of pictures, by two workers with a thread each, rows, PNG and store
included, beside a loop over single pictures, saved as PNG, that may use two threads. Workers and models are loaded before.

Then the quickstart's `make` runs on some of its prompts: what its CPU time outside the engines (executor, rows, pictures as PNG,
store, parsing) is of theirs. Loading the models counts on neither side, and a run of two prompts goes before, which imports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline import make as making
from sightline.engines import Engine, Engines
from sightline.engines.local import quiet
from sightline.engines.roles import ChatRequest, Decoding, PaintRequest
from sightline.execute import Execution, Executor, Task, set_up_process
from sightline.miniature import world
from sightline.recipe import find, read
from sightline.rows import Prompt
from sightline.store.shards import Store

QUICKSTART = "recipes/quickstart.yaml"
SAMPLES = 4
TARGETS = {"pictures": 4.0, "answers": 3.0, "samples": 3.0, "image rewards": 3.0, "answer rewards": 3.0}
Side = Callable[[], Sequence[Any]]


def new_sides(options: argparse.Namespace) -> dict[str, tuple[Side, Side]]:
    """What is made -> the published way to make all of it, and ours."""
    recipe, folder = read(find(QUICKSTART))
    sections = {name: section.model_copy(update={"device": "cpu"}) for name, section in recipe.engines.items()}
    prompts = texts_of(folder)[: options.prompts]
    rng = np.random.default_rng(0)
    pictures = [world.draw(world.sample(rng), rng) for _ in prompts]
    painted = _painting(sections["painter"], prompts)
    answered, texts = _answering(sections["policy"], pictures)
    scored = _scoring(sections["eyes"].load(), prompts, pictures)
    graded = _grading(sections["taste"].load(), prompts, texts)
    return {"pictures": painted, **answered, "image rewards": scored, "answer rewards": graded}


def prompt_lines(folder: Path) -> list[str]:
    """The quickstart's prompts as they stand in its file."""
    return (folder / "prompts" / "quickstart.jsonl").read_text().splitlines()


def texts_of(folder: Path) -> list[str]:
    return [json.loads(line)["text"] for line in prompt_lines(folder)]


def _painting(section: Engine, prompts: list[str]) -> tuple[Side, Side]:
    """Each prompt at four guidance scales."""
    engine = section.load()
    scales = [(place, scale) for place in range(len(prompts)) for scale in (3.0, 5.0, 7.0, 9.0)]
    requests = [PaintRequest(prompts[place], scale, seed) for seed, (place, scale) in enumerate(scales)]
    return lambda: [engine._paint([request])[0] for request in requests], lambda: engine.paint(requests)


def _answering(section: Engine, pictures: list[Any]) -> tuple[dict[str, tuple[Side, Side]], list[str]]:
    """A greedy answer about each picture, as a member of a pool gives it, and four samples; and what these said."""
    engine = section.load()
    greedy, sampled = Decoding(max_tokens=64), Decoding(max_tokens=64, temperature=1.0)
    one_each = [ChatRequest(world.DESCRIBE, (picture,)) for picture in pictures]
    several = [ChatRequest(world.DESCRIBE, (picture,), seed) for picture in pictures for seed in range(SAMPLES)]

    def sides(requests: list[ChatRequest], decoding: Decoding) -> tuple[Side, Side]:
        return lambda: [engine._answer([request], decoding)[0] for request in requests], lambda: engine.chat(requests, decoding)

    texts = [reply.text for reply in engine.chat(several, sampled)]
    return {"answers": sides(one_each, greedy), "samples": sides(several, sampled)}, texts


def _scoring(engine: Any, prompts: list[str], pictures: list[Any]) -> tuple[Side, Side]:
    """Four pictures a prompt."""
    shown = [pictures[(place + other) % len(pictures)] for place in range(len(prompts)) for other in range(SAMPLES)]
    asked = [prompt for prompt in prompts for _ in range(SAMPLES)]
    alone = engine.model.score
    return (
        lambda: [alone([prompt], [picture])[0] for prompt, picture in zip(asked, shown, strict=True)],
        lambda: engine.score(asked, shown),
    )


def _grading(engine: Any, prompts: list[str], texts: list[str]) -> tuple[Side, Side]:
    """Four answers an instruction."""
    asked = [f"This picture was asked to show {prompt}. Describe what it shows." for prompt in prompts for _ in range(SAMPLES)]
    talks = list(zip(asked, texts, strict=True))
    return (
        lambda: [engine.model.score([talk])[0].score for talk in talks],
        lambda: [found.score for found in engine.score(talks)],
    )


def interleaved(published: Side, ours: Side, rounds: int) -> dict[str, Any]:
    """Seconds of both sides, taking turns, after a round to warm up; and by how much their results differ."""
    with quiet():
        differ = _difference(published(), ours())
        taken: dict[str, list[tuple[float, float]]] = {"published": [], "ours": []}
        for _ in range(rounds):
            for side, work in (("published", published), ("ours", ours)):
                cpu, wall = time.process_time(), time.perf_counter()
                work()
                taken[side].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {"differ": differ, **taken}


def _difference(theirs: Sequence[Any], ours: Sequence[Any]) -> float:
    """The largest difference of two pictures' numbers or of two scores; of answers, how many differ."""
    if isinstance(theirs[0], float):
        return float(np.abs(np.subtract(theirs, ours)).max())
    if hasattr(theirs[0], "text"):
        return float(sum(one != other for one, other in zip(theirs, ours, strict=True)))
    return float(max(np.abs(np.subtract(a, b, dtype=int)).max() for a, b in zip(theirs, ours, strict=True)))


def summary(found: dict[str, Any], number: int) -> dict[str, Any]:
    """Medians of milliseconds each, and of the ratios of turns that stood beside each other, with their range."""
    made: dict[str, Any] = {"number": number, "differ": found["differ"]}
    for at, kind in enumerate(("cpu", "wall")):
        theirs, ours = ([turn[at] for turn in found[side]] for side in ("published", "ours"))
        ratios = [one / other for one, other in zip(theirs, ours, strict=True)]
        made[kind] = {
            "published_ms": 1000 * statistics.median(theirs) / number,
            "ours_ms": 1000 * statistics.median(ours) / number,
            "times_as_fast": [statistics.median(ratios), min(ratios), max(ratios)],
        }
    return made


def by_the_clock(number: int, rounds: int) -> dict[str, Any]:
    """Seconds by the clock for so many prompts' pictures, both ways taking turns, each turn with prompts of its own."""
    recipe, folder = read(find(QUICKSTART))
    assert recipe.make is not None and recipe.make.images is not None
    step, painter = recipe.make.images, recipe.engines["painter"].load()
    texts = texts_of(folder)
    if len(texts) < (rounds + 1) * number:
        raise SystemExit(f"{len(texts)} prompts do not suffice for {rounds} rounds and one to warm up, of {number}")
    taken: dict[str, list[float]] = {"published": [], "ours": []}
    with tempfile.TemporaryDirectory() as place:
        executor = Executor(Store(Path(place)), Engines(recipe.engines), recipe.seed, Execution(workers=2, threads=1))
        with executor.working():
            for turn in range(rounds + 1):  # the first starts the workers and loads their models
                some = texts[turn * number : (turn + 1) * number]
                prompts = [Prompt(id=text, key=text, text=text, topic="") for text in some]
                shards = executor.store.source("prompts", turn, prompts, [], number // 4)
                begun = time.perf_counter()
                executor.run(Task("images", step, ("prompts",)), [shards])
                between = time.perf_counter()
                for place_in_turn, (text, scale) in enumerate((text, scale) for text in some for scale in step.guidance):
                    picture = painter._paint([PaintRequest(text, scale, place_in_turn)])[0]
                    picture.save(Path(place) / f"{place_in_turn}.png")
                taken["ours"].append(between - begun)
                taken["published"].append(time.perf_counter() - between)
    ratios = [one / other for one, other in zip(taken["published"][1:], taken["ours"][1:], strict=True)]
    each = {side: 1000 * statistics.median(walls[1:]) / (number * len(step.guidance)) for side, walls in taken.items()}
    return {**each, "times_as_fast": [statistics.median(ratios), min(ratios), max(ratios)]}


class TimedEngines(Engines):
    """Engines that note the CPU seconds of their work, and those of loading them."""

    def __init__(self, sections: dict[str, Engine]) -> None:
        super().__init__(sections)
        self.working = self.loading = 0.0

    def use(self, name: str, role: str) -> Any:
        begun = time.process_time()
        engine = super().use(name, role)
        self.loading += time.process_time() - begun
        return _Timed(engine, self)


class _Timed:
    """An engine whose calls are timed."""

    def __init__(self, engine: Any, engines: TimedEngines) -> None:
        self._engine, self._engines = engine, engines

    def __getattr__(self, name: str) -> Any:
        work = getattr(self._engine, name)

        def timed(*given: Any, **named: Any) -> Any:
            begun = time.process_time()
            try:
                return work(*given, **named)
            finally:
                self._engines.working += time.process_time() - begun

        return timed


def overhead(number: int, threads: int) -> dict[str, float]:
    """CPU seconds of the quickstart's `make` in its engines and outside them, by some of its prompts."""
    recipe, folder = read(find(QUICKSTART))
    assert recipe.make is not None and recipe.make.prompts is not None
    with tempfile.TemporaryDirectory() as place:
        few = Path(place) / "few.jsonl"
        few.write_text("\n".join(prompt_lines(folder)[:number]))
        section = recipe.make.model_copy(update={"prompts": recipe.make.prompts.model_copy(update={"path": str(few)})})
        engines = TimedEngines(dict(recipe.engines))
        execution = Execution(threads=threads, shard_size=recipe.execution.shard_size)
        executor = Executor(Store(Path(place) / "store"), engines, recipe.seed, execution)
        with executor.working():
            begun = time.process_time()
            tallies = making.make(section, executor, folder, lambda tally: None)
            outside = time.process_time() - begun - engines.working - engines.loading
    return {
        "prompts": tallies["prompts"].rows,
        "pairs": tallies["pairs"].rows,
        "engines_s": engines.working,
        "outside_s": outside,
        "share": outside / engines.working,
    }


def print_table(made: dict[str, dict[str, Any]], clock: dict[str, Any], share: dict[str, float]) -> None:
    print("| what | number | CPU ms each: published, ours | times as fast, by CPU | by wall | target | results differ by |")
    print("|---|---|---|---|---|---|---|")
    for name, row in made.items():
        cpu, wall = row["cpu"], row["wall"]
        fast = " | ".join(
            f"{median:.2f} [{low:.2f}, {high:.2f}]" for median, low, high in (cpu["times_as_fast"], wall["times_as_fast"])
        )
        times = f"{cpu['published_ms']:.2f}, {cpu['ours_ms']:.2f}"
        print(f"| {name} | {row['number']} | {times} | {fast} | {TARGETS[name]:g} | {row['differ']:.2g} |")
    fast = "{:.2f} [{:.2f}, {:.2f}]".format(*clock["times_as_fast"])
    print(f"\npictures by the clock, two cores: {clock['published']:.1f} and {clock['ours']:.1f} ms each, {fast} times as fast")
    told = f"{share['outside_s']:.2f} s outside the engines, {share['engines_s']:.2f} s within: {100 * share['share']:.1f} %"
    print(f"make from {share['prompts']} prompts to {share['pairs']} pairs, CPU: {told} (target: at most 5 %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=16, help="of the interleaved part; four pictures, samples and scores each")
    parser.add_argument("--made-from", type=int, default=48, help="prompts of the quickstart's make")
    parser.add_argument("--clocked", type=int, default=24, help="prompts of a round by the clock")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    set_up_process(options.threads)  # the memory that this keeps matters to batches alone
    made = {}
    for name, (published, ours) in new_sides(options).items():
        number = options.prompts * (1 if name == "answers" else SAMPLES)
        made[name] = summary(interleaved(published, ours, options.rounds), number)
    torch.set_num_threads(2)
    clock = by_the_clock(options.clocked, options.rounds)
    torch.set_num_threads(options.threads)
    overhead(2, options.threads)
    share = overhead(options.made_from, options.threads)
    if options.json:
        print(json.dumps({"made": made, "by_the_clock": clock, "overhead": share}))
    else:
        print_table(made, clock, share)


if __name__ == "__main__":
    main()
