"""CHAIR: how many of the objects that a description mentions are not in the picture (Rohrbach et al., 2018)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from sightline.engines.roles import Decoding
from sightline.errors import DataError
from sightline.eval import Benchmark, Question
from sightline.eval.compare import Metric, Score, fraction, ratio
from sightline.eval.vocabulary import Vocabulary
from sightline.rows import Answer, Item
from sightline.store.address import digest_file

SILENT = "no answer mentions an object"


class Chair(Benchmark):
    """Ask for a description, and look for objects that are not there.

    The data folder holds COCO's files, instances*.json and captions*.json (several of each are joined), and CHAIR's synonyms.txt.
    What is there is the union of a picture's instances and of the objects that its captions mention.
    """

    origin: ClassVar[str] = (
        "instances_*.json and captions_*.json of COCO 2014 are at cocodataset.org (CC BY 4.0), its pictures, too;\n"
        "synonyms.txt is in data of github.com/LisaAnne/Hallucination (BSD 2-Clause, by its README)."
    )
    answer_ids: ClassVar[Sequence[str]] = ("image_id", "question_id", "id")
    answer_texts: ClassVar[Sequence[str]] = ("caption", "answer", "text", "response")

    rule: Literal["clean"] = "clean"
    """clean: words in lower case, plurals as their singular, listed phrases before single words; every mention counts."""
    prompt: str = Field("Describe the picture.", min_length=1)
    """What is asked."""
    decoding: Decoding = Decoding(max_tokens=512)
    """How the model answers. Longer descriptions hallucinate in more of their sentences: compare at one length limit only."""

    def questions(self, place: Path) -> list[Question]:
        vocabulary = Vocabulary.read(place / "synonyms.txt")
        names, truth = _instances(place, vocabulary)
        captions = _captions(place)
        is_full = all(len(captions[image]) == 1 for image in names)
        found = []
        for image, name in sorted(names.items()):
            mentioned = {mention.name for caption in captions[image] for mention in vocabulary.mentions(caption)}
            # several short captions, as COCO's, are no measure of length; a single one is the picture's description
            words = len(captions[image][0].split()) if is_full else None
            target = {"truth": sorted(truth[image] | mentioned), "words": words}
            found.append(Question(str(image), name, self.picture(place, name), self.prompt, target))
        return found

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        vocabulary = Vocabulary.read(place / "synonyms.txt")
        return [_score(item, answer.text, vocabulary) for item, answer in zip(items, answers, strict=True)]

    def terms(self, place: Path) -> dict[str, Any]:
        return {**super().terms(place), "synonyms.txt": digest_file(place / "synonyms.txt")}

    def metrics(self) -> list[Metric]:
        # a model that says nothing would have no flawed caption: that is no score
        silent = {"needs": "mentions", "undefined": SILENT}
        return [
            fraction("CHAIR_i", "hallucinated", "mentions", "captions", "lower", undefined=SILENT),
            fraction("CHAIR_s", "flawed", "captions", "captions", "lower", is_outcome=True, **silent),
            fraction("coverage", "found", "truth", "captions", "higher", undefined="no picture has an object"),
            ratio("mentions", "mentions", "captions", "captions", None, unit="objects"),
            ratio("words", "words", "captions", "captions", None, unit="words"),
            ratio("length_ratio", "described words", "reference words", "described", None),
        ]


def _score(item: Item, text: str, vocabulary: Vocabulary) -> Score:
    target = json.loads(item.target)
    truth, mentions = set(target["truth"]), vocabulary.mentions(text)
    wrong = [mention for mention in mentions if mention.name not in truth]
    num_words = len(text.split())
    counts = {
        "captions": 1,
        "mentions": len(mentions),
        "hallucinated": len(wrong),
        "flawed": bool(wrong),
        "truth": len(truth),
        "found": len(truth & {mention.name for mention in mentions}),
        "words": num_words,
    }
    if target["words"] is not None:
        counts |= {"described": 1, "described words": num_words, "reference words": target["words"]}
    hallucinated = tuple(dict.fromkeys(mention.words for mention in wrong))
    return Score(item.id, item.group, counts, hallucinated=hallucinated, truth=tuple(target["truth"]))


def _instances(place: Path, vocabulary: Vocabulary) -> tuple[dict[int, str], dict[int, set[str]]]:
    """Picture files by image id, and the objects in them, by the vocabulary's names."""
    names: dict[int, str] = {}
    truth: dict[int, set[str]] = defaultdict(set)
    for path, content in _files(place, "instances"):
        categories = {entry["id"]: _known(entry["name"], vocabulary, path) for entry in content["categories"]}
        names |= {entry["id"]: entry["file_name"] for entry in content["images"]}
        for entry in content["annotations"]:
            truth[entry["image_id"]].add(categories[entry["category_id"]])
    return names, truth


def _known(category: str, vocabulary: Vocabulary, path: Path) -> str:
    name = vocabulary.object(category)
    if name is None:
        raise DataError(str(path), f"synonyms.txt lacks the category '{category}'", "add a line for it")
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
        fix = "CHAIR needs COCO's instances and captions; cocodataset.org has them"
        raise DataError(str(place), f"no {kind}*.json is here", fix)
    read = []
    wanted = ("annotations", "images", "categories") if kind == "instances" else ("annotations",)
    for path in found:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(str(path), f"this is no JSON: {error}", "get the file again") from error
        missing = [key for key in wanted if not isinstance(content, dict) or key not in content]
        if missing:
            raise DataError(str(path), f"no {missing[0]}: not one of COCO's {kind} files", "check the file's name")
        read.append((path, content))
    return read
