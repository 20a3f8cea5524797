"""Pictures of the user's own and a table about them, for tests of runs that start from these."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.miniature import world

TABLE: dict[str, Any] = {"folder": "photos", "table": "questions.jsonl"}


def png(seed: int) -> bytes:
    """A scene of the miniature world."""
    stream = io.BytesIO()
    rng = np.random.default_rng(seed)
    world.draw(world.sample(rng), rng).save(stream, format="PNG")
    return stream.getvalue()


def lay_out(folder: Path, records: Sequence[Any] = (), table: str = "questions.jsonl", count: int = 4) -> Path:
    """Pictures 0.png, 1.png and so on in photos, and a table beside it."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / "photos" / f"{number}.png").write_bytes(png(number))
    if records:
        (folder / table).write_text("\n".join(json.dumps(record) for record in records))
    return folder


def questions(count: int = 4) -> list[dict[str, Any]]:
    return [{"id": f"q{n}", "image": f"{n}.png", "instruction": f"What is in picture {n}?", "topic": "art"} for n in range(count)]
