"""CHAIR: how many of the objects that a description mentions are not in the picture (Rohrbach et al., 2018)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from sightline.engines.roles import Decoding
from sightline.eval import Benchmark, Question
from sightline.eval.answer_files import records
from sightline.eval.chair_words import ListedWords, singular
from sightline.eval.coco import Words, annotated, image_id
from sightline.eval.compare import Metric, Score, fraction, ratio
from sightline.eval.vocabulary import Vocabulary
from sightline.rows import Answer, Item
from sightline.store.address import digest_file

SILENT = "no answer mentions an object"


class Chair(Benchmark):
    """Ask for a description, and look for objects that are not there.

    The data folder holds COCO's files, instances*.json and captions*.json (several of each are joined), and CHAIR's synonyms.txt.
    What is there is the union of a picture's instances and of the objects that its captions mention, read by the same rule.
    Coverage is what later scripts call recall: distinct true objects that are mentioned, of all true objects.
    """

    origin: ClassVar[str] = (
        "instances_*.json and captions_*.json of COCO 2014 are at cocodataset.org (CC BY 4.0), its pictures, too;\n"
        "synonyms.txt is in data of github.com/LisaAnne/Hallucination (BSD 2-Clause, by its README)."
    )
    answer_ids: ClassVar[Sequence[str]] = ("image_id", "question_id", "id")
    answer_texts: ClassVar[Sequence[str]] = ("caption", "answer", "text", "response")

    rule: Literal["published", "clean"] = "published"
    """published: the words that utils/chair.py finds: a bus is no object but buses are, and an orange car is a fruit, too.
    clean: plurals as their singular, longer phrases first, what only qualifies an object is none. Every mention counts."""
    images: str | None = None
    """File of records with an `image_id`, as answers have: the pictures that are asked about. All that COCO's files here have
    where none is given."""
    prompt: str = Field("Describe the picture.", min_length=1)
    """What is asked."""
    decoding: Decoding = Decoding(max_tokens=512)
    """How the model answers. Longer descriptions hallucinate in more of their sentences: compare at one length limit only."""

    def questions(self, place: Path) -> list[Question]:
        seen = annotated(place, self._words(place), chosen_images(Path(self.images)) if self.images else None)
        is_full = all(len(picture.captions) == 1 for picture in seen)
        found = []
        for picture in seen:
            # several short captions, as COCO's, are no measure of length; a single one is the picture's description
            words = len(picture.captions[0].split()) if is_full else None
            target = {"truth": sorted(picture.objects), "words": words}
            file = self.picture(place, picture.file)
            found.append(Question(str(picture.image), picture.file, file, self.prompt, target))
        return found

    def scores(self, place: Path, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        words = self._words(place)
        return [self._score(item, answer.text, words) for item, answer in zip(items, answers, strict=True)]

    def _words(self, place: Path) -> Words:
        path = place / "synonyms.txt"
        return ListedWords.read(path, singular) if self.rule == "published" else Vocabulary.read(path)

    def _score(self, item: Item, text: str, words: Words) -> Score:
        target = json.loads(item.target)
        truth, mentions = set(target["truth"]), words.mentions(text)
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
        # the published rule takes a caption without an object it knows for one without fault
        guessed = self.rule == "published" and not mentions
        return Score(item.id, item.group, counts, guessed, hallucinated, tuple(target["truth"]))

    def terms(self, place: Path) -> dict[str, Any]:
        terms = {name: term for name, term in super().terms(place).items() if name != "images"}  # a place, too
        return {**terms, "synonyms.txt": digest_file(place / "synonyms.txt")}

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


def chosen_images(path: Path) -> set[int]:
    """The ids of COCO's pictures that a file's records name."""
    return {image_id(record, where) for where, record in records(path)}
