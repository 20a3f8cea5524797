"""What COCO's annotations say is in its pictures: the truth that CHAIR and Object HalBench count against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sightline.errors import DataError
from sightline.eval.data_files import read_json
from sightline.eval.vocabulary import Mention


class Words(Protocol):
    """A list of objects, and a way to find them in a text."""

    def object(self, name: str) -> str | None: ...

    def mentions(self, text: str) -> list[Mention]: ...


@dataclass(frozen=True)
class Annotated:
    """A picture: the name of its file, the objects in it by the list's names, and what people said of it."""

    image: int
    file: str
    objects: frozenset[str]
    captions: tuple[str, ...]


def image_id(record: dict[str, Any], where: str) -> int:
    """COCO's number of the picture that a record is about."""
    try:
        return int(record["image_id"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(where, "no 'image_id' that is a number", "write COCO's number of the picture") from error


def annotated(place: Path, words: Words, chosen: Collection[int] | None = None) -> list[Annotated]:
    """The chosen pictures (all, where none are), by their ids.

    The folder holds instances*.json and captions*.json; several of each are joined. A picture's objects are its instances and
    those that its captions mention. DataError where a file is missing or another, or where a chosen picture is in none.
    """
    files, seen = _instances(place, words)
    captions = _captions(place)
    if strangers := set(chosen or ()) - files.keys():
        problem = f"COCO's files here have no picture {min(strangers)}, and {len(strangers) - 1} more are missing"
        raise DataError(str(place), problem, "add the instances and captions of the split that they are of")
    return [
        Annotated(image, files[image], frozenset(seen[image] | _mentioned(captions[image], words)), tuple(captions[image]))
        for image in sorted(files if chosen is None else set(chosen))
    ]


def _mentioned(captions: list[str], words: Words) -> set[str]:
    return {mention.name for caption in captions for mention in words.mentions(caption)}


def _instances(place: Path, words: Words) -> tuple[dict[int, str], dict[int, set[str]]]:
    """Picture files by image id, and the objects in them, by the list's names."""
    names: dict[int, str] = {}
    seen: dict[int, set[str]] = defaultdict(set)
    for path, content in _files(place, "instances"):
        categories = {entry["id"]: _known(entry["name"], words, path) for entry in content["categories"]}
        names |= {entry["id"]: entry["file_name"] for entry in content["images"]}
        for entry in content["annotations"]:
            seen[entry["image_id"]].add(categories[entry["category_id"]])
    return names, seen


def _known(category: str, words: Words, path: Path) -> str:
    name = words.object(category)
    if name is None:
        raise DataError(str(path), f"the list of synonyms lacks the category '{category}'", "add a line for it")
    return name


def _captions(place: Path) -> dict[int, list[str]]:
    captions: dict[int, list[str]] = defaultdict(list)
    for _, content in _files(place, "captions"):
        for entry in content["annotations"]:
            captions[entry["image_id"]].append(entry["caption"])
    return captions


def _files(place: Path, kind: str) -> list[tuple[Path, dict[str, Any]]]:
    """COCO's files of this kind; DataError where there is none or one is something else."""
    found = sorted(place.glob(f"{kind}*.json"))
    if not found:
        fix = "COCO's instances and captions are needed; cocodataset.org has them"
        raise DataError(str(place), f"no {kind}*.json is here", fix)
    read = []
    wanted = ("annotations", "images", "categories") if kind == "instances" else ("annotations",)
    for path in found:
        content = read_json(path)
        missing = [key for key in wanted if not isinstance(content, dict) or key not in content]
        if missing:
            raise DataError(str(path), f"no {missing[0]}: not one of COCO's {kind} files", "check the file's name")
        read.append((path, content))
    return read
