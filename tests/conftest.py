"""Things that tests of several folders use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from sightline.store.runs import Run

# the same examples at each run; HYPOTHESIS_PROFILE=default looks for new ones
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

REPOSITORY = Path(__file__).parent.parent
QUICKSTART = REPOSITORY / "recipes" / "quickstart.yaml"

NUM_PROMPTS = 8
"""Of a quickstart made small."""

Sightline = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real samples beside the project; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SIGHTLINE_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("the folder of real samples (../shared) is not here")
    return folder


@pytest.fixture
def sightline(tmp_path: Path) -> Sightline:
    """The command line in a process of its own, in an empty folder."""

    def call(*arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        code = "from sightline.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return call


def quickstart_overrides(folder: Path) -> list[str]:
    """What makes the quickstart small; its prompts are written to the folder."""
    prompts = (QUICKSTART.parent / "prompts" / "quickstart.jsonl").read_text().splitlines()
    (folder / "prompts.jsonl").write_text("\n".join(prompts[:: 240 // NUM_PROMPTS]))
    return [
        f"make.prompts.path={folder / 'prompts.jsonl'}",
        "make.images.guidance=[1, 5]",
        "engines.painter.steps=4",
        "execution.workers=1",
        "execution.shard_size=4",
        "train.epochs=2",
        "train.batch_size=4",
        "eval.limit=6",
        "eval.draws=200",
    ]


@pytest.fixture(scope="session")
def quickstart_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small quickstart's runs lie, in `runs`."""
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="session")
def quickstart_run(quickstart_folder: Path) -> Run:
    """The small quickstart, run once for all tests."""
    import sightline

    return sightline.run(str(QUICKSTART), quickstart_folder / "runs" / "whole", quickstart_overrides(quickstart_folder))
