"""Names for results, derived from everything that decides them."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pydantic

ADDRESS_BYTES = 16


def canonical(value: Any) -> Any:
    """The value in the one form that is hashed; TypeError where it has no stable bytes."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} has no place in an address")
        return value
    if isinstance(value, pydantic.BaseModel):
        return canonical(value.model_dump())
    if isinstance(value, dict):
        return {_text(key): canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} has no stable bytes, so it cannot be part of an address")


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"an address takes text keys only, not {key!r}")
    return key


def digest(*parts: Any) -> str:
    """32 hexadecimal digits that stand for the parts."""
    text = json.dumps(canonical(parts), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=ADDRESS_BYTES).hexdigest()


def digest_bytes(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=ADDRESS_BYTES).hexdigest()


def digest_file(path: Path) -> str:
    hashing = hashlib.blake2b(digest_size=ADDRESS_BYTES)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            hashing.update(block)
    return hashing.hexdigest()


def digest_folder(folder: Path) -> str:
    """Stands for all files below a folder, names and contents."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest([[str(path.relative_to(folder)), digest_file(path)] for path in files])


def seed_from(*parts: Any) -> int:
    """A 63-bit seed that depends on all parts and on nothing else."""
    return int(digest(*parts)[:16], 16) >> 1
