import random

import pytest
from scipy.spatial.distance import jaccard

from sightline.make.near_duplicates import Texts, resemblance, shingles


def test_the_resemblance_is_the_share_of_runs_of_words_that_both_have():
    # a red cup, red cup on, cup on the, on the table | a blue cup, blue cup on, cup on the, on the table: 2 of 6
    assert resemblance(shingles("A red cup on the table.", 3), shingles("a blue cup, on the table", 3)) == 2 / 6
    # (a red), (red cup) | (a red), (red cup), (cup and) ...: 2 of 4
    assert resemblance(shingles("a red cup", 2), shingles("a red cup and saucer", 2)) == 2 / 4


@pytest.mark.parametrize(("one", "other", "same"), [("A cup!", "a cup", True), ("a cup", "a mug", False), ("…", "", True)])
def test_a_text_shorter_than_a_shingle_resembles_only_itself(one, other, same):
    assert resemblance(shingles(one, 3), shingles(other, 3)) == float(same)


def by_scipy(texts: list[str], size: int, threshold: float) -> list[str | None]:
    """Every text against all that were taken before it, by SciPy's Jaccard distance of membership vectors."""
    runs = [set(zip(*(text.split()[at:] for at in range(size)), strict=False)) for text in texts]
    known = sorted(set().union(*runs))
    vectors = [[run in own for run in known] for own in runs]
    taken: list[int] = []
    said: list[str | None] = []
    for place in range(len(texts)):
        like = next((other for other in taken if 1 - jaccard(vectors[place], vectors[other]) >= threshold - 1e-12), None)
        said.append(None if like is None else texts[like])
        if like is None:
            taken.append(place)
    return said


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_no_text_is_missed_that_a_comparison_with_all_would_find(threshold):
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcdef", k=rng.randint(3, 12))) for _ in range(200)]
    texts = [text for text in texts if len(text.split()) >= 3]
    found = Texts(2, threshold)
    said = [found.add(text) for text in texts]
    assert said == by_scipy(texts, 2, threshold)
    assert 5 < said.count(None) < len(texts)
