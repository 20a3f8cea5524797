import errno
import os

import pytest
from safetensors import SafetensorError

from sightline.errors import RunError
from sightline.rows import Prompt
from sightline.store.spill import Spill, room_on_disk

ROWS = [Prompt(id=str(at), key=f"key {at}", text="ü" * at, topic="art") for at in range(50)]


def filled(folder) -> Spill:
    spill = Spill(folder)
    assert [spill.add(row) for row in ROWS] == list(range(50))
    return spill


def test_values_come_back_by_their_numbers_in_any_order(tmp_path):
    spill = filled(tmp_path)
    assert [spill[at] for at in reversed(range(50))] == ROWS[::-1]
    assert spill[spill.add(None)] is None


def test_no_file_and_no_folder_is_left(tmp_path):
    spill = filled(tmp_path / "new" / "store")
    assert spill[0] == ROWS[0] and list(tmp_path.iterdir()) == []


def test_forked_processes_read_at_once_and_do_not_add(tmp_path):
    spill = filled(tmp_path)
    children = []
    for _ in range(4):
        if not (child := os.fork()):
            right = all(spill[at] == ROWS[at] for _ in range(50) for at in range(50))
            os._exit(0 if right and not spill.is_ours else 1)
        children.append(child)
    assert all(spill[spill.add(row)] == row for row in ROWS)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed writing file data/0"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 777920 vs 777812"),
    ],
)
def test_a_full_disk_is_a_message_whoever_reports_it(tmp_path, error):
    with pytest.raises(RunError, match="no space left"), room_on_disk(tmp_path):
        raise error


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(KeyError), room_on_disk(tmp_path):
        raise KeyError("x")
