import os

from sightline.rows import Prompt
from sightline.store.spill import Spill

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
