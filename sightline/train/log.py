"""What training writes about itself (a torch file)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor


class Log:
    """The training log: a JSON object a line. Lines after the state that training goes on from are taken back."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.step = step
        kept = path.read_text().splitlines() if path.exists() and step else []
        self.lines: list[dict[str, float]] = [line for line in map(json.loads, _whole(kept)) if line["step"] <= step]
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        self._started = time.perf_counter() - (self.lines[-1]["seconds"] if self.lines else 0.0)

    def add(self, line: dict[str, float]) -> None:
        self.lines.append({**line, "seconds": round(time.perf_counter() - self._started, 3)})
        with self.path.open("a") as stream:
            stream.write(json.dumps(self.lines[-1]) + "\n")


def _whole(lines: list[str]) -> Iterator[str]:
    """Lines that a kill did not cut."""
    return (line for line in lines if line.endswith("}"))


class Means:
    """Means over the pairs of the steps since the last line of the log, or over what `counts` counts; the tokens are counted.

    What nothing was counted for has no mean.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor | int] = {}
        self._tokens = 0

    def add(self, values: dict[str, Tensor], num_pairs: int, num_tokens: int, counts: dict[str, Tensor]) -> None:
        for name, value in values.items():
            count = counts.get(name, num_pairs)
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value * count
            self._counts[name] = self._counts.get(name, 0) + count
        self._tokens += num_tokens

    def take(self) -> dict[str, float]:
        counts = {name: int(count) for name, count in self._counts.items()}
        means = {name: value.item() / counts[name] for name, value in self._sums.items() if counts[name]}
        taken = {**means, "num_tokens": self._tokens}
        self._sums, self._counts, self._tokens = {}, {}, 0
        return taken
