"""Where a model's files are, and what stands for them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from sightline.errors import DataError, RecipeError
from sightline.plugin import suggest
from sightline.store.address import digest, digest_file

MINIATURE = "miniature/"
FIRST_FILES = ("config.json", "model_index.json", ".gitattributes")
"""Of which every hub model has one."""


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


def seen_from(path: str, folder: Path) -> Path:
    """The path as written where something is there, else as seen from `folder`, the recipe's."""
    return Path(path) if Path(path).exists() else folder / path


def locate_data(name: str, folder: Path | None = None) -> Path:
    """A shipped data file or folder for miniature/<name>; else the path as written, or as seen from `folder`."""
    folder = folder or Path()
    given = seen_from(name, folder)
    if given.exists():
        return given
    shipped = Path(str(files("sightline"))) / "miniature" / "data"
    known = {f"{MINIATURE}{path.stem}": path for path in sorted(shipped.iterdir())} if shipped.is_dir() else {}
    if name in known:
        return known[name]
    fix = suggest(name, list(known)) if name.startswith(MINIATURE) else f"give a path, from here or from {folder.resolve()}"
    raise DataError(name, "there is no such file or folder", fix)


def fingerprint(model: str, revision: str | None = None) -> str:
    """Digest of a local folder's files; for a hub model its revision, resolved to a commit where the cache knows it."""
    folder = Path(locate(model))
    if folder.is_dir():
        # sizes and times only decide whether to read again: the digest is of the contents
        state = tuple(
            (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()
        )
        return _folder_digest(str(folder), state)
    return f"{model}@{_commit(model, revision or 'main')}"


@cache
def _folder_digest(folder: str, state: tuple[tuple[str, int, int], ...]) -> str:
    return digest([[str(Path(path).relative_to(folder)), digest_file(Path(path))] for path, _, _ in state])


def is_cached(model: str) -> bool:
    """Whether a hub model has been fetched before, in part at least."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(model, name), str) for name in FIRST_FILES)
    except HFValidationError:  # a path
        return False


@cache
def _commit(model: str, revision: str) -> str:
    """The commit that loading would use: the hub's, or without a network the cache's; else the revision as given."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    for name in FIRST_FILES:
        try:
            # .../snapshots/<commit>/<name>: a download settles the commit before anything is addressed by it
            return Path(hf_hub_download(model, name, revision=revision)).parent.name
        except LocalEntryNotFoundError:
            break
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, HFValidationError):
            break
    return revision


def closed_vocabulary(tokenizer_folder: Path) -> frozenset[str] | None:
    """All words of a word-level tokenizer, lower case; None where the tokenizer can spell any word. Needs no torch."""
    path = tokenizer_folder / "tokenizer.json"
    if not path.is_file():
        return None
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    return frozenset(model["vocab"]) if model.get("type") == "WordLevel" else None


def unknown_words(tokenizer_folder: Path, texts: list[str]) -> dict[str, list[str]]:
    """Text -> its words that a word-level tokenizer does not know; texts that it knows are left out. Needs no torch."""
    if closed_vocabulary(tokenizer_folder) is None:
        return {}
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.no_truncation()
    unknown = tokenizer.token_to_id(tokenizer.model.unk_token)
    found = {}
    for text in dict.fromkeys(texts):
        encoded = tokenizer.encode(text)
        spans = [span for token, span in zip(encoded.ids, encoded.offsets, strict=True) if token == unknown]
        if spans:
            found[text] = list(dict.fromkeys(text[start:end] for start, end in spans))
    return found
