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


class Patient(Step):
    """Refuses what it has not been given yet, and asks again."""

    asks_again: ClassVar[bool] = True
    given: ClassVar[set[str]] = set()
    asked: ClassVar[list[str]] = []

    def make(self, use: Use, prompts: list[Prompt]) -> Iterator[Row | Dropped]:  # type: ignore[override]
        for prompt in prompts:
            self.asked.append(prompt.id)
            yield prompt if prompt.id in self.given else Dropped(key=prompt.key, reason="not yet", row_id=prompt.id)


def test_a_step_that_asks_again_makes_only_the_shards_that_lack_rows(tmp_path):
    Patient.given = {prompt.id for prompt in PROMPTS} - {"id7"}
    first = run(tmp_path, Patient())
    assert (first.rows, first.dropped) == (39, {"not yet": 1})
    Patient.given.add("id7")
    Patient.asked.clear()
    again = run(tmp_path, Patient())
    assert (again.rows, again.dropped, again.reused) == (40, {}, len(first.shards) - 1)
    assert "id7" in Patient.asked and len(Patient.asked) < 40
    assert run(tmp_path, Patient()).reused == len(first.shards)


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
