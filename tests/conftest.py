"""Things that tests of several folders use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# the same examples at each run; HYPOTHESIS_PROFILE=default looks for new ones
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

REPOSITORY = Path(__file__).parent.parent
QUICKSTART = REPOSITORY / "recipes" / "quickstart.yaml"

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
