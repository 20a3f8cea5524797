"""How this process gives memory back."""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""What mallopt calls them (malloc.h)."""
KEPT_BYTES = 2**31 - 1
LARGEST_IN_HEAP_BYTES = 32 * 2**20  # the most that glibc takes here


def keep_freed_memory() -> None:
    """Keep up to 2 GB of what is freed for what comes next, where the C library is glibc.

    A batch's tensors are freed and wanted again at each layer. By default glibc hands them to the system, which clears them anew:
    a tenth and more of the time of painting and of a training step on a CPU (docs/experiments.md). Where glibc's own variables
    (MALLOC_TRIM_THRESHOLD_ and the like) are set, these count.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_IN_HEAP_BYTES)
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
