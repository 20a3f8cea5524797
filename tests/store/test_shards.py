import errno
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from sightline.errors import RunError
from sightline.rows import Annotation, Claim, Dropped, Judgement, Origin, Prompt
from sightline.store.shards import Shard, Store, bucket_of, num_buckets, written_whole

ORIGIN = Origin(engine="judge", model="m", revision="r", seed=3)


def prompts(count: int) -> list[Prompt]:
    return [Prompt(id=f"id{n}", key=f"key{n}", text=f"text {n}", topic="art") for n in range(count)]


def test_rows_come_back_as_they_went_in(tmp_path):
    store = Store(tmp_path)
    rows = [
        Judgement(id="1", key="k", response_id="r", annotator="a", question="q", reply="", numbers={"x": 0.5}, origin=ORIGIN),
        Judgement(id="2", key="k", response_id="r", annotator="a", question="q", reply="ja", origin=ORIGIN),
    ]
    shard = Shard("judgements/a", 0, "ab")
    store.write(shard, rows, [Dropped(key="k", reason="why", detail="how")])
    assert store.read(shard) == rows
    assert store.read_dropped(shard) == [Dropped(key="k", reason="why", detail="how")]


def test_an_unreadable_verdict_stays_none(tmp_path):
    claims = [Claim(text="a cup", question="Is there a cup?", reply="perhaps", holds=None)]
    row = Annotation(
        id="1", key="k", response_id="r", annotator="a", score=None, reason="unreadable", claims=claims, sees_picture=True
    )
    shard = Shard("annotations/a", 0, "ab")
    Store(tmp_path).write(shard, [row])
    assert Store(tmp_path).read(shard) == [row]


def test_rows_of_a_version_whose_columns_had_other_types_are_to_be_made_again(tmp_path):
    """As commit 482eb6a stored judgements: `numbers` was Arrow's map."""
    store, shard = Store(tmp_path), Shard("judgements/a", 0, "ab")
    row = Judgement(id="1", key="k", response_id="r", annotator="a", question="q", reply="", numbers={"x": 0.5}, origin=ORIGIN)
    store.write(shard, [row])
    table = pyarrow.parquet.ParquetFile(store.path(shard)).read()
    numbers = pyarrow.array([[("x", 0.5)]], type=pyarrow.map_(pyarrow.string(), pyarrow.float64()))
    older = table.set_column(table.column_names.index("numbers"), "numbers", numbers)
    pyarrow.parquet.write_table(older, store.path(shard))
    with pytest.raises(RunError, match=r"older version of Sightline: its column 'numbers' is map<.*\n.*delete .*judgements/a;"):
        store.read(shard)
    store.path(shard).unlink()
    assert not store.has(shard)


def test_columns_that_have_come_since_may_be_absent(tmp_path):
    store, shard = Store(tmp_path), Shard("annotations/a", 0, "ab")
    row = Annotation(id="1", key="k", response_id="r", annotator="a", score=None, sees_picture=True)
    store.write(shard, [row])
    table = pyarrow.parquet.ParquetFile(store.path(shard)).read()
    pyarrow.parquet.write_table(table.drop_columns(["claims"]), store.path(shard))
    assert store.read(shard) == [row]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="half way"), written_whole(tmp_path / "rows") as aside:
        aside.write_text("half")
        raise ValueError("half way")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_such_and_leaves_what_was_there(tmp_path):
    (tmp_path / "rows").write_text("before")
    with pytest.raises(RunError, match="no space left"), written_whole(tmp_path / "rows"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "rows").read_text() == "before"


def test_a_really_full_disk_is_told_as_such():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(RunError, match="no space left"), written_whole(Path("/dev/shm/sightline-full-test")):
        Path("/dev/full").write_text("x")


def test_shards_hold_whole_keys_and_every_row_once(tmp_path):
    store = Store(tmp_path)
    rows = prompts(100)
    shards = store.source("prompts", "test", rows, [], shard_size=16)
    stored = [row for shard in shards for row in store.read(shard)]
    assert sorted(row.id for row in stored) == sorted(row.id for row in rows)
    assert len(shards) == num_buckets(100, 16) == 8


def test_rows_from_outside_wait_on_the_disk_until_their_keys_are_counted(tmp_path):
    """Fifty times as many take no more memory, but for the names of their shards."""

    def peak(count: int) -> int:
        rows = (Prompt(id=f"id{n}", key=f"key{n}", text=f"{n} " * 500, topic="art") for n in range(count))
        tracemalloc.start()
        shards = Store(tmp_path / str(count)).sort_in("prompts", "test", rows, shard_size=16)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(shards) == num_buckets(count, 16)
        return highest

    peak(16)  # what is imported and remembered the first time does not count
    few, many = peak(16), peak(800)
    assert (many - few) / 784 < 600


def test_refused_rows_lie_with_the_rows_of_their_keys_and_do_not_move_them(tmp_path):
    store, refused = Store(tmp_path), [Dropped(key=f"key{n}", reason="why") for n in range(0, 100, 2)]
    expected = [shard.bucket for shard in store.source("prompts", "test", prompts(40), [], 16)]
    mixed = [row for pair in zip(refused[:20], prompts(40)[::2], strict=True) for row in pair]
    shards = store.sort_in("prompts", "test", [*mixed, *prompts(40)[1::2], *refused[20:]], 16)
    assert [shard.bucket for shard in shards] == expected
    for shard in shards:
        assert {row.key for row in store.read(shard)} == {f"key{n}" for n in range(40) if bucket_of(f"key{n}", 4) == shard.bucket}
        assert [row.key for row in store.read_dropped(shard)] == [
            row.key for row in refused if bucket_of(row.key, 4) == shard.bucket
        ]


def test_adding_a_prompt_changes_its_own_shard_only(tmp_path):
    store = Store(tmp_path)
    before = {shard.bucket: shard.address for shard in store.source("prompts", "test", prompts(100), [], 16)}
    after = {shard.bucket: shard.address for shard in store.source("prompts", "test", prompts(101), [], 16)}
    assert {bucket for bucket in after if after[bucket] != before.get(bucket)} == {bucket_of("key100", 8)}


def test_the_same_rows_give_the_same_bytes(tmp_path):
    first = Store(tmp_path / "a").source("prompts", "test", prompts(10), [], 16)[0]
    second = Store(tmp_path / "b").source("prompts", "test", prompts(10), [], 16)[0]
    assert Store(tmp_path / "a").path(first).read_bytes() == Store(tmp_path / "b").path(second).read_bytes()


def test_a_picture_is_stored_once_under_its_bytes(tmp_path):
    store = Store(tmp_path)
    name = store.put_picture(b"picture")
    assert store.put_picture(b"picture") == name and store.picture(name).read_bytes() == b"picture"
