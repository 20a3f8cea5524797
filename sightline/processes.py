"""The processes that torchrun started: which of them this is, and how the first tells the others what comes next.

The first process does everything alone but train; the others wait, and train with it. Orders go through torchrun's own store, so
that waiting for hours needs no collective operation, which would time out.
"""

from __future__ import annotations

import os
import pickle
import time
from functools import cache
from itertools import count as numbers
from typing import Any

LAUNCHED_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets."""

POLL_SECONDS = 0.2

_orders = numbers()


def count() -> int:
    """How many processes train together."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in LAUNCHED_BY) else 1


def rank() -> int:
    """This process's number; 0 is the one that does everything but train alone."""
    return int(os.environ["RANK"]) if count() > 1 else 0


@cache
def _store() -> Any:
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    return PrefixStore("sightline", store)


def tell(order: Any) -> None:
    """Give the other processes their next order; None says that there is none left."""
    if count() > 1:
        _store().set(f"order {next(_orders)}", pickle.dumps(order))


def told() -> Any:
    """The next order of the first process, however long that takes; if it ends with an error, torchrun ends this process, too."""
    name = f"order {next(_orders)}"
    while not _store().check([name]):
        time.sleep(POLL_SECONDS)
    return pickle.loads(_store().get(name))


def first_to_fail() -> bool:
    """Whether no other process has failed before: one tells what went wrong, the rest only follow from it."""
    if count() == 1:
        return True
    try:
        return bool(_store().compare_set("failed", "", str(rank())).decode() == str(rank()))
    except RuntimeError:  # torchrun is gone, and its store with it
        return True


def use_own_device() -> None:
    """Have this process work on the GPU that has its number on this machine."""
    if count() > 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def from_all(value: Any) -> list[Any]:
    """What each process gave, in their order. All must ask, while they train."""
    if count() == 1:
        return [value]
    from torch import distributed

    values = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Return when all processes are here. All must ask, while they train."""
    if count() > 1:
        from torch import distributed

        distributed.barrier()
