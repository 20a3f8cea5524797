"""What training leaves behind, and where it works until then."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import RunError
from sightline.store.shards import Store
from sightline.store.spill import room_on_disk

ABOUT = "checkpoint.json"
LOG = "log.jsonl"
WHOLE = "whole"
"""Written last into a training state: without it the state was cut short."""


@dataclass(frozen=True)
class Checkpoint:
    """A finished training: a PEFT adapter (or a whole model), its processor, its log."""

    address: str
    folder: Path
    model: str
    revision: str | None
    is_adapter: bool
    num_pairs: int
    num_steps: int
    first_loss: float
    last_loss: float
    seconds: float
    num_trained: dict[str, int]
    """Numbers that trained, by part of the model."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Pairs that were not trained on, by reason."""
    num_processes: int = 1
    """Processes that trained together."""
    sft: Checkpoint | None = None
    """The stage before this one, where there was one; `model` is then what came of it."""

    @property
    def adapter(self) -> Path | None:
        """Folder of the adapter; None where `folder` holds a whole model."""
        return self.folder if self.is_adapter else None

    @property
    def log(self) -> Path:
        """Training curves: one JSON object a line."""
        return self.folder / LOG

    def describe(self) -> str:
        """One line for the screen."""
        trained = ", ".join(
            f"{count:,} numbers of the {part.replace('_', ' ')}" for part, count in self.num_trained.items() if count
        )
        losses = ", ".join(f"{name} {first:.3f} to {last:.3f}" for name, (first, last) in self._losses().items())
        together = f" on {self.num_processes} processes" if self.num_processes > 1 else ""
        return f"{self.num_pairs} pairs, {self.num_steps} steps, {losses}, {trained}, {self.seconds:.1f} s{together}"

    def _losses(self) -> dict[str, tuple[float, float]]:
        """First and last of the loss, and of the preference loss where more than that is minimised: it starts at log 2."""
        whole = {"loss": (self.first_loss, self.last_loss)}
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        if lines[0].get("preference_loss") in (None, lines[0]["loss"]):
            return whole
        return {"preference loss": (lines[0]["preference_loss"], lines[-1]["preference_loss"]), **whole}

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the run's manifest; paths start at the store."""
        root = self.folder.parent.parent
        place = str(self.folder.relative_to(root))
        model = str(Path(self.model).relative_to(root)) if Path(self.model).is_relative_to(root) else self.model
        sft = None if self.sft is None else self.sft.to_json()
        return {**asdict(self), "folder": place, "model": model, "log": f"{place}/{LOG}", "sft": sft}

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """A stored checkpoint."""
        stored = json.loads((folder / ABOUT).read_text())["checkpoint"]
        inside = folder.parent.parent / stored["model"]
        model = str(inside) if inside.is_dir() else stored["model"]  # what an earlier stage left lies in the same store
        return cls(**{**{name: value for name, value in stored.items() if name != "log"}, "folder": folder, "model": model})


@dataclass(frozen=True)
class Place:
    """Where a checkpoint will be, and the folder beside it in which training works until it is whole."""

    folder: Path

    @classmethod
    def of(cls, store: Store, address: str) -> Place:
        return cls(store.folder("checkpoints", address))

    @property
    def finished(self) -> bool:
        return (self.folder / ABOUT).exists()

    @property
    def working(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.working")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process trains this; RunError for the second, and where the disk is full."""
        self.working.mkdir(parents=True, exist_ok=True)
        with (self.working / ".lock").open("w") as stream, room_on_disk(self.folder.parent):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(str(self.working), "another sightline is training this now", "wait for it, or stop it") from error
            yield

    def last_state(self) -> Path | None:
        """The newest whole training state; those that a kill cut short are removed."""
        states = sorted(self.working.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        for state in states:
            if not (state / WHOLE).exists():
                shutil.rmtree(state)
        return next((state for state in reversed(states) if state.exists()), None)

    def publish(self, made: Path) -> None:
        """Give a whole result its name, and clear the working folder."""
        os.replace(made, self.folder)
        self.clear()

    def clear(self) -> None:
        shutil.rmtree(self.working, ignore_errors=True)
