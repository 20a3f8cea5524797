"""A served model that writes as it is told to, and steps that ask it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightline.engines import ENGINES, Engines
from sightline.execute import Execution, Executor
from sightline.store.shards import Store
from tests.servers import Server, text_of

QUICK = {"timeout_s": 30.0, "backoff_s": 0.01, "max_wait_s": 2.0, "retries": 1, "concurrency": 4}


def engine(server: Server, **changes: Any) -> dict[str, Any]:
    return {"kind": "openai_http", "model": "writer-model", "base_url": server.url, **QUICK, **changes}


def executor(root: Path, server: Server, shard_size: int = 4, **changes: Any) -> Executor:
    engines = {"writer": ENGINES.read(engine(server, **changes))}
    return Executor(Store(root / "store"), Engines(engines), 0, Execution(shard_size=shard_size))


def asked_for(body: dict[str, Any]) -> tuple[int, str]:
    """How many prompts a request asks for, and on which topic."""
    number, topic = re.search(r"Write (\d+) prompts .* this topic: (.*)\.\n", text_of(body)).groups()
    return int(number), topic


def lists(text: Callable[[str, int, int], str]) -> Callable[[dict[str, Any]], str]:
    """Replies with as many prompts as asked for: `text` of the topic, the seed and the place in the list."""

    def answer(body: dict[str, Any]) -> str:
        number, topic = asked_for(body)
        return json.dumps({"prompts": [text(topic, body["seed"], place) for place in range(number)]})

    return answer


def distinct(topic: str, seed: int, place: int) -> str:
    return f"{topic} scene{seed}x{place} with thing{seed}y{place} of it"
