from dataclasses import replace

import pytest
from pydantic import ValidationError

from sightline.engines import Engines
from sightline.execute import Use
from sightline.make.responses import Answers, Responses
from tests.make.rows import instruction


def test_a_member_changes_only_what_it_says_about_decoding():
    section = Responses.model_validate(
        {
            "decoding": {"max_tokens": 64, "top_p": 0.9},
            "pool": [{"engine": "a"}, {"engine": "b", "samples": 2, "decoding": {"temperature": 0.7}}],
        }
    )
    plain, warm = (task.step.decoding for task in section.tasks())
    assert (plain.temperature, plain.max_tokens, plain.top_p) == (0.0, 64, 0.9)
    assert (warm.temperature, warm.max_tokens, warm.top_p) == (0.7, 64, 0.9)


def test_a_written_out_section_reads_back_to_the_same_decoding():
    section = Responses.model_validate(
        {"decoding": {"max_tokens": 64}, "pool": [{"engine": "b", "decoding": {"temperature": 0.7}}]}
    )
    assert Responses.model_validate(section.model_dump()).tasks() == section.tasks()


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ([{"engine": "a"}, {"engine": "a"}], "two members of the pool are called 'a'"),
        ([{"engine": "a", "samples": 2}], "greedy decoding makes equal"),
        ([], "at least 1"),
        ([{"engine": "a", "name": "a/b"}], "pattern"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(pool, said):
    with pytest.raises(ValidationError, match=said):
        Responses.model_validate({"pool": pool})


POOL = [{"engine": name} for name in ("a", "b", "c", "d", "e")]


def asked(count: int) -> list:
    return [replace(instruction(), id=f"ask-{number}", key=f"key-{number}") for number in range(count)]


def turns(section: Responses, instructions: list, seed: int = 0) -> dict[str, set[str]]:
    """Instructions that are each member's turn; no engine is asked for the others, which are drops."""
    found = {}
    for task in section.tasks():
        own = {one.id for one in instructions if task.step.is_drawn(seed, one)}
        others = [one for one in instructions if one.id not in own]
        dropped = list(task.step.make(Use(Engines({}), None, seed), others))
        assert [(row.row_id, row.reason) for row in dropped] == [(one.id, "others of the pool were drawn") for one in others]
        found[task.step.name] = own
    return found


def test_so_many_members_as_drawn_answer_each_instruction_whatever_the_order_of_the_pool():
    instructions = asked(400)
    drawn = turns(Responses.model_validate({"pool": POOL, "draw": 2}), instructions)
    assert all(sum(one.id in own for own in drawn.values()) == 2 for one in instructions)
    assert turns(Responses.model_validate({"pool": POOL[::-1], "draw": 2}), instructions) == drawn
    assert turns(Responses.model_validate({"pool": POOL, "draw": 2}), instructions, seed=1) != drawn
    # 400 draws of 2 in 5: 160 each, with a standard deviation of 9.8; five of them
    assert all(abs(len(own) - 160) < 49 for own in drawn.values())


def test_all_answer_where_nothing_is_drawn_as_the_same_steps_as_ever():
    steps = [task.step for task in Responses.model_validate({"pool": POOL}).tasks()]
    assert {type(step) for step in steps} == {Answers} and "draw" not in steps[0].model_dump()


@pytest.mark.parametrize("draw", [0, 5, 6])
def test_a_draw_of_nobody_or_of_all_is_refused(draw):
    with pytest.raises(ValidationError, match="greater than or equal to 1|leaves nobody out"):
        Responses.model_validate({"pool": POOL, "draw": draw})
