import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from sightline.cli import app
from tests.conftest import QUICKSTART, REPOSITORY, Sightline

VERBS = {
    "check": {"--set"},
    "compare": {"--out", "--json"},
    "doctor": set(),
    "eval": {"--set", "--out"},
    "export": {"--format", "--merge", "--out"},
    "import": {"--format", "--out", "--images"},
    "make": {"--set", "--out"},
    "run": {"--set", "--out"},
    "score": {"--answers", "--data", "--rule", "--set", "--json"},
    "show": {"--limit"},
    "sweep": {"--vary", "--set", "--out"},
    "train": {"--set", "--out"},
}


def commands() -> dict[str, Any]:
    group = typer.main.get_command(app)
    return dict(group.commands)  # type: ignore[attr-defined]


def test_the_set_of_verbs_and_flags_is_frozen():
    flags = {
        name: {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")} - {"--help"}
        for name, command in commands().items()
    }
    assert flags == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verbs_help_has_an_example(verb):
    assert f"sightline {verb}" in str(commands()[verb].epilog)


def without_torch(tmp_path: Path) -> str:
    """A path entry whose torch, transformers and diffusers cannot be imported, as where they are not installed."""
    for name in ("torch", "transformers", "diffusers", "peft"):
        (tmp_path / "bare" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "bare" / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name!r}', name={name!r})")
    return str(tmp_path / "bare")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", str(QUICKSTART)]])
def test_help_and_check_run_without_torch(sightline: Sightline, tmp_path, arguments):
    paths = f"{without_torch(tmp_path)}:{QUICKSTART.parent.parent}"
    done = sightline(*arguments, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr


def recipe_with(tmp_path: Path, **changes: object) -> str:
    tree = yaml.safe_load(QUICKSTART.read_text())
    tree["make"]["prompts"]["path"] = str(tmp_path / "prompts.txt")
    (tmp_path / "prompts.txt").write_text("a red apple and a blue cup in the kitchen\n")
    for path, value in changes.items():
        place = tree
        *parents, last = path.split("__")
        for name in parents:
            place = place[name]
        place[last] = value
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return str(tmp_path / "recipe.yaml")


def failed(done, *words: str) -> None:
    """Exit code 1, every word told, no traceback."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert word in done.stderr, done.stderr


def test_an_unknown_key_is_refused_with_the_nearest(sightline: Sightline, tmp_path):
    failed(
        sightline("check", recipe_with(tmp_path, make__images__guidence=[1])),
        "make.images",
        "guidence",
        "did you mean 'guidance'",
    )


def test_an_unknown_engine_is_refused_with_those_declared(sightline: Sightline, tmp_path):
    failed(sightline("check", recipe_with(tmp_path, make__ranking__scorer="eye")), "no engine named 'eye'", "did you mean 'eyes'")


def test_an_engine_without_the_role_is_refused(sightline: Sightline, tmp_path):
    failed(sightline("check", recipe_with(tmp_path, make__ranking__scorer="policy")), "'policy'", "eyes")


def test_a_number_out_of_bounds_is_refused(sightline: Sightline, tmp_path):
    failed(sightline("run", recipe_with(tmp_path), "--set", "train.objective.beta=-1"), "train.objective.beta", "greater than 0")


def test_a_word_that_the_painter_does_not_know_is_named_and_the_known_ones_listed(sightline: Sightline, tmp_path):
    recipe = recipe_with(tmp_path)
    (tmp_path / "prompts.txt").write_text("a red zebra in the kitchen\n")
    failed(sightline("check", recipe), "zebra", "apple", "umbrella")
    failed(sightline("run", recipe), "zebra", "apple", "umbrella")


def test_an_empty_prompts_file_is_refused(sightline: Sightline, tmp_path):
    recipe = recipe_with(tmp_path)
    (tmp_path / "prompts.txt").write_text("\n\n")
    failed(sightline("check", recipe), "prompts.txt")


def test_a_recipe_that_does_not_exist_is_told_with_the_shipped_ones(sightline: Sightline):
    failed(sightline("run", "quikstart.yaml"), "no such recipe", "quickstart")


def test_a_file_that_is_not_yaml_is_refused(sightline: Sightline, tmp_path):
    (tmp_path / "r.yaml").write_text("a: [1\n")
    failed(sightline("check", "r.yaml"), "not YAML")


def test_an_override_without_a_value_is_refused(sightline: Sightline, tmp_path):
    failed(sightline("check", recipe_with(tmp_path), "--set", "train.objective.beta"), "key=value")


def test_a_folder_of_another_recipe_is_refused_and_left_alone(sightline: Sightline, tmp_path):
    run = tmp_path / "runs" / "here"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: other\n")
    failed(sightline("run", recipe_with(tmp_path), "--out", str(run)), "another recipe", "--out")
    assert [path.name for path in run.iterdir() if path.name != ".lock"] == ["recipe.yaml"]


def test_ctrl_c_is_answered_with_a_message_and_code_one(tmp_path):
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from sightline.cli import main; main()"
    command = [sys.executable, "-c", code, "make", str(QUICKSTART), "--out", str(tmp_path / "runs" / "stopped")]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    while process.poll() is None and not list((tmp_path / "runs").glob("store/rows/prompts/*.parquet")):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be stopped"
    process.send_signal(signal.SIGINT)
    complaint = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "Ctrl-C" in complaint and "goes on from here" in complaint and "Traceback" not in complaint


def test_export_wants_either_a_format_or_a_merge(sightline: Sightline, tmp_path):
    for arguments in ([], ["--merge", "--format", "llava"]):
        done = sightline("export", str(tmp_path), "--out", str(tmp_path / "out"), *arguments)
        assert done.returncode == 2 and "either --format or --merge" in done.stderr


def test_wrong_usage_ends_with_code_two(sightline: Sightline):
    done = sightline("run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert sightline("run", "x.yaml", "--no-such-flag").returncode == 2


def test_showing_what_is_no_run_is_refused(sightline: Sightline, tmp_path):
    failed(sightline("show", str(tmp_path)), "no run is here")


def test_the_verbs_are_functions_and_their_modules_stay_packages():
    import sightline
    from sightline.make import Make

    assert callable(sightline.run) and callable(sightline.make) and callable(sightline.train) and callable(sightline.eval)
    assert sightline.make.Make is Make
    findings = sightline.check(str(QUICKSTART))
    assert any("240 over 10 topics" in fact for fact in findings.facts), json.dumps(findings.facts)
