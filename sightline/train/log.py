"""What training writes about itself (a torch file)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.train.objectives import Logprobs, Loss

TIMED = ("seconds", "pairs_per_second", "tokens_per_second")
"""What the clock says: two runs that are otherwise equal to the byte differ in these."""

ANSWERS = ("chosen", "rejected")
"""Terms of a pair's own answers, after its own picture and question."""


class Log:
    """The training log: a JSON object a line. Lines after the state that training goes on from are taken back."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.step = step
        kept = path.read_text().splitlines() if path.exists() and step else []
        self.lines: list[dict[str, float]] = [line for line in map(json.loads, _whole(kept)) if line["step"] <= step]
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        self._started = time.perf_counter() - (self.lines[-1]["seconds"] if self.lines else 0.0)

    def add(self, line: dict[str, float]) -> dict[str, float]:
        """Write a line; returns it with the seconds since training began."""
        self.lines.append({**line, "seconds": round(time.perf_counter() - self._started, 3)})
        with self.path.open("a") as stream:
            stream.write(json.dumps(self.lines[-1]) + "\n")
        return self.lines[-1]


def _whole(lines: list[str]) -> Iterator[str]:
    """Lines that a kill did not cut."""
    return (line for line in lines if line.endswith("}"))


class Mean(NamedTuple):
    """A mean, and over how many numbers."""

    value: Tensor
    over: Tensor | int


def told_by(loss: Loss, num_pairs: int) -> dict[str, Mean]:
    """What the objective has to say: means over the pairs, or over so many as it counts itself."""
    return {name: Mean(value, loss.counts.get(name, num_pairs)) for name, value in loss.logs.items()}


def measured(policy: Logprobs, reference: Logprobs | None) -> dict[str, Mean]:
    """What every objective's log says: tokens of an answer and, held against a reference, what each term gained on it.

    A pair that lacks an answer has 0 tokens of it and is in none of its means.

    `log_ratio/<term>` is a mean of log policy(answer) - log reference(answer). `kl` is a mean over chosen and rejected answers of
    the k3 estimator (Schulman, 2020, Approximating KL divergence), exp(d) - 1 - d, which is never negative; d is an answer's mean
    log-ratio a token. On answers that the reference wrote it estimates KL(reference || policy) a token, from below, as ratios are
    averaged over an answer first. It is not KL(policy || reference), which beta weighs: no answer is drawn from the policy.
    """
    told: dict[str, Mean] = {}
    drifts: list[Tensor] = []
    for term, tokens_B in policy.num_tokens.items():
        there = policy.present(term)
        if term in ANSWERS:
            told[f"{term}_tokens"] = _mean(tokens_B[there])
        if reference is not None:
            gained = (policy[term].detach() - reference[term])[there]
            told[f"log_ratio/{term}"] = _mean(gained)
            drifts += [gained / tokens_B[there]] if term in ANSWERS else []
    if drifts:
        drift = torch.cat(drifts)
        told["kl"] = _mean(drift.expm1() - drift)
    return told


def _mean(numbers: Tensor) -> Mean:
    return Mean(numbers.double().sum() / max(len(numbers), 1), len(numbers))


class Means:
    """Means over the pairs of the steps since the last line of the log, and how many there were in which time.

    What nothing was counted for has no mean.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor | int] = {}
        self._pairs = 0
        self._tokens = 0
        self._started: float | None = None

    def start(self) -> None:
        """A step begins: the clock runs from the first one."""
        if self._started is None:
            self._started = time.perf_counter()

    def count(self, num_pairs: int, num_tokens: int) -> None:
        """The step has so many pairs and packed tokens."""
        self._pairs += num_pairs
        self._tokens += num_tokens

    def add(self, means: dict[str, Mean]) -> None:
        for name, (value, over) in means.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value * over
            self._counts[name] = self._counts.get(name, 0) + over

    def take(self) -> dict[str, float]:
        counts = {name: int(count) for name, count in self._counts.items()}
        means = {name: value.item() / counts[name] for name, value in self._sums.items() if counts[name]}
        seconds = time.perf_counter() - (self._started or 0.0)
        taken = {
            **means,
            "num_pairs": self._pairs,
            "num_tokens": self._tokens,
            "pairs_per_second": round(self._pairs / seconds, 2),
            "tokens_per_second": round(self._tokens / seconds, 2),
        }
        self._sums, self._counts, self._pairs, self._tokens, self._started = {}, {}, 0, 0, None
        return taken
