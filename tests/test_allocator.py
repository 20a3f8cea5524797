"""What a process keeps of the memory it frees."""

import os
import subprocess
import sys

import pytest

TURNS, TENSORS, BYTES = 20, 4, 30 * 2**20


KEEPING = "from sightline.allocator import keep_freed_memory; keep_freed_memory()"


def faults(before: str, **variables: str) -> int:
    """Pages that a process had to be given while it filled and freed four arrays, again and again."""
    code = f"""
import resource
import numpy as np
{before}
def turn():
    for array in [np.empty({BYTES}, np.uint8) for _ in range({TENSORS})]:
        array[::4096] = 1
turn()
begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TURNS}):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun)
"""
    given = {**os.environ, **variables}
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=given).stdout)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="the C library is not glibc")
def test_memory_of_one_batch_serves_the_next() -> None:
    given_back = faults("")
    assert given_back > TURNS  # otherwise there is nothing to mend here
    assert faults(KEEPING) < given_back / 10
    assert faults(KEEPING, MALLOC_TRIM_THRESHOLD_="131072") > given_back / 10  # somebody's own bounds count
