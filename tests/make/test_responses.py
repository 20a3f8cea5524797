import pytest
from pydantic import ValidationError

from sightline.make.responses import Responses


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
