"""Rows of RLAIF-V, RLHF-V and MCM-DPO: question, chosen, rejected, and the same again as JSON in the column `text`."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

from sightline.files import Refused
from sightline.files.pictures import Album, Gallery
from sightline.files.texts import need_key, text_of
from sightline.formats.pairs import PairFormat, both_answers, imported_pair, need_one_picture
from sightline.rows import Pair

TEXTS = ("question", "chosen", "rejected")


class RlaifV(PairFormat):
    """`image` ({path | bytes}), `question`, `chosen`, `rejected`, `idx`; where there is a column `text`, it says the same."""

    kind: Literal["rlaif_v"] = "rlaif_v"
    own_id: ClassVar[str] = "idx"
    picture_columns: ClassVar[tuple[str, ...]] = ("image",)

    def pair(self, record: dict[str, Any], key: str, album: Album) -> Pair:
        inner = _inner(record)
        texts = [_said(record, inner, name) for name in TEXTS]
        return imported_pair("rlaif_v", key, texts[0], [album.given(_image(record), key)], texts[1], texts[2])

    def record(self, pair: Pair, known: dict[str, Any] | None, gallery: Gallery, embed: bool) -> dict[str, Any]:
        need_one_picture(pair, "a rlaif_v row holds one")
        texts = dict(zip(TEXTS, (pair.instruction, *both_answers(pair)), strict=True))
        base = _with_texts(known, texts) if known else _fresh(pair, texts)
        return _with_picture(base, pair, gallery, embed)


def _inner(record: dict[str, Any]) -> dict[str, Any]:
    """What the column `text` says."""
    written = record.get("text")
    if written is None:
        return {}
    try:
        said = json.loads(written) if isinstance(written, str) else written
    except (ValueError, RecursionError) as error:
        raise Refused("column 'text' is not JSON", str(error)) from error
    if not isinstance(said, dict):
        raise Refused("column 'text' is not a JSON object", type(said).__name__)
    return said


def _said(record: dict[str, Any], inner: dict[str, Any], name: str) -> str:
    """A text that may stand in its column, in `text`, or, the same, in both."""
    found = [said[name] for said in (record, inner) if said.get(name) is not None]
    if not found:
        need_key({**inner, **record}, name)
    if len(found) == 2 and found[0] != found[1]:
        raise Refused(f"column '{name}' and column 'text' disagree", f"text has {str(found[1])[:60]!r}")
    return text_of(found[0] if found else None, name)


def _with_texts(known: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """The record it came from, saying what the pair says now; what says so already keeps its every character."""
    inner = _inner(known)
    if {**inner, **texts} != inner and known.get("text") is not None:
        known = {**known, "text": json.dumps({**inner, **texts}, ensure_ascii=False)}
    return {**known, **{name: text for name, text in texts.items() if known.get(name) is not None}}


def _image(record: dict[str, Any]) -> Any:
    """A record's picture, as a path or as {path | bytes}."""
    if record.get("image") is None and record.get("image_path") is not None:
        return record["image_path"]
    return need_key(record, "image")


def _fresh(pair: Pair, texts: dict[str, str]) -> dict[str, Any]:
    return {
        "ds_name": "sightline",
        "image": {"path": None},
        **texts,
        "text": json.dumps(texts, ensure_ascii=False),
        "origin_dataset": pair.topic or "sightline",
        "origin_split": "{}",
        "idx": pair.key,
        "image_path": "",
    }


def _with_picture(record: dict[str, Any], pair: Pair, gallery: Gallery, embed: bool) -> dict[str, Any]:
    """The record, pointing at its picture where that now lies, or holding its bytes."""
    image = record.get("image")
    known_as = image.get("path") if isinstance(image, dict) else image or record.get("image_path")
    if embed:
        return {**record, "image": gallery.embedded(pair.pictures[0], known_as)}
    path = gallery.put(pair.pictures[0], pair.key, known_as)
    pointing: dict[str, Any] = {"image_path": path} if record.get("image_path") in (known_as, "") else {}
    if image is not None:
        pointing["image"] = {**image, "path": path} if isinstance(image, dict) else path
    return {**record, **pointing}
