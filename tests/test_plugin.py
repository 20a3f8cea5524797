from typing import Any

import pytest
from pydantic import Field, ValidationError

from sightline.errors import MissingPackage
from sightline.plugin import Plugin, Section, Table, need, recipe_error, suggest

SHAPES = Table("shapes", {"square": "tests.test_plugin:Square", "broken": "tests.test_plugin:Nothing"})


class Square(Plugin):
    side: float = Field(gt=0)


class Drawing(Section):
    shape: SHAPES.section()  # type: ignore[valid-type]
    copies: int = Field(1, ge=1)


def fault(tree: dict[str, Any]) -> Any:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(tree)
    return recipe_error(caught.value)


def test_a_section_is_read_through_its_familys_table():
    drawing = Drawing.model_validate({"shape": {"kind": "square", "side": 2}})
    assert isinstance(drawing.shape, Square) and drawing.shape.side == 2.0
    assert drawing.model_dump() == {"shape": {"kind": "square", "side": 2.0}, "copies": 1}


def test_an_unknown_key_is_refused_and_the_nearest_one_suggested():
    error = fault({"shape": {"kind": "square", "side": 1}, "copys": 2})
    assert "copys" in error.problem and "did you mean 'copies'" in error.fix


def test_a_fault_inside_a_plug_in_is_told_with_its_whole_path():
    assert fault({"shape": {"kind": "square", "side": 0}}).where == "shape.side"


def test_an_unknown_plug_in_is_told_with_what_there_is():
    error = fault({"shape": {"kind": "sqare", "side": 1}})
    assert "'sqare'" in error.problem and "did you mean 'square'" in error.fix


def test_a_plug_in_without_kind_is_told_the_choices():
    assert "square" in fault({"shape": {"side": 1}}).fix


def test_numbers_are_not_read_from_text():
    assert fault({"shape": {"kind": "square", "side": "1"}}).where == "shape.side"


def test_all_faults_of_a_recipe_are_told_at_once():
    error = fault({"shape": {"kind": "square", "side": 0}, "copies": 0})
    assert "copies" in error.fix


def test_a_missing_package_names_the_command_that_brings_it():
    with pytest.raises(MissingPackage) as caught:
        need("no_such_package_at_all", extra="gpu")
    assert "pip install 'sightline[gpu]'" in caught.value.fix


def test_suggest_lists_what_is_known_where_nothing_is_near():
    assert suggest("zzz", ["beta", "alpha"]) == "known: alpha, beta"
