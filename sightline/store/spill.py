"""Many values kept on the disk for as long as a process needs them."""

from __future__ import annotations

import errno
import os
import pickle
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightline.errors import RunError


class Spill:
    """Values in a nameless temporary file, each found again by its number; eight bytes a value stay in memory.

    The file is gone when the process is, however it ends. Processes that are forked from this one may read, all at once.
    """

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where they would lie, there or not yet; None is the system's place for temporary files, often memory."""
        wanted = folder or Path(tempfile.gettempdir())
        self.folder = next(place for place in (wanted, *wanted.absolute().parents) if place.is_dir())
        self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        self._ends = array("q", [0])
        self._process = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this process may add: a forked one would write into its parent's file."""
        return self._process == os.getpid()

    def add(self, value: Any) -> int:
        """Put a value behind the others; returns its number. RunError where the disk is full."""
        assert self.is_ours
        with room_on_disk(self.folder):
            self._ends.append(self._ends[-1] + self._file.write(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)))
            self._file.flush()
        return len(self._ends) - 2

    def __getitem__(self, number: int) -> Any:
        start, end = self._ends[number], self._ends[number + 1]
        return pickle.loads(os.pread(self._file.fileno(), end - start, start))


FULL = ("os error 28", "enforce fail at inline_container", "No space left")
"""Words in which safetensors and torch report a full disk, each in ways of its own."""


@contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """RunError in place of what a full disk raises, whoever reports it."""
    try:
        yield
    except Exception as error:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not is_full and not any(sign in str(error) for sign in FULL):
            raise
        fix = "free some and run the same command again: what is stored stays"
        raise RunError(str(folder), "no space left on this disk", fix) from error
