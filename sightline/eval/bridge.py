"""A bridge to lmms-eval in the user's own environment: base and adapter go over, its numbers and every answer come back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny

from sightline.engines import Engine
from sightline.engines.weights import locate
from sightline.errors import MissingPackage, RecipeError, RunError
from sightline.execute import Watch
from sightline.plugin import Plugin, Section
from sightline.store.address import digest

SCRIPT = Path(__file__).with_name("bridge_script.py")
TRIED = "0.7.3"
"""Version of lmms-eval that this was tried with."""
INSTALL = (
    "pip install torch==2.13.0 transformers peft accelerate datasets pillow\n"
    f"    pip install --no-deps lmms-eval=={TRIED}\n"
    "    pip install loguru sacrebleu evaluate pytz tenacity\n"
    "  (without --no-deps a torchvision comes along, which changes torch; a task that needs more packages names them)"
)
OF_THE_HUB = ("OfflineModeIsEnabled", "LocalEntryNotFound", "ConnectionError", "Couldn't reach", "RetryError", "offline mode")
OF_THIS_PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
NUM_LAST_LINES = 12


def _benchmark(value: Any) -> Any:
    from sightline.eval import BENCHMARKS  # here, because it imports this module

    return BENCHMARKS.read(value)


class LmmsEval(Section):
    """Tasks of lmms-eval, run in an environment of yours that has it, on the base model and with the adapter."""

    python: str
    """Python of that environment, such as ~/lmms/bin/python. Sightline need not be there."""
    tasks: list[Annotated[str, Field(pattern=r"^[\w.-]+$")]] = Field(min_length=1)
    """Tasks or groups by lmms-eval's names."""
    include_path: str | None = None
    """Folder with YAML files of tasks of your own."""
    limit: int | None = Field(None, ge=1)
    """Ask this many questions of each task only: for a quick look. Nothing is recomputed then."""
    ours: dict[str, SerializeAsAny[Annotated[Plugin, BeforeValidator(_benchmark)]]] = {}
    """Task -> benchmark of ours that asks the same: its numbers, by each of its rules, are computed from the same answers."""


@dataclass(frozen=True)
class Theirs:
    """What one model's run in their environment left: by task, the numbers of lmms-eval and the file of all answers."""

    folder: Path
    runs: list[dict[str, Any]]

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """Each task that answers were given to, a group's by themselves: hash of its files, and number of samples."""
        return {part: about for run in self.runs for part, about in run["parts"].items()}

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Numbers by task or group, under lmms-eval's own names."""
        return {name: numbers for run in self.runs for name, numbers in run["results"].items()}

    def samples(self, part: str) -> Path:
        return self.folder / f"samples_{part}.jsonl"


def hand_over(
    section: LmmsEval, models: Mapping[str, Engine], root: Path, out: Path, watch: Watch, folder: Path | None = None
) -> dict[str, Theirs]:
    """Each model's run; `out` takes what they leave, and `root`, by what was asked of which model, the replies, for all runs."""
    python, version = find_lmms_eval(section.python)
    found = {}
    for who, engine in models.items():
        name = f"lmms-eval/{who}"
        watch.begin(name, len(section.tasks), "tasks")
        found[who] = _hand_over(section, engine, python, root, out / who, folder)
        watch.advance(name, len(section.tasks))
        watch.end(name, f"lmms-eval {version}" + ("" if version == TRIED else f", which was not tried; {TRIED} was"))
    return found


def find_lmms_eval(python: str) -> tuple[str, str]:
    """That environment's Python and version of lmms-eval; UserError where there is no such Python, or a package is missing."""
    path = shutil.which(os.path.expanduser(python))
    if path is None:
        raise RecipeError(
            "eval.lmms_eval.python", f"{python} is no program", "give the Python of the environment that has lmms-eval"
        )
    code = (
        "import importlib.metadata as m, json\n"
        "have = {d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions() if d.metadata['Name']}\n"
        "print(json.dumps({name: have.get(name) for name in ('lmms-eval', 'torch', 'transformers', 'peft')}))"
    )
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, env=_environment(), check=False)
    try:
        versions = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        told = "\n  ".join(_last_lines(done.stdout + done.stderr)) or "it said nothing"
        raise RecipeError("eval.lmms_eval.python", f"{path} is no Python that runs: {told}", "give another one") from error
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        raise MissingPackage(path, f"this environment has no {', '.join(missing)}", f"with its pip:\n    {INSTALL}")
    return path, versions["lmms-eval"]


def _hand_over(section: LmmsEval, engine: Engine, python: str, root: Path, out: Path, folder: Path | None) -> Theirs:
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("*.json"), *out.glob("samples_*.jsonl")):
        old.unlink()  # so that what is there afterwards is of this run
    request = _request(section, engine, root, out, folder)
    (out / "request.json").write_text(json.dumps(request, indent=1), encoding="utf-8")
    log = out / "log.txt"
    with log.open("wb") as file:
        command = [python, str(SCRIPT), str(out / "request.json")]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=_environment(), check=False)
    results = [out / f"{task}.json" for task in section.tasks]
    if done.returncode or not all(path.is_file() for path in results):
        raise _stopped(done.returncode, log)
    return Theirs(out, [json.loads(path.read_text(encoding="utf-8")) for path in results])


def _request(section: LmmsEval, engine: Engine, root: Path, out: Path, folder: Path | None) -> dict[str, Any]:
    """What the script over there is told. Replies are kept by model: none is asked for twice, in whichever run."""
    kept = root / "lmms_eval" / f"{digest(engine.identity())[:16]}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    fields = engine.model_dump()
    model, adapter = Path(locate(fields["model"])), fields["adapter"]
    return {
        "model": str(model.resolve()) if model.exists() else fields["model"],
        "revision": fields["revision"],
        "adapter": adapter and str(Path(adapter).resolve()),
        "device": fields["device"],
        "dtype": fields["dtype"],
        "batch_size": fields["batch_size"],
        "tasks": section.tasks,
        "include_path": section.include_path and _place(section.include_path, folder),
        "limit": section.limit,
        "decoding": "greedy: no sampling, one beam; lengths and stops as the task has them",
        "replies": str(kept.resolve()),
        "out": str(out.resolve()),
    }


def _place(path: str, folder: Path | None) -> str:
    found = next((each for each in (Path(path).expanduser(), (folder or Path()) / path) if each.is_dir()), None)
    if found is None:
        raise RecipeError(
            "eval.lmms_eval.include_path", f"{path} is no folder", "give the folder that holds the tasks' YAML files"
        )
    return str(found.resolve())


def _environment() -> dict[str, str]:
    """Ours, less what would make theirs one of several processes that train."""
    return {
        name: value for name, value in os.environ.items() if name not in OF_THIS_PROCESS and not name.startswith("TORCHELASTIC_")
    }


def _stopped(code: int, log: Path) -> RunError:
    lines = _last_lines(log.read_bytes().decode(errors="replace"))
    fix = f"all it said is in {log}; answers that it gave are kept: the same command goes on from there"
    if any(mark in line for line in lines for mark in OF_THE_HUB):
        fix = f"a task's data is on the hub, which was not reached: run it once with a network, or a task of your own\n  {fix}"
    how = f"lmms-eval ended with code {code}" if code else "lmms-eval ended without results"
    return RunError("eval.lmms_eval", "\n  ".join([how, *lines]), fix)


def _last_lines(text: str) -> Sequence[str]:
    """Of what a program said, without what its progress bars overwrote."""
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-NUM_LAST_LINES:]
