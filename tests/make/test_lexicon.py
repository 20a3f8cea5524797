from pathlib import Path

import pytest

from sightline.engines.weights import locate_data
from sightline.errors import DataError
from sightline.make.annotators.lexicon import Lexicon

LEXICON = Lexicon.read(locate_data("miniature/objects", Path()), locate_data("miniature/colours", Path()))


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("The picture shows a red cup and a green tree in the park.", ["a red cup", "a green tree"]),
        ("A crimson mug, two blue CARS, an apple.", ["a red cup", "a blue car", "an apple"]),
        ("a red cup, a red mug and a red tea cup", ["a red cup"]),
        ("Two kitties beside sailing boats.", ["a cat", "a boat"]),
        ("There is no red cup, but a bird.", ["a bird"]),
        ("It does not show a cat. A dog isn't there; a house is.", ["a house"]),
        ("There isn't a car.", []),
        ("A tree without birds or houses.", ["a tree"]),
        ("The cupboard is read.", []),
        ("", []),
    ],
)
def test_an_answers_claims_are_the_objects_that_it_says_are_there(text, claims):
    assert LEXICON.claims(text) == claims


def test_without_attributes_a_claim_is_about_the_kind():
    assert Lexicon(objects=LEXICON.objects).claims("a red cup and an old umbrella") == ["a cup", "an umbrella"]


def test_the_longest_phrase_wins(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("dog\nhot dog, frankfurter\n")
    assert Lexicon.read(words, None).claims("a hot dog and a dog") == ["a hot dog", "a dog"]


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty"), (b"cup, mug\nglass, mug\n", "line 2.*'mug' already"), (b"\xff\xfe", "cannot be read")]
)
def test_a_list_that_cannot_be_used_is_refused_with_its_place(tmp_path, content, said):
    words = tmp_path / "words.txt"
    words.write_bytes(content)
    with pytest.raises(DataError, match=said):
        Lexicon.read(words, None)
