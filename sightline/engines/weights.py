"""Where a model's files are, and what stands for them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from sightline.errors import RecipeError
from sightline.plugin import suggest
from sightline.store.address import digest_file, digest

MINIATURE = "miniature/"


def locate(model: str) -> str:
    """The folder of a shipped miniature; a local folder or hub name as it is."""
    if not model.startswith(MINIATURE) or Path(model).exists():
        return model
    shipped = Path(str(files("sightline"))) / "miniature" / "weights"
    folder = shipped / model.removeprefix(MINIATURE)
    if not folder.is_dir():
        known = [f"{MINIATURE}{path.name}" for path in shipped.iterdir() if path.is_dir()] if shipped.is_dir() else []
        raise RecipeError(model, "no miniature model of this name is shipped", suggest(model, known))
    return str(folder)


def fingerprint(model: str, revision: str | None = None) -> str:
    """Digest of a local folder's files; for a hub model its revision, resolved to a commit where the cache knows it."""
    folder = Path(locate(model))
    if folder.is_dir():
        # sizes and times only decide whether to read again: the digest is of the contents
        state = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file())
        return _folder_digest(str(folder), state)
    return f"{model}@{_commit(model, revision or 'main')}"


@cache
def _folder_digest(folder: str, state: tuple[tuple[str, int, int], ...]) -> str:
    return digest([[str(Path(path).relative_to(folder)), digest_file(Path(path))] for path, _, _ in state])


def _commit(model: str, revision: str) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    reference = Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}" / "refs" / revision
    return reference.read_text().strip() if reference.is_file() else revision


def closed_vocabulary(tokenizer_folder: Path) -> frozenset[str] | None:
    """All words of a word-level tokenizer, lower case; None where the tokenizer can spell any word. Needs no torch."""
    path = tokenizer_folder / "tokenizer.json"
    if not path.is_file():
        return None
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    return frozenset(model["vocab"]) if model.get("type") == "WordLevel" else None
