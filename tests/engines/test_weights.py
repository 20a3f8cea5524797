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


def test_a_hub_model_is_known_by_its_commit_also_without_a_network(tmp_path):
    import os
    import subprocess
    import sys

    cached = tmp_path / "hub" / "models--some--model"
    commit = "0123456789abcdef0123456789abcdef01234567"
    for path, text in {"refs/main": commit, f"snapshots/{commit}/config.json": "{}"}.items():
        (cached / path).parent.mkdir(parents=True)
        (cached / path).write_text(text)
    code = "from sightline.engines.weights import fingerprint; print(fingerprint('some/model'), fingerprint('other/model', 'v2'))"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [f"some/model@{commit}", "other/model@v2"]
