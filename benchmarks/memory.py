"""What this process holds of the memory, in MB, as Linux counts it."""

from __future__ import annotations

import re
from pathlib import Path


def resident() -> float:
    """Now."""
    return _status("VmRSS")


def peak() -> float:
    """At most, since the start or since it was last forgotten. Not getrusage's: that knows what the parent held, too."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Let the peak be what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 2**10
