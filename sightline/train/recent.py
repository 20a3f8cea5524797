"""Values that were used last, within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by name. Past the bound those that were unused longest go; the newest one always stays."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def __len__(self) -> int:
        return len(self._held)

    def use(self, name: str) -> V:
        """The value of this name, now the latest used."""
        self._held.move_to_end(name)
        return self._held[name][0]

    def hold(self, name: str, value: V, num_bytes: int) -> None:
        """Keep a value that is not here yet."""
        self._held[name] = value, num_bytes
        self._bytes += num_bytes
        while self._bytes > self.limit and len(self) > 1:
            self._bytes -= self._held.popitem(last=False)[1][1]
