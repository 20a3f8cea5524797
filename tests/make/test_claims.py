import pytest

from sightline.engines import Engines
from sightline.errors import RecipeError
from sightline.execute import Use
from sightline.make.annotators import ANNOTATORS
from sightline.make.annotators.claims import ClaimReading, verdict
from sightline.plugin import recipe_error
from sightline.store.shards import Store
from tests.make.rows import judgement, response

CLAIMS = {"kind": "claims", "judge": "judge", "objects": "miniature/objects"}


@pytest.mark.parametrize(
    ("reply", "holds"),
    [
        ("Yes.", True),
        ("no", False),
        ("Yes, there is. I see no tree.", True),
        ("There is no cup.", False),
        ("Not that I can see", False),
        ("Yes and no.", None),
        ("There is a cup.", None),
        ("", None),
        ("Nothing known.", None),
    ],
)
def test_a_verdict_is_read_from_the_first_sentence_or_not_at_all(reply, holds):
    assert verdict(reply) is holds


def read(tmp_path, judgements, *names):
    step = ANNOTATORS.read(CLAIMS).reading("claims")
    use = Use(Engines({}), Store(tmp_path), 0)
    return {row.response_id: row for row in step.make(use, [response(name, "text") for name in names], judgements)}


def test_the_score_is_minus_the_rejected_claims(tmp_path):
    asked = [
        judgement("a", "a red cup", "Yes."),
        judgement("a", "a tree", "No."),
        judgement("a", "a cat", "No."),
        judgement("b", "a cat", "Yes."),
    ]
    found = read(tmp_path, asked, "a", "b")
    assert (found["a"].score, found["b"].score) == (-2.0, 0.0)
    assert found["a"].aspects == {"claims": 3, "rejected": 2, "unread": 0}
    assert [(claim.text, claim.holds) for claim in found["a"].claims] == [
        ("a red cup", True),
        ("a tree", False),
        ("a cat", False),
    ]
    assert found["a"].sees_picture


def test_an_unreadable_verdict_is_no_score_rather_than_a_zero(tmp_path):
    found = read(tmp_path, [judgement("a", "a cat", "No."), judgement("a", "a cup", "Maybe")], "a")["a"]
    assert (found.score, found.reason) == (None, "unreadable verdict on 1 of 2 claims")
    assert found.aspects == {"claims": 2, "rejected": 1, "unread": 1}


def test_an_answer_without_a_claim_gets_no_score_rather_than_the_best(tmp_path):
    found = read(tmp_path, [], "a")["a"]
    assert (found.score, found.reason) == (None, "no claim to check")


def test_the_words_of_the_lists_and_not_their_place_decide_what_is_asked(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder, words in (("one", "cup, mug"), ("two", "cup, mug")):
        (tmp_path / folder / "objects.txt").write_text(words)
    section = ANNOTATORS.read({**CLAIMS, "objects": "objects.txt"})
    one, two = (section.asking("claims", tmp_path / folder) for folder in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "objects.txt").write_text("cup, mug, beaker")
    assert section.asking("claims", tmp_path / "two") != one
    assert one.questions("a mug") == ["Is there a cup in the picture?"]


def test_a_question_without_its_slot_is_refused():
    with pytest.raises(RecipeError, match=r"must hold \{claim\} once"):
        try:
            ANNOTATORS.read({**CLAIMS, "question": "Is it there?"})
        except ValueError as error:
            raise recipe_error(error) from None


def test_reading_needs_no_engine_and_no_word_list():
    assert isinstance(ANNOTATORS.read(CLAIMS).reading("claims"), ClaimReading)
    assert ANNOTATORS.read(CLAIMS).reading("claims").engine_roles() == {}


def test_with_credit_a_claim_that_holds_counts_for_the_answer(tmp_path):
    step = ANNOTATORS.read({**CLAIMS, "credit": 1.0}).reading("claims")
    asked = [
        judgement("a", "a cup", "Yes."),
        judgement("a", "a tree", "No."),
        judgement("b", "a cup", "Yes."),
        judgement("b", "a cat", "Yes."),
    ]
    rows = step.make(Use(Engines({}), Store(tmp_path), 0), [response(name, "text") for name in "ab"], asked)
    assert [row.score for row in rows] == [1 * 1 - 1, 1 * 2 - 0]
