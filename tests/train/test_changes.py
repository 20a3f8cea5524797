"""RLHF-V's rule for what differs between two answers, worked out by hand."""

from sightline.train.changes import changed


def words(rejected: str, chosen: str) -> tuple[str, str]:
    left, right = rejected.split(), chosen.split()
    at_left, at_right = changed(left, right)
    return " ".join(left[at] for at in at_left), " ".join(right[at] for at in at_right)


def test_what_stands_for_something_else_is_changed():
    assert words("it shows a red cup on a table", "it shows a small green cup on a table") == ("red", "small green")


def test_two_equal_tokens_do_not_part_two_changes_and_three_do():
    rejected, chosen = "it shows a red cup and a cat in the park", "it shows a blue cup and one dog in the park"
    assert words(rejected, chosen) == ("red cup and a cat", "blue cup and one dog")
    rejected, chosen = "it shows a red cup next to a cat in the park", "it shows a blue cup next to one dog in the park"
    assert words(rejected, chosen) == ("red a cat", "blue one dog")


def test_what_only_one_answer_says_is_not_changed():
    assert words("it shows a cup and a very old cat", "it shows a cup") == ("", "")
    assert words("a cup in the park", "on the left a cup in the park") == ("", "")


def test_answers_with_nothing_in_common_are_changed_throughout():
    assert words("yes", "no it does not") == ("yes", "no it does not")
