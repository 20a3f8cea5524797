"""What served models replied while a shard is made, kept on disk: a call that was answered is not paid for twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Call:
    """A reply, and what it took. None where the server or the recipe does not say."""

    text: str
    finish: str
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None


class Calls:
    """Replies by the digest of their request, a line of JSON each. The file lives until the shard is stored.

    A process that is killed leaves it behind; the next one that makes the shard reads it and asks for the rest.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.known = dict(_read(path)) if path is not None and path.exists() else {}
        self._lock = threading.Lock()

    def add(self, request: str, call: Call) -> None:
        """Note a reply, on disk before anything else is done with it. Threads may call this at once."""
        with self._lock:
            self.known[request] = call
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    # the line break goes first: a line that a kill cut short does not spoil the one after it
                    file.write("\n" + json.dumps({"request": request, **asdict(call)}))

    def usage(self) -> dict[str, float | None]:
        """Calls, tokens and cost in all; a sum of which a part is unknown is None. Empty where nothing was asked."""
        if not self.known:
            return {}
        totals: dict[str, float | None] = {"calls": len(self.known)}
        for what in ("input_tokens", "output_tokens", "cost"):
            totals[what] = total([getattr(call, what) for call in self.known.values()])
        return totals

    def forget(self) -> None:
        """The shard is stored: its rows hold the replies now."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def total(parts: list[float | None]) -> float | None:
    """The sum; None where a part is unknown."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _read(path: Path) -> Iterator[tuple[str, Call]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            yield record.pop("request"), Call(**record)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # cut short by a kill, or the empty first line: what it held is asked for again
