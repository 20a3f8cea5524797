"""What a recipe's training asks of this machine and of how it was launched, looked at before anything is computed."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline import processes
from sightline.errors import MissingPackage, RecipeError, TrainingError
from sightline.plugin import suggest

if TYPE_CHECKING:
    from sightline.train import Train

TRACKERS = {
    "azure_ml": ("azureml-core", "azureml"),
    "clearml": ("clearml", "clearml"),
    "codecarbon": ("codecarbon", "codecarbon"),
    "comet_ml": ("comet-ml", "comet_ml"),
    "dvclive": ("dvclive", "dvclive"),
    "mlflow": ("mlflow", "mlflow"),
    "neptune": ("neptune", "neptune"),
    "swanlab": ("swanlab", "swanlab"),
    "tensorboard": ("tensorboard", "tensorboard", "tensorboardX"),
    "trackio": ("trackio", "trackio"),
    "wandb": ("wandb", "wandb"),
}
"""Where `report_to` may send the log: what pip calls the package, and the modules of which one must be there."""


def check(section: Train) -> None:
    """UserError where this training cannot be done here, or would quietly be another one than asked for."""
    check_share(section)
    _check_trackers(section.trainer_args.get("report_to"))
    if (fsdp := _fsdp(section.trainer_args)) is not None:
        if int(fsdp.get("version", 2)) != 2:
            raise TrainingError("train.trainer_args.fsdp_config.version", "only FSDP2 is known here", "set it to 2")
        _check_sharded("fsdp")
    if (deepspeed := _deepspeed(section.trainer_args)) is not None:
        if deepspeed.get("zero_optimization", {}).get("stage", 0) > 2:
            problem = "ZeRO-3 splits the weights in a way that is not read here"
            raise TrainingError("train.trainer_args.deepspeed", problem, "use stage 2, or fsdp")
        _check_sharded("deepspeed")
        if not find_spec("deepspeed"):
            raise MissingPackage("train.trainer_args.deepspeed", "this package is not installed", "pip install deepspeed")


def check_share(section: Train) -> None:
    """TrainingError where a step's pairs do not go evenly among the processes."""
    shares = section.accumulation * processes.count()
    if section.batch_size % shares:
        raise TrainingError(
            "train.batch_size",
            f"{section.batch_size} pairs a step cannot be shared evenly among {processes.count()} processes"
            + (f", in {section.accumulation} parts each" if section.accumulation > 1 else ""),
            f"batch_size counts the pairs of all processes: make it a multiple of {shares}",
        )


def _check_trackers(report_to: Any) -> None:
    for name in [report_to] if isinstance(report_to, str) else report_to or []:
        if name in ("none", "all"):
            continue
        if name not in TRACKERS:
            raise RecipeError("train.trainer_args.report_to", f"no tracker is called '{name}'", suggest(name, list(TRACKERS)))
        package, *modules = TRACKERS[name]
        if not any(find_spec(module) for module in modules):
            raise MissingPackage(
                "train.trainer_args.report_to", f"the package for '{name}' is not installed", f"pip install {package}"
            )


def _check_sharded(name: str) -> None:
    import torch

    if not torch.cuda.is_available() or processes.count() == 1:
        # on a CPU the Trainer's fsdp quietly trains a whole copy of the model in each process
        raise TrainingError(
            f"train.trainer_args.{name}",
            "nothing would be sharded here",
            "it needs several GPUs and torchrun; without it each process trains a copy of the model",
        )


def _fsdp(trainer_args: dict[str, Any]) -> dict[str, Any] | None:
    """Its settings, of the recipe or of `accelerate launch`; None where nobody asks for it."""
    if trainer_args.get("fsdp"):
        return _settings(trainer_args.get("fsdp_config"))
    return {"version": os.environ.get("FSDP_VERSION", "1")} if _launched_with("FSDP") else None


def _deepspeed(trainer_args: dict[str, Any]) -> dict[str, Any] | None:
    """The same for DeepSpeed."""
    if trainer_args.get("deepspeed"):
        return _settings(trainer_args["deepspeed"])
    if not _launched_with("DEEPSPEED"):
        return None
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    stage = int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    return {"zero_optimization": {"stage": stage}} if file == "none" else _settings(file)


def _launched_with(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"


def _settings(given: Any) -> dict[str, Any]:
    """A configuration as the Trainer takes it: a mapping, the name of a JSON file, or nothing."""
    found = json.loads(Path(given).read_text()) if isinstance(given, str) else given or {}
    return {key.removeprefix("fsdp_"): value for key, value in found.items()}
