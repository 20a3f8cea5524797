"""A sound record of each format, and ways to bring records in and out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.formats import Imported, export_rows, import_rows
from sightline.rows import Pair
from sightline.store.shards import Store

from .conftest import coloured, folder_of, lay_out

ASKS, GOOD, BAD = "What is there?", "A dog.", "A cat."


def aspects(*ratings: str) -> dict[str, Any]:
    names = ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")
    return {name: {"Rating": rating, "Rationale": "Because."} for name, rating in zip(names, ratings, strict=True)}


def completion(model: str, text: str, *ratings: str) -> dict[str, Any]:
    return {"annotations": aspects(*ratings), "model": model, "response": text}


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


# A sound record of each format, as its documentation shows it, and the column of its picture.
SOUND: dict[str, tuple[dict[str, Any], str]] = {
    "llamafactory": (
        {"conversations": [human(f"<image>{ASKS}")], "chosen": gpt(GOOD), "rejected": gpt(BAD), "images": ["a.png"]},
        "images",
    ),
    "mllm_dpo": (
        {"image": "a.png", "question": human(f"<image>\n{ASKS}"), "chosen": gpt(GOOD), "rejected": gpt(BAD)},
        "image",
    ),
    "swift": (
        {"messages": [user(f"<image>{ASKS}"), assistant(GOOD)], "images": ["a.png"], "rejected_response": BAD},
        "images",
    ),
    "trl": (
        {
            "images": ["a.png"],
            "prompt": [user([{"type": "image"}, {"type": "text", "text": ASKS}])],
            "chosen": [assistant([{"type": "text", "text": GOOD}])],
            "rejected": [assistant([{"type": "text", "text": BAD}])],
        },
        "images",
    ),
    "vlfeedback": (
        {
            "id": "svit-1",
            "prompt": ASKS,
            "models": ["one", "two"],
            "completions": [completion("one", BAD, "2", "5", "1"), completion("two", GOOD, "4", "5", "4")],
            "img_path": "a.png",
        },
        "img_path",
    ),
}
FORMATS = sorted(SOUND)


def bring(folder: Path, records: Any, format: str) -> Imported:
    content = records if isinstance(records, bytes) else json.dumps(records).encode()
    (lay_out(folder) / "rows.json").write_bytes(content)
    return import_rows(folder / "rows.json", format, None, folder / "in")


def given_back(done: Imported, format: str, folder: Path) -> Any:
    return json.loads(export_rows(done.folder, format, folder / "back" / "rows.json").file.read_text())


def one_made(folder: Path, **changes: Any) -> Pair:
    """A pair as a run makes it, its picture stored in the folder."""
    name = Store(folder).put_picture(coloured("a.png"))
    made = Pair(id="p", key="k", instruction=ASKS, pictures=[name], chosen=GOOD, rejected=BAD, rule="best_worst")
    return replace(made, **changes)


def written(folder: Path, format: str, file: str = "rows.json", **changes: Any) -> dict[str, Any]:
    """The record of that pair in a format, without our own key."""
    done = export_rows(folder_of(folder / "s", [one_made(folder / "s", **changes)]), format, folder / "out" / file)
    lines = done.file.read_text()
    record = json.loads(lines)[0] if file.endswith(".json") else json.loads(lines)
    return {name: value for name, value in record.items() if name != "sightline"}
