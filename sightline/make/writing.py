"""Models that write prompts, instructions and claims: what is asked of them, their raw replies, and the JSON in these."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sightline.engines.roles import ChatRequest, Decoding
from sightline.execute import Step, Use
from sightline.rows import Dropped, Reply, Row
from sightline.store.address import digest, seed_from

SHOWN = 200
"""Characters of an unreadable reply that its drop repeats; the whole of it is a row."""

_JSON = re.compile(r"""[\[{]\s*["'\[{]""")


class Writing(Step):
    """Asks a model to write something about each row, without a picture, and keeps every reply as it came."""

    engine: str
    decoding: Decoding

    def request(self, row: Any) -> str:
        """What is asked about a row."""
        raise NotImplementedError

    def reply_schema(self) -> dict[str, Any]:
        """JSON schema of the reply."""
        raise NotImplementedError

    def engine_roles(self) -> dict[str, str]:
        return {self.engine: "text_chat"}

    def make(self, use: Use, *inputs: list[Any]) -> Iterator[Reply | Dropped]:
        rows: list[Row] = [row for rows in inputs for row in rows]
        schema = self.reply_schema()
        requests = [ChatRequest(self.request(row), seed=seed_from(use.seed, row.id, "writing"), schema=schema) for row in rows]
        replies = use.engines.use(self.engine, "text_chat").chat(requests, self.decoding)
        settings = json.dumps(self.decoding.model_dump(), sort_keys=True)
        made_by = use.engines.origin(self.engine, settings)
        for row, request, reply in zip(rows, requests, replies, strict=True):
            if reply.error is not None:
                yield reply.dropped(row)
                continue
            origin = replace(made_by, seed=request.seed) if self.decoding.temperature > 0 else made_by
            yield Reply(
                id=digest("reply", row.id, request.text, origin.revision, settings, origin.seed),
                key=row.key,
                about_id=row.id,
                request=request.text,
                text=reply.text,
                finish=reply.finish,
                num_tokens=reply.num_tokens,
                origin=origin,
            )


def json_in(reply: str) -> Any:
    """The JSON that a reply holds, mended where it is broken; None where it holds none. What a model thought before it replied
    does not count."""
    said = reply.rpartition("</think>")[2]
    start = _JSON.search(said)
    if start is None:
        return None
    import json_repair

    try:
        return json_repair.loads(said[start.start() :])
    except (ValueError, RecursionError):
        return None


def object_of(**properties: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of an object that has all of these and nothing else."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of a list."""
    return {"type": "array", "items": items}


def plain_text(value: Any) -> str | None:
    """A text in one line; None where the value is no text, or an empty one, or half of a surrogate pair is in it."""
    if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
        return None
    return " ".join(value.split()) or None
