"""Rubrics, what is asked, and what a judge's reply is read as."""

import json
import time
from fractions import Fraction

import pytest

from sightline.engines import Engines
from sightline.errors import RecipeError
from sightline.execute import Use
from sightline.make.annotators import ANNOTATORS
from sightline.make.annotators.judge import prompt, reply_schema
from sightline.make.annotators.ratings import read_ratings
from sightline.make.annotators.rubric import Rubric, shipped
from sightline.plugin import recipe_error
from sightline.rows import Judgement
from sightline.store.shards import Store
from tests.make.rows import ORIGIN, response

RUBRIC = """
instructions: Rate the answers.
aspects:
  - {name: helpfulness, description: useful, low: 1, high: 5}
  - {name: visual faithfulness, description: in the picture, low: 1, high: 5, levels: {1: wrong, 2-3: mixed, 5: right}}
"""
BOTH = Rubric.model_validate(
    {
        "instructions": "Rate.",
        "aspects": [
            {"name": "Helpfulness", "description": "useful", "low": 1, "high": 5},
            {"name": "Visual Faithfulness", "description": "true", "low": 1, "high": 5},
        ],
    }
)


def rated(reply: str, num_answers: int = 1, cut: bool = False) -> list[list[float] | str]:
    """Ratings of each answer, or the reason why there are none."""
    return [ratings.reason or list(ratings.values.values()) for ratings in read_ratings(reply, BOTH, num_answers, cut)]


TWO = {
    "answers": [
        {"answer": 2, "helpfulness": 2, "visual_faithfulness": 1},
        {"answer": 1, "helpfulness": 4, "visual_faithfulness": 5},
    ]
}


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(TWO),
        f"I looked closely.\n```json\n{json.dumps(TWO, indent=1)}\n```\nHope this {{helps}}!",
        json.dumps(TWO["answers"]),
        json.dumps(TWO).replace('"', "'"),
        json.dumps(TWO)[:-2],  # the last brackets are missing
        '{"Answer 1": {"Helpfulness": "4", "Visual Faithfulness": "5/5"},'
        ' "Answer 2": {"Helpfulness": 2.0, "Visual Faithfulness": 1}}',
        '{"answers": {"1": {"helpfulness": {"rating": 4}, "visual_faithfulness": {"score": "5"}},'
        ' "2": {"helpfulness": 2, "visual faithfulness": 1}}}',
        "Answer 1:\nHelpfulness: 4\nVisual faithfulness: 5\n\nAnswer 2:\nHelpfulness: 2\nVisual faithfulness: 1",
        "### Answer 1\n- **Helpfulness**: 4/5 - to the point\n- **Visual Faithfulness:** 5 out of 5\n"
        "### Answer 2\n1. Helpfulness (1-5): 2\n2. Visual_Faithfulness = 1, sadly",
        "The set {a: 1} of answer 1.\nAnswer 1:\nHelpfulness: 4\nVisual faithfulness: 5\n"
        "Answer 2:\nHelpfulness: 2\nVisual faithfulness: 1",
        f'<think>Say {{"answers": [{{"answer": 1, "helpfulness": 1}}]}}?</think>{json.dumps(TWO)}',
        "Answer 1: helpfulness: 4, visual faithfulness: 5\nAnswer 2: helpfulness: 2; visual faithfulness: 1",
    ],
    ids=[
        "json",
        "in prose",
        "list",
        "single quotes",
        "cut brackets",
        "by name",
        "nested",
        "lines",
        "markdown",
        "braces in prose",
        "thoughts",
        "one line",
    ],
)
def test_ratings_are_read_by_the_answers_labels(reply):
    assert rated(reply, 2) == [[4, 5], [2, 1]]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "the judge's reply rates it nowhere"),
        ("I cannot rate this.", "the judge's reply rates it nowhere"),
        ('{"helpfulness": 4}', "no rating of Visual Faithfulness"),
        ('{"helpfulness": 4, "visual_faithfulness": 6}', "Visual Faithfulness is off its scale"),
        ('{"helpfulness": 0, "visual_faithfulness": 5}', "Helpfulness is off its scale"),
        ('{"helpfulness": -4, "visual_faithfulness": 5}', "Helpfulness is off its scale"),
        ('{"helpfulness": "good", "visual_faithfulness": 5}', "unreadable rating of Helpfulness"),
        ('{"helpfulness": null, "visual_faithfulness": 5}', "unreadable rating of Helpfulness"),
        ('{"helpfulness": true, "visual_faithfulness": 5}', "unreadable rating of Helpfulness"),
        ('{"helpfulness": "4/10", "visual_faithfulness": 5}', "unreadable rating of Helpfulness"),
        ('{"helpfulness": NaN, "visual_faithfulness": 5}', "unreadable rating of Helpfulness"),
        ('{"helpfulness": 1e999, "visual_faithfulness": 5}', "unreadable rating of Helpfulness"),
        ('{"helpfulness": [4, 5], "visual_faithfulness": 5}', "unreadable rating of Helpfulness"),
        ("Helpfulness: 4\nHelpfulness: 3\nVisual faithfulness: 5", "several ratings of Helpfulness"),
        ("Helpfulness: 4\nVisual faithfulness: 1-5", "no rating of Visual Faithfulness"),
        ("Helpfulness: -4\nVisual faithfulness: 5", "Helpfulness is off its scale"),
        ("Helpfulness: four\nVisual faithfulness: 5", "no rating of Helpfulness"),
        ("Unhelpfulness: 4\nVisual faithfulness: 5", "no rating of Helpfulness"),
        ('{"helpfulness": 4, "visual_faithfulness": 1', "unreadable rating of Visual Faithfulness"),  # perhaps a 10
    ],
)
def test_what_cannot_be_read_has_a_reason_and_no_rating(reply, reason):
    assert rated(reply) == [reason]


def test_one_answers_fault_costs_no_other_answer():
    entries = [
        {"answer": 1, "helpfulness": 9, "visual_faithfulness": 5},
        {"answer": 3, "helpfulness": 2, "visual_faithfulness": 1},
    ]
    found = rated(json.dumps({"answers": entries}), 3)
    assert found == ["Helpfulness is off its scale", "the judge's reply rates it nowhere", [2, 1]]


def test_an_answer_that_is_rated_twice_otherwise_has_no_rating():
    entries = [
        {"answer": 1, "helpfulness": 4, "visual_faithfulness": 5},
        {"answer": 1, "helpfulness": 2, "visual_faithfulness": 5},
    ]
    assert rated(json.dumps(entries), 2)[0] == "several ratings of Helpfulness"


def test_entries_without_labels_are_not_told_apart_by_their_places():
    entries = [{"helpfulness": 4, "visual_faithfulness": 5}, {"helpfulness": 2, "visual_faithfulness": 5}]
    assert rated(json.dumps({"answers": entries}), 2) == ["the judge's reply rates it nowhere"] * 2


def test_a_number_at_the_end_of_a_cut_reply_is_not_trusted():
    lines = "Helpfulness: 4\nVisual faithfulness: 1"
    assert (rated(lines), rated(lines, cut=True)) == ([[4, 1]], ["no rating of Visual Faithfulness"])


@pytest.mark.parametrize("reply", ["*" * 200_000, "{" * 5000, '{"a": [' * 3000, "Helpfulness " * 20_000, "[" * 100_000])
def test_a_reply_of_rubbish_is_read_in_no_time(reply):
    started = time.monotonic()
    assert isinstance(rated(reply)[0], str)
    assert time.monotonic() - started < 5


# ------------------------------------------------------------------------------------------------ rubrics


@pytest.mark.parametrize(
    ("before", "after", "where", "said"),
    [
        ("high: 5}", "high: 1}", "aspects.0 ('helpfulness')", "aspect 'helpfulness' has an empty scale: from 1 to 1"),
        ("name: helpfulness", "name: Visual Faithfulness", "", "aspect 'Visual Faithfulness' stands twice"),
        ("name: helpfulness", "name: Reason", "", "aspect 'Reason' has a name that a reply's own fields have"),
        ("2-3: mixed", "1-3: mixed", "aspects.1 ('visual faithfulness')", "overlapping levels: '1' and '1-3' both hold 1"),
        ("5: right", "6: right", "aspects.1 ('visual faithfulness')", "a level '6' outside its scale 1 to 5"),
        ("5: right", "best: right", "aspects.1 ('visual faithfulness')", "'best', which is no rating and no range"),
        ("5: right", "5-4: right", "aspects.1 ('visual faithfulness')", "'5-4', which is no rating and no range"),
        ("description: useful, ", "", "aspects.0.description ('helpfulness')", "Field required"),
        ("low: 1", "lowest: 1", "aspects.0 ('helpfulness')", "unknown key 'lowest'"),
        ("aspects:", "aspect:", "the recipe", "unknown key 'aspect'"),
        ("instructions: Rate the answers.", "- x", "", "cannot be read"),
    ],
)
def test_a_wrong_rubric_is_refused_with_its_file_and_aspect(tmp_path, before, after, where, said):
    (tmp_path / "mine.yaml").write_text(RUBRIC.replace(before, after, 1))
    with pytest.raises(RecipeError) as raised:
        Rubric.read("mine.yaml", tmp_path)
    assert str(tmp_path / "mine.yaml") in raised.value.where and where in raised.value.where
    assert said in raised.value.problem


def test_an_unknown_rubric_is_told_with_those_that_are_shipped(tmp_path):
    with pytest.raises(RecipeError, match="no such file.*\n.*did you mean 'vlfeedback'"):
        Rubric.read("vlfeedbak", tmp_path)


def test_the_shipped_rubrics_have_the_papers_aspects_and_scales(tmp_path):
    found = {name: Rubric.read(name, tmp_path) for name in shipped()}
    scales = {name: [(aspect.name, aspect.low, aspect.high) for aspect in rubric.aspects] for name, rubric in found.items()}
    assert scales["vlfeedback"] == [(name, 1, 5) for name in ("helpfulness", "visual faithfulness", "ethical considerations")]
    assert scales["mllm-dpo"] == [(name, 0, 4) for name in ("helpfulness", "correctness", "coherence", "complexity", "verbosity")]
    assert all(len(aspect.levels) == aspect.high - aspect.low + 1 for rubric in found.values() for aspect in rubric.aspects)


def test_the_prompt_holds_rubric_question_and_numbered_answers(tmp_path):
    (tmp_path / "mine.yaml").write_text(RUBRIC)
    text = prompt(Rubric.read("mine.yaml", tmp_path), ["one", "two"], "What is it?")
    parts = ["Rate the answers.", "visual faithfulness", "2-3: mixed", "What is it?", "[Answer 1]\none\n", "[Answer 2]\ntwo\n"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)


def test_a_reply_that_keeps_to_the_schema_is_read():
    properties = reply_schema(BOTH, 3)["properties"]["answers"]["items"]["properties"]
    assert list(properties) == ["answer", "reason", "helpfulness", "visual_faithfulness"]
    reply = {"answers": [{name: (kind.get("enum") or [""])[-1] for name, kind in properties.items()}]}
    assert rated(json.dumps(reply), 3)[2] == [5, 5]


# ------------------------------------------------------------------------------------------------ annotations


def section(**settings):
    return ANNOTATORS.read({"kind": "judge", "judge": "judge", "rubric": "mine.yaml", **settings})


def judged(name: str, place: int, ratings: list[tuple[int, int]], swapped: bool = False) -> Judgement:
    """One answer's judgement: a reply that rates the answers in the order shown."""
    entries = [
        {"answer": number, "helpfulness": one, "visual_faithfulness": two} for number, (one, two) in enumerate(ratings, start=1)
    ]
    numbers = {"place": float(place), "answers": float(len(ratings)), "swapped": float(swapped), "cut": 0.0}
    return Judgement(
        id=f"{name}-{swapped}",
        key="key",
        response_id=name,
        annotator="judge",
        question="",
        reply=json.dumps({"answers": entries}),
        numbers=numbers,
        origin=ORIGIN,
    )


def read(tmp_path, judgements, *names, **settings):
    (tmp_path / "mine.yaml").write_text(RUBRIC)
    step = section(**settings).reading("judge", tmp_path)
    rows = step.make(Use(Engines({}), Store(tmp_path), 0), [response(name, "text") for name in names], judgements)
    return {row.response_id: row for row in rows}


def test_the_score_is_the_mean_of_the_aspects(tmp_path):
    found = read(tmp_path, [judged("a", 2, [(1, 1), (4, 5)]), judged("b", 1, [(1, 1), (4, 5)])], "a", "b")
    assert (found["a"].score, found["b"].score) == (4.5, 1.0)
    assert found["a"].aspects == {"helpfulness": 4, "visual faithfulness": 5} and found["a"].sees_picture


def test_weights_say_which_aspects_count(tmp_path):
    found = read(tmp_path, [judged("a", 1, [(2, 5)])], "a", weights={"helpfulness": 3.0, "visual faithfulness": 1.0})
    assert found["a"].score == float(Fraction(3 * 2 + 5, 4))
    only = read(tmp_path, [judged("a", 1, [(2, 5)])], "a", weights={"helpfulness": 1.0})["a"]
    assert only.score == 2.0 and only.aspects == {"helpfulness": 2, "visual faithfulness": 5}


def test_an_answer_without_a_reply_has_no_score(tmp_path):
    found = read(tmp_path, [judged("a", 1, [(1, 1)])], "a", "b")["b"]
    assert (found.score, found.reason, found.aspects) == (None, "no reply of the judge", {})


def test_an_off_scale_rating_is_no_score_rather_than_a_bound(tmp_path):
    found = read(tmp_path, [judged("a", 1, [(7, 1)])], "a")["a"]
    assert (found.score, found.reason, found.aspects) == (None, "helpfulness is off its scale", {})


def test_two_orders_are_averaged_and_flips_counted(tmp_path):
    # three answers a, b, c, shown as a b c and as c b a; means: a 4 then 2, b 3 then 3, c 1 then 1
    first, second = [(4, 4), (3, 3), (1, 1)], [(1, 1), (3, 3), (2, 2)]
    rows = [judged(name, place, first) for place, name in enumerate("abc", start=1)]
    rows += [judged(name, place, second, swapped=True) for place, name in enumerate("cba", start=1)]
    found = read(tmp_path, rows, "a", "b", "c", swap=True)
    assert {name: row.score for name, row in found.items()} == {"a": 3.0, "b": 3.0, "c": 1.0}
    assert {name: (row.aspects["flips"], row.aspects["compared"]) for name, row in found.items()} == {
        "a": (1, 2),  # with b: 4 > 3, then 2 < 3; with c: 4 > 1, then 2 > 1
        "b": (1, 2),
        "c": (0, 2),
    }


def test_with_one_of_two_orders_missing_there_is_no_score(tmp_path):
    rows = [judged("a", 1, [(4, 4), (3, 3)]), judged("b", 2, [(4, 4), (3, 3)]), judged("c", 1, [(5, 5)])]
    found = read(tmp_path, rows, "a", "b", "c", swap=True)
    assert (found["a"].score, found["a"].reason) == (None, "no reply of the judge in one of two orders")
    assert found["c"].score == 5.0  # alone it has no other order


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"show": "one", "swap": True}, "one answer has no order to swap"),
        ({"weights": {"helpfulness": 0.0}}, "weights are no less than 0, and one is more"),
        ({"weights": {"helpfulness": -1.0, "visual faithfulness": 3.0}}, "weights are no less than 0, and one is more"),
        ({"weights": {"helpfullness": 1.0}}, "has no aspect 'helpfullness'.*\n.*did you mean 'helpfulness'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, said):
    (tmp_path / "mine.yaml").write_text(RUBRIC)
    with pytest.raises(RecipeError, match=said):
        try:
            section(**settings).asking("judge", tmp_path)
        except ValueError as error:
            raise recipe_error(error) from None


def test_the_rubrics_words_and_not_its_place_decide_what_is_asked_and_weights_only_what_is_read(tmp_path):
    (tmp_path / "mine.yaml").write_text(RUBRIC)
    (tmp_path / "moved.yaml").write_text(RUBRIC)
    (tmp_path / "other.yaml").write_text(RUBRIC.replace("useful", "of use"))
    asked = section().asking("judge", tmp_path)
    assert (
        asked == section(rubric="moved.yaml").asking("judge", tmp_path) != section(rubric="other.yaml").asking("judge", tmp_path)
    )
    weighed = section(weights={"helpfulness": 1.0})
    assert weighed.asking("judge", tmp_path) == asked
    assert weighed.reading("judge", tmp_path) != section().reading("judge", tmp_path)
    assert weighed.reading("judge", tmp_path).engine_roles() == {}
