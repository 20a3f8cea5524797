"""What this process holds of the memory, in MB, as Linux counts it."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path


def resident() -> float:
    """Now."""
    return _status("VmRSS")


def peak() -> float:
    """At most, since the start or since it was last forgotten. Not getrusage's: that knows what the parent held, too."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Give back what was freed, so that what is held is what is used, and let the peak be that."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 2**10
