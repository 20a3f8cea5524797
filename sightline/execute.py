"""Run steps over shards: skip what is stored, share the rest among workers, count what is dropped.

A shard of one step is made from the same bucket's shards of the steps before it, and its address from theirs. So a step resumes
wherever it stopped, the number of workers changes nothing, and a change of the recipe redoes only what it touches.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import Field

from sightline.allocator import keep_freed_memory
from sightline.engines import Engine, Engines
from sightline.engines.calls import Calls, total
from sightline.plugin import Plugin, Section
from sightline.rows import Dropped, Row
from sightline.store.address import digest
from sightline.store.shards import Shard, Store

T = TypeVar("T")


class Execution(Section):
    """How many hands work on the steps. Nothing here changes a result."""

    workers: int = Field(1, ge=1)
    """Processes that make shards; 1 works in this process. Each loads its own engine."""
    threads: int | None = Field(None, ge=1)
    """Threads of each worker's arithmetic; absent: as torch chooses. Sums may differ in their last bits between counts."""
    shard_size: int = Field(16, ge=1)
    """About how many keys (prompts, imported records) a shard holds; at most one shard is lost when a run is killed."""


@dataclass
class Use:
    """What a step may use while it makes a shard."""

    engines: Engines
    store: Store
    seed: int

    def picture(self, name: str) -> Any:
        """A stored picture, decoded and upright: PIL, RGB."""
        from PIL import Image, ImageOps

        with Image.open(self.store.picture(name)) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")


class Step(Plugin):
    """Makes rows from rows. A subclass is its own recipe section."""

    version: ClassVar[int] = 1  # raise it when the same rows would now give different rows
    may_be_empty: ClassVar[bool] = False
    """A run goes on where no row is left after this step."""
    asks_again: ClassVar[bool] = False
    """A shard with dropped rows is made again by the next run. Calls that were answered are kept, and not made again."""

    def engine_roles(self) -> dict[str, str]:
        """Engines this step uses: name -> role."""
        return {}

    def informed(self, shards: Iterable[list[Any]]) -> Step:
        """This step with what it has to know of all shards of the first step before it; most need nothing. What it knows is part
        of its section, and so of its shards' addresses."""
        return self

    def make(self, use: Use, *inputs: list[Any]) -> Iterable[Row | Dropped]:
        """Rows of one shard, from the rows of the same keys of each step before it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Task:
    """A step's place in a run: its name, and the names of the steps whose rows it takes, in order."""

    name: str
    step: Step
    after: tuple[str, ...]


@dataclass
class Tally:
    """What a step came to."""

    name: str
    shards: list[Shard] = field(default_factory=list)
    rows: int = 0
    reused: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    usage: dict[str, float | None] = field(default_factory=dict)
    """Calls, tokens and cost of served models; None where unknown, empty where none was asked."""


class Watch(Protocol):
    """Told of progress; the command line draws it."""

    def begin(self, name: str, total: int, unit: str) -> None: ...
    def advance(self, name: str, done: int) -> None: ...
    def end(self, name: str, note: str) -> None: ...


class Silent:
    """A watch that says nothing."""

    def begin(self, name: str, total: int, unit: str) -> None: ...
    def advance(self, name: str, done: int) -> None: ...
    def end(self, name: str, note: str) -> None: ...


def watched(made: Iterable[T], watch: Watch, name: str) -> Iterator[T]:
    """The same rows, each told of as it is read."""
    watch.begin(name, 0, "rows")
    number = 0
    for row in made:
        number += 1
        watch.advance(name, 1)
        yield row
    watch.end(name, f"{number} rows read")


class Executor:
    """Carries tasks out, one step after the other."""

    def __init__(self, store: Store, engines: Engines, seed: int, execution: Execution, watch: Watch | None = None) -> None:
        self.store = store
        self.use = Use(engines, store, seed)
        self.execution = execution
        self.watch = watch or Silent()
        self._pool: ProcessPoolExecutor | None = None

    @contextmanager
    def working(self) -> Iterator[Executor]:
        """Workers live for the length of the block at most."""
        try:
            yield self
        finally:
            self.rest()

    def rest(self) -> None:
        """End the workers and free all engines: training needs the memory. The next step starts new ones."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()  # what is whole is stored; a shard under way is made again
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self.use.engines.free()

    def run(self, task: Task, inputs: Sequence[Sequence[Shard]]) -> Tally:
        """Make the shards of a step that are not stored yet. `inputs` holds each earlier step's shards, in the task's order."""
        task = self._informed(task, inputs)
        jobs = list(self._jobs(task, inputs))
        missing = [job for job in jobs if not is_made(self.store, task.step, job[0])]
        self.watch.begin(task.name, len(jobs), "shards")
        self.watch.advance(task.name, len(jobs) - len(missing))
        for _ in self._made(task, missing):
            self.watch.advance(task.name, 1)
        tally = tally_of(self.store, task.name, [shard for shard, _ in jobs], reused=len(jobs) - len(missing))
        self.watch.end(task.name, describe(tally))
        return tally

    def planned(self, task: Task, inputs: Sequence[Sequence[Shard]]) -> list[Shard]:
        """The shards that a step has or will have: their addresses follow from what goes in."""
        return [shard for shard, _ in self._jobs(self._informed(task, inputs), inputs)]

    def sections(self, task: Task) -> dict[str, Engine]:
        """The recipe sections of the engines that a step uses."""
        return {name: self.use.engines.section(name, role, task.name) for name, role in task.step.engine_roles().items()}

    def _informed(self, task: Task, inputs: Sequence[Sequence[Shard]]) -> Task:
        return replace(task, step=task.step.informed(self.store.read(shard) for shard in inputs[0]))

    def _jobs(self, task: Task, inputs: Sequence[Sequence[Shard]]) -> Iterator[tuple[Shard, list[Shard]]]:
        identity = step_identity(task, self.use)
        by_bucket = [{shard.bucket: shard for shard in shards} for shards in inputs]
        for bucket in sorted(by_bucket[0]):
            sources = [shards[bucket] for shards in by_bucket]
            yield Shard(task.name, bucket, digest(identity, [source.address for source in sources])), sources

    def _made(self, task: Task, missing: list[tuple[Shard, list[Shard]]]) -> Iterator[None]:
        if self.execution.workers == 1 or len(missing) < 2:
            if missing:
                set_up_process(self.execution.threads)
            for shard, sources in missing:
                make_shard(self.use, task, shard, sources)
                yield
            return
        with _ctrl_c_held_back():  # workers start on being given work
            waiting: set[Future[None]] = {
                self.pool.submit(_work, task, shard, sources, self.sections(task)) for shard, sources in missing
            }
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                yield

    @property
    def pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.execution.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(str(self.store.root), self.use.seed, self.execution.threads),
            )
        return self._pool


def step_identity(task: Task, use: Use) -> dict[str, Any]:
    """Everything but its rows that decides what a step makes."""
    roles = task.step.engine_roles()
    engines = {name: use.engines.section(name, role, task.name).identity() for name, role in roles.items()}
    return {
        "step": task.name,
        "section": task.step.model_dump(),
        "version": task.step.version,
        "engines": engines,
        "seed": use.seed,
    }


def is_made(store: Store, step: Step, shard: Shard) -> bool:
    """True where the shard is stored and nothing in it is owed."""
    return store.has(shard) and not (step.asks_again and store.counts(shard)["dropped"])


def make_shard(use: Use, task: Task, shard: Shard, sources: Sequence[Shard]) -> None:
    """Make one shard and store it whole."""
    started = time.perf_counter()
    calls = use.engines.calls = Calls(use.store.path(shard).with_suffix(".calls.jsonl"))
    rows: list[Row] = []
    dropped: list[Dropped] = []
    for made in task.step.make(use, *(use.store.read(source) for source in sources)):
        (dropped if isinstance(made, Dropped) else rows).append(made)  # type: ignore[arg-type]
    use.store.write(shard, rows, dropped, time.perf_counter() - started, calls.usage())
    if not (dropped and task.step.asks_again):
        calls.forget()


def tally_of(store: Store, name: str, shards: list[Shard], reused: int = 0) -> Tally:
    """Counts of a step, read from its stored shards."""
    tally = Tally(name, shards, reused=reused)
    for shard in shards:
        counts = store.counts(shard)
        tally.rows += int(counts["rows"])
        tally.seconds += counts["seconds"]
        for what, used in counts.get("usage", {}).items():
            tally.usage[what] = total([tally.usage.get(what, 0), used])
        for refused in store.read_dropped(shard) if counts["dropped"] else ():
            tally.dropped[refused.reason] = tally.dropped.get(refused.reason, 0) + 1
    return tally


def describe(tally: Tally) -> str:
    """One line for the log."""
    dropped = sum(tally.dropped.values())
    calls = tally.usage.get("calls")
    parts = [f"{tally.rows} rows", f"{dropped} dropped" if dropped else "", f"{calls} calls" if calls else ""]
    parts.append(f"{tally.seconds:.1f} s")
    if tally.reused:
        parts.append(
            "all stored before"
            if tally.reused == len(tally.shards)
            else f"{tally.reused} of {len(tally.shards)} shards stored before"
        )
    return ", ".join(part for part in parts if part)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Ctrl-C waits until the block ends: one that came while a worker was starting would end the worker with a traceback.

    Workers take the signal mask over and never see one; it is the parent's to answer. Another thread of the parent may be given
    the signal, though, so the handler, which Python runs in the main thread, waits, too.
    """
    came: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number)) if in_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main:
            signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
            if came:
                signal.raise_signal(signal.SIGINT)


_worker: Use | None = None


def _start_worker(root: str, seed: int, threads: int | None) -> None:
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own would be a semaphore of the system, left behind when a worker is ended
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_up_process(threads)
    global _worker
    _worker = Use(Engines({}), Store(Path(root)), seed)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers; without this they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(task: Task, shard: Shard, sources: list[Shard], sections: dict[str, Engine]) -> None:
    assert _worker is not None
    _worker.engines.sections.update(sections)
    make_shard(_worker, task, shard, sources)


def set_up_process(threads: int | None) -> None:
    """What every process does before it computes; None leaves the threads as they are."""
    keep_freed_memory()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
