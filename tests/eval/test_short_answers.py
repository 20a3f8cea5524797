"""How VQA makes short answers alike, and counts those that agree. The originals' numbers: test_vqav2.py and test_textvqa.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.eval.short_answers import CONTRACTIONS, accuracy, textvqa_form, vqa_form


@pytest.mark.parametrize(("alike", "worth"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_of_ten_answers_one_alike_is_worth_three_tenths_and_four_are_worth_all(alike, worth):
    assert accuracy("a", ["a"] * alike + ["b"] * (10 - alike)) == pytest.approx(worth, abs=1e-12)


def test_a_single_answer_is_worth_nothing_for_no_other_agrees():
    assert accuracy("a", ["a"]) == 0


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.sampled_from("abc"))
def test_accuracy_is_the_mean_over_the_sets_of_all_answers_but_one(answers, reply):
    left_out = [answers[:at] + answers[at + 1 :] for at in range(len(answers))]
    mean = sum(min(1, others.count(reply) / 3) for others in left_out) / len(answers)
    assert accuracy(reply, answers) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("red/white", "red white"),  # a mark between letters is a space
        ("red / white", "red white"),  # one next to a space is deleted
        ("red, white", "red white"),
        ("1,000", "1000"),
        ("1,000 a-b", "1000 ab"),  # a comma between digits has every mark deleted
        ("3.", "3"),
        ("three.five", "threefive"),
        ("3.5", "3.5"),
        ("The Ten", "10"),
        ("dont", "don't"),
        ("somebody'd", "somebodyd"),
        ("a", ""),
        (" \n", ""),
    ],
)
def test_vqa_form_is_as_the_toolkits(text, form):
    assert vqa_form(text) == form


def test_textvqa_deletes_commas_and_parts_a_possessive():
    assert textvqa_form("Joe's,bar?") == "joe 'sbar"
    assert vqa_form("Joe's,bar?") == "joe's bar"


def test_contractions_are_as_many_as_in_the_toolkit_less_those_that_it_can_never_meet():
    # vqaEval.py of GT-Vision-Lab/VQA at a013f0043c1e2cdc995922dfe257f7149aa9af06 has 120: two stand for themselves, four with a
    # capital I are looked for in a lower-case text; the other 114 were compared with ours one by one
    assert len(CONTRACTIONS) == 114
    assert all(word.replace("'", "") == form.replace("'", "") for word, form in CONTRACTIONS.items())
