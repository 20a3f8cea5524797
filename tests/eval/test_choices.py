"""Which choice a reply names. The originals' readings: test_mmbench.py (VLMEvalKit) and test_scienceqa.py (LLaVA)."""

import pytest

from sightline.eval.choices import clean, llava, vlmevalkit

CHOICES = {"A": "a cat", "B": "a dog", "C": "a dark dog"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"), ("b", "B"), (" (c) ", "C"), ("B.", "B"), ("**B**", "B"), ("B. a dog", "B"), ("B: because it barks", "B"),
        ("The answer is B", "B"), ("answer: (C).", "C"), ("The correct option is A because it purrs.", "A"), ("Option B", "B"),
        ("A is tempting, but the answer is C.", "C"), ("I think it is B", "B"), ("A dog, so B", "B"),
        ("It is a dog.", "B"), ("It is a DARK dog", "C"), ("a cat", "A"), ("A cat is on the mat.", "A"),
        ("", None), ("A or B", None), ("D", None), ("It is a bird.", None), ("a cat or a dog", None), ("A doggy", None),
        ("answer is a tiger", None), ("The answer is A. No, the answer is B.", None), ("Cats", None), ("I'd say it's hard", None),
    ],
)  # fmt: skip
def test_the_clean_rule_reads_one_letter_or_one_choice_and_refuses_to_guess(text, letter):
    assert clean(text, CHOICES) == (letter, letter is None)


@pytest.mark.parametrize(
    ("text", "letter", "guessed"),
    [
        ("B", "B", False),
        ("A bird I saw there once", None, True),  # the letter is not among the last four words
        ("it is A cat", "A", True),  # an article, as likely
        ("the answer is basically this one here", "B", True),
        ("The answer is B, as far as anyone could ever tell", "B", False),
        ("A or B", None, True),
        ("Z", "Z", False),
        ("I can't process this file.", "Z", False),
        ("adog", None, True),
        ("it's a dog.", "B", False),
        ("it's a dogma", "B", True),
        ("", None, True),
    ],
)
def test_vlmevalkits_rule_says_where_it_guessed(text, letter, guessed):
    assert vlmevalkit(text, CHOICES) == (letter, guessed)


def test_vlmevalkits_table_reader_takes_some_words_for_empty_cells():
    assert vlmevalkit("B", {"A": "yes", "B": "None"}) == (None, True)
    assert vlmevalkit("None", {"A": "yes", "B": "none"}) == (None, True)


@pytest.mark.parametrize(
    ("text", "letter", "guessed"),
    [("B", "B", False), ("B. x", "B", False), ("The answer is B.", "B", False), ("The answer is BC.", "B", True),
     ("The answer is B", None, True), ("B.", None, True), ("D", None, True)],
)  # fmt: skip
def test_llavas_rule_says_where_it_guessed(text, letter, guessed):
    assert llava(text, CHOICES) == (letter, guessed)
