"""Tensors that were used last, within a bound of bytes (a torch file)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor


class Recent(OrderedDict[str, Tensor]):
    """Tensors by name. Past the bound those that were unused longest go; the newest one always stays."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self._bytes = 0

    def use(self, name: str) -> Tensor:
        """The tensor of this name, now the latest used."""
        self.move_to_end(name)
        return self[name]

    def hold(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor that is not here yet."""
        self[name] = tensor
        self._bytes += tensor.nbytes
        while self._bytes > self.limit and len(self) > 1:
            self._bytes -= self.popitem(last=False)[1].nbytes
