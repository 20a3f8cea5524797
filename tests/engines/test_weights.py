import pytest

from sightline.engines.weights import locate_data
from sightline.errors import DataError


def test_shipped_data_is_found_by_name_and_a_users_file_from_the_recipes_folder(tmp_path):
    (tmp_path / "things.txt").write_text("cup")
    assert locate_data("miniature/objects", tmp_path).name == "objects.txt"
    assert locate_data("miniature/heldout", tmp_path).is_dir()
    assert locate_data("things.txt", tmp_path) == tmp_path / "things.txt"


def test_unknown_data_is_answered_with_the_nearest_name(tmp_path):
    with pytest.raises(DataError, match="did you mean 'miniature/objects'"):
        locate_data("miniature/object", tmp_path)
    with pytest.raises(DataError, match="no such file"):
        locate_data("things.txt", tmp_path)
