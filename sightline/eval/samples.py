"""The log that lmms-eval keeps of every question (`--log_samples`, or our bridge's), read as a file of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.errors import DataError

IDS = ("question_id", "image_id", "index", "id")
"""What documents of lmms-eval call a question."""


def is_sample(record: Mapping[str, Any]) -> bool:
    """Whether a record is a line of such a log, and not one of a benchmark's own form."""
    return {"doc_id", "filtered_resps", "target"} <= set(record)


def as_record(sample: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A line as a record of `text` and of the ids, and the question, that its document has; DataError where it is no one text.

    lmms-eval's own log leaves documents out, and then the ids are those that a task's metrics kept. `doc_id` is a place in a
    dataset, and its doc_hash of 0.7.3 is one value for all: neither names a question, so neither is taken for its id.
    """
    reply = sample["filtered_resps"]
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    if not isinstance(reply, str):
        count = len(reply) if isinstance(reply, list) else 0
        problem = f"sample {sample['doc_id']} has {count} replies, not one that is text"
        raise DataError(where, problem, "give the log of a task that asks for one answer")
    found: dict[str, Any] = {}
    for kept in (sample.get("doc"), *sample.values()):
        if isinstance(kept, Mapping):
            found = {name: kept[name] for name in (*IDS, "question") if isinstance(kept.get(name), str | int)} | found
    if not set(IDS) & set(found):
        problem = f"sample {sample['doc_id']} names no question: neither its document nor a metric has {', '.join(IDS)}"
        raise DataError(where, problem, "answers that cannot be joined by an id are not scored; lmms-eval's own numbers stand")
    return {**found, "text": reply}
