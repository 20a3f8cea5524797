import math

import pytest

from sightline.execute import Execution
from sightline.store.address import digest, digest_folder, seed_from


def test_an_address_depends_on_values_not_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest("a", "b") != digest("ab")
    assert digest(1) != digest("1")


def test_a_section_has_the_address_of_its_values():
    assert digest(Execution(workers=2)) == digest(Execution(workers=2).model_dump())


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, object(), b"x", {1: 2}])
def test_what_has_no_stable_bytes_is_refused(value):
    with pytest.raises(TypeError):
        digest(value)


def test_a_folder_is_known_by_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("one")
    before = digest_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest_folder(tmp_path) != before
    (tmp_path / "b").rename(tmp_path / "a")
    assert digest_folder(tmp_path) == before


def test_seeds_fit_a_signed_64_bit_integer_and_differ_with_their_parts():
    seeds = {seed_from(0, "prompt", index) for index in range(1000)}
    assert len(seeds) == 1000 and all(0 <= seed < 2**63 for seed in seeds)
