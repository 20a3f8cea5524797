from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from sightline.engines import Engines
from sightline.execute import Execution, Executor, Step, Task, Use
from sightline.rows import Dropped, Prompt, Row
from sightline.store.shards import Store

PROMPTS = [Prompt(id=f"id{n}", key=f"key{n}", text=f"text {n}", topic="art") for n in range(40)]


class Shout(Step):
    """Make texts loud; refuse every tenth."""

    version: ClassVar[int] = 1
    mark: str = "!"

    def make(self, use: Use, prompts: list[Prompt]) -> Iterator[Row | Dropped]:  # type: ignore[override]
        for prompt in prompts:
            if prompt.id.endswith("0"):
                yield Dropped(key=prompt.key, reason="round number", row_id=prompt.id)
            else:
                yield Prompt(id=prompt.id, key=prompt.key, text=prompt.text.upper() + self.mark, topic=prompt.topic)


class Fragile(Shout):
    """Dies at one prompt while the file `broken` exists."""

    broken: str

    def make(self, use: Use, prompts: list[Prompt]) -> Iterator[Row | Dropped]:  # type: ignore[override]
        if Path(self.broken).exists() and any(prompt.id == "id7" for prompt in prompts):
            raise RuntimeError("power cut")
        yield from super().make(use, prompts)


def executor(root: Path, **execution: int) -> Executor:
    return Executor(Store(root), Engines({}), 0, Execution(shard_size=4, **execution))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")}


def run(root: Path, step: Step, **execution: int):
    hands = executor(root, **execution)
    source = hands.store.source("prompts", "test", PROMPTS, [], 4)
    with hands.working():
        return hands.run(Task("prompts/loud", step, ("prompts",)), [source])


def test_every_row_becomes_a_row_or_a_drop_with_its_reason(tmp_path):
    tally = run(tmp_path, Shout())
    assert (tally.rows, tally.dropped) == (36, {"round number": 4})


def test_what_is_stored_is_not_made_again(tmp_path):
    made = run(tmp_path, Shout())
    again = run(tmp_path, Shout())
    assert made.reused == 0 and again.reused == len(again.shards) == len(made.shards)


def test_a_changed_setting_makes_new_rows(tmp_path):
    run(tmp_path, Shout())
    assert run(tmp_path, Shout(mark="?")).reused == 0


def test_a_changed_step_version_makes_new_rows(tmp_path, monkeypatch):
    run(tmp_path, Shout())
    monkeypatch.setattr(Shout, "version", 2)
    assert run(tmp_path, Shout()).reused == 0


def test_a_run_that_died_goes_on_where_it_stopped_and_ends_the_same(tmp_path):
    whole = tmp_path / "whole"
    cut = tmp_path / "cut"
    flag = tmp_path / "broken"
    run(whole, Fragile(broken=str(flag)))
    flag.touch()
    with pytest.raises(RuntimeError, match="power cut"):
        run(cut, Fragile(broken=str(flag)))
    flag.unlink()
    tally = run(cut, Fragile(broken=str(flag)))
    assert 0 < tally.reused < len(tally.shards)
    assert files(cut) == files(whole)


def test_the_number_of_workers_changes_nothing(tmp_path):
    run(tmp_path / "one", Shout())
    run(tmp_path / "two", Shout(), workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_fault_in_a_worker_reaches_the_caller(tmp_path):
    flag = tmp_path / "broken"
    flag.touch()
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "two", Fragile(broken=str(flag)), workers=2)
