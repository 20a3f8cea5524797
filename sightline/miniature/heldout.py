"""The miniature world's benchmark: 600 scenes that no model was trained on, in the published formats of POPE and CHAIR.

`python -m sightline.miniature.heldout` writes it again. With `--folder` and `--seed` it draws another set, to choose settings on.
Needs numpy and Pillow only.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from sightline.miniature import world
from sightline.miniature.captions import exists_question
from sightline.miniature.world import CELL, GRID, KINDS, TOPICS, Scene, Thing

SEED = 20261120
NUM_SCENES = 600
FOLDER = Path(__file__).parent / "data" / "heldout"
SPLITS = ("random", "popular", "adversarial")

SYNONYMS = {
    "apple": (),
    "bird": ("sparrow", "robin"),
    "boat": ("ship", "sailboat", "sailing boat"),
    "book": (),
    "car": ("automobile", "auto"),
    "cat": ("kitten", "kitty"),
    "cup": ("mug", "coffee cup", "tea cup", "teacup"),
    "gift": ("gift box",),
    "house": ("cottage", "cabin"),
    "lamp": ("table lamp", "desk lamp"),
    "tree": (),
    "umbrella": ("parasol",),
}
"""Other names that people might use; the world's own captions never do."""


def scenes(seed: int = SEED, number: int = NUM_SCENES) -> list[Scene]:
    """Distinct held-out scenes, the topics in turn."""
    rng = np.random.default_rng([seed, 0])
    drawn: dict[tuple[Any, ...], Scene] = {}
    while len(drawn) < number:
        scene = world.sample(rng, topic=list(TOPICS)[len(drawn) % len(TOPICS)], held_out=True)
        drawn.setdefault((scene.topic, *scene.things), scene)
    return list(drawn.values())


def picture(scene: Scene, index: int, seed: int = SEED) -> Any:
    """The scene's picture; each has a generator of its own, so that one can be drawn without the others."""
    return world.draw(scene, np.random.default_rng([seed, 1, index]))


def picture_name(index: int) -> str:
    return f"{index:03d}.png"


def by_count(counts: Counter[str]) -> list[str]:
    """Kinds from the most counted on; ties in alphabetical order."""
    return sorted(KINDS, key=lambda kind: (-counts[kind], kind))


def frequencies(drawn: Sequence[Scene]) -> Counter[str]:
    """In how many scenes each kind is."""
    return Counter(kind for scene in drawn for kind in scene.kinds)


def companies(drawn: Sequence[Scene]) -> dict[str, Counter[str]]:
    """For each kind, in how many scenes it is together with each other kind."""
    together = Counter(pair for scene in drawn for pair in permutations(sorted(scene.kinds), 2))
    return {kind: Counter({other: together[kind, other] for other in KINDS}) for kind in KINDS}


def absent_kinds(drawn: Sequence[Scene], split: str, seed: int = SEED) -> Iterator[list[str]]:
    """For each scene as many kinds that are not there as there are things, by POPE's sampling rules.

    random: any; popular: the most frequent of the whole set; adversarial: for each thing in turn, what is oftenest seen with it.
    """
    popular, together = by_count(frequencies(drawn)), companies(drawn)
    for index, scene in enumerate(drawn):
        present = [thing.kind for thing in scene.things]
        chosen: list[str] = []
        shuffled = [str(kind) for kind in np.random.default_rng([seed, 2, index]).permutation(KINDS)]
        for kind in present:
            order = {"random": shuffled, "popular": popular, "adversarial": by_count(together[kind])}[split]
            chosen.append(next(other for other in order if other not in present and other not in chosen))
        yield chosen


def pope_questions(drawn: Sequence[Scene], split: str, seed: int = SEED) -> Iterator[dict[str, Any]]:
    """POPE's rows of one split: a question about a thing that is there, one about a thing that is not, and so on."""
    number = 0
    for index, (scene, absent) in enumerate(zip(drawn, absent_kinds(drawn, split, seed), strict=True)):
        for thing, other in zip(scene.things, absent, strict=True):
            for kind, label in ((thing.kind, "yes"), (other, "no")):
                number += 1
                yield {"question_id": number, "image": picture_name(index), "text": exists_question(kind), "label": label}


def coco_instances(drawn: Sequence[Scene]) -> dict[str, Any]:
    """What is where, as COCO's instances file says it."""
    things = [(index, thing) for index, scene in enumerate(drawn) for thing in scene.things]
    return {
        "images": [{"id": index, "file_name": picture_name(index)} for index in range(len(drawn))],
        "categories": [{"id": KINDS.index(kind) + 1, "name": kind} for kind in KINDS],
        "annotations": [
            {"id": number, "image_id": index, "category_id": KINDS.index(thing.kind) + 1, "bbox": _box(thing)}
            for number, (index, thing) in enumerate(things, 1)
        ],
    }


def coco_captions(drawn: Sequence[Scene]) -> dict[str, Any]:
    """The full true descriptions, as COCO's captions file says them."""
    described = [{"id": index, "image_id": index, "caption": world.describe(scene)} for index, scene in enumerate(drawn)]
    return {"annotations": described}


def _box(thing: Thing) -> list[int]:
    row, column = divmod(thing.cell, GRID)
    return [column * CELL, row * CELL, CELL, CELL]


def write(folder: Path = FOLDER, seed: int = SEED, number: int = NUM_SCENES) -> dict[str, Any]:
    """Write the benchmark's files into the folder; returns what about.json says."""
    drawn = scenes(seed, number)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pictures").mkdir(parents=True)
    for index, scene in enumerate(drawn):
        picture(scene, index, seed).save(folder / "pictures" / picture_name(index), compress_level=9)
    return write_texts(folder, drawn, seed)


def write_texts(folder: Path, drawn: Sequence[Scene], seed: int = SEED) -> dict[str, Any]:
    """All files but the pictures; returns what about.json says."""
    questions = {split: list(pope_questions(drawn, split, seed)) for split in SPLITS}
    for split, rows in questions.items():
        _write_lines(folder / f"pope_{split}.jsonl", map(_json, rows))
    _write_lines(folder / "instances.json", [_json(coco_instances(drawn))])
    _write_lines(folder / "captions.json", [_json(coco_captions(drawn))])
    _write_lines(folder / "synonyms.txt", [", ".join((kind, *others)) for kind, others in SYNONYMS.items()])
    counts = frequencies(drawn)
    about = {
        "made_by": "python -m sightline.miniature.heldout",
        "seed": seed,
        "pictures": len(drawn),
        "questions": {split: len(rows) for split, rows in questions.items()},
        "things": dict(sorted(Counter(str(len(scene.things)) for scene in drawn).items())),
        "scenes_with": {kind: counts[kind] for kind in by_count(counts)},
    }
    _write_lines(folder / "about.json", [json.dumps(about, indent=1)])
    return about


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write; the shipped data by default")
    parser.add_argument("--seed", type=int, default=SEED, help="another one draws other scenes: settings are chosen on those")
    options = parser.parse_args()
    print(json.dumps(write(options.folder, options.seed), indent=1))


if __name__ == "__main__":
    main()
