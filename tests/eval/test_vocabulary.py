"""Which objects a text names, by the clean rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.eval.vocabulary import Vocabulary

LISTED = [
    ["person", "man", "woman", "child", "baby", "rider", "passenger"],
    ["bus"], ["knife"], ["dining table", "table"], ["wine glass"], ["cup", "mug"], ["hot dog"], ["dog", "puppy"], ["elephant"],
    ["toilet"], ["chair", "seat"], ["train"], ["orange"], ["car"], ["stove", "stove top oven"], ["sheep"], ["airplane", "jet"],
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Two buses and a bus.", ["bus", "bus"]),
        ("Women, children and men with KNIVES", ["person", "person", "person", "knife"]),
        ("Three puppies eat hot dogs; one dog has a hot-dog.", ["dog", "hot dog", "dog", "hot dog"]),
        ("A glass of wine beside wine glasses.", ["wine glass"]),
        ("The cups on the dining tables", ["cup", "dining table"]),
        ("a stove top oven", ["stove"]),
        ("A baby elephant, a baby and an elephant", ["elephant", "person", "elephant"]),
        ("an orange car, and an orange", ["car", "orange"]),
        ("The passenger jet has a passenger", ["airplane", "person"]),
        ("a toilet seat and a seat", ["toilet", "chair"]),
        ("a train track without a train", ["train"]),
        ("The dog's mug", ["dog", "cup"]),
        ("a cup, a cup and a mug", ["cup", "cup", "cup"]),
        ("cupboards, cars? carpets", ["car"]),
        ("It is hot. Dog food", ["dog"]),
        ("", []),
    ],
)
def test_mentions_are_counted_as_a_reader_would(text: str, names: list[str]) -> None:
    assert [mention.name for mention in Vocabulary(LISTED).mentions(text)] == names


def test_a_mention_keeps_the_words_of_the_text() -> None:
    assert [mention.words for mention in Vocabulary(LISTED).mentions("Two Mugs on dining tables")] == ["Mugs", "dining tables"]


def test_synonyms_file_lists_an_object_a_line(tmp_path: Path) -> None:
    (tmp_path / "synonyms.txt").write_text("motorcycle, scooter,  motor bike, motorbike\n\ncup, mug\n")
    vocabulary = Vocabulary.read(tmp_path / "synonyms.txt")
    assert [mention.name for mention in vocabulary.mentions("a motor bike, scooters, a mug")] == [
        "motorcycle",
        "motorcycle",
        "cup",
    ]


def test_a_missing_synonyms_file_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"synonyms\.txt"):
        Vocabulary.read(tmp_path / "synonyms.txt")
