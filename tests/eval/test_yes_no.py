"""The clean reading of yes/no answers, and questions that count only together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sightline.eval.yes_no import clean, together


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("NO", "no"), ("nope", "no"), ("Not visible", "no"), ("No!", "no"), ("No\n", "no"),
        ("It isn’t there.", "no"), ("None", "no"),
        ("yes", "yes"), ("YES!", "yes"), ("Yes, but not sure", "yes"), ("The answer is yes.", "yes"),
        ("", None), ("0", None), ("maybe", None), ("There is a cup.", None), ("It may be yes and no", None),
    ],
)  # fmt: skip
def test_clean_rule_reads_any_spelling_and_refuses_to_guess(answer: str, verdict: str | None) -> None:
    assert clean(answer) == (verdict, verdict is None)


SETS = some.lists(some.tuples(some.sampled_from(["a", "b", None]), some.booleans()))


@given(SETS)
def test_a_set_counts_once_and_is_whole_where_all_of_it_is_right(rows: list[tuple[str | None, bool]]) -> None:
    keys, right = [key for key, _ in rows], [is_right for _, is_right in rows]
    counts = list(together(keys, right))
    assert len(counts) == len(rows)
    for name in {"a", "b"} & set(keys):
        (only,) = [found for found, key in zip(counts, keys, strict=True) if found and key == name]
        assert only == {"sets": 1, "whole": (name, False) not in rows}
    assert all(not found for found, key in zip(counts, keys, strict=True) if key is None)
