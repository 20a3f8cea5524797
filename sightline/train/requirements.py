"""What a recipe's training asks of this machine and of how it was launched, looked at before anything is computed."""

from __future__ import annotations

import json
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

SHARDED = ("fsdp", "deepspeed")
"""Arguments of the Trainer that split the model's state among processes."""


def check(section: Train) -> None:
    """UserError where this training cannot be done here, or would quietly be another one than asked for."""
    _check_share(section)
    _check_trackers(section.trainer_args.get("report_to"))
    for name in SHARDED:
        if section.trainer_args.get(name):
            _check_sharded(name, section.trainer_args)


def _check_share(section: Train) -> None:
    shares = section.accumulation * processes.count()
    if section.batch_size % shares:
        raise TrainingError(
            "train.batch_size",
            f"{section.batch_size} pairs a step cannot be shared evenly among {processes.count()} processes, "
            f"in {section.accumulation} parts each",
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


def _check_sharded(name: str, trainer_args: dict[str, Any]) -> None:
    import torch

    where = f"train.trainer_args.{name}"
    if not torch.cuda.is_available() or processes.count() == 1:
        # on a CPU the Trainer's fsdp quietly trains a whole copy of the model in each process
        raise TrainingError(
            where, "nothing would be sharded here", "it needs several GPUs and torchrun; leave it out for plain data parallelism"
        )
    if name == "fsdp" and _settings(trainer_args.get("fsdp_config")).get("version", 2) != 2:
        raise TrainingError(f"{where}_config.version", "only FSDP2 is known here", "leave version out, or set it to 2")
    if name == "deepspeed":
        if not find_spec("deepspeed"):
            raise MissingPackage(where, "the package 'deepspeed' is not installed", "pip install deepspeed")
        if _settings(trainer_args["deepspeed"]).get("zero_optimization", {}).get("stage", 0) > 2:
            raise TrainingError(where, "ZeRO-3 splits the weights in a way that is not read here", "use stage 2, or fsdp")


def _settings(given: Any) -> dict[str, Any]:
    """A configuration as the Trainer takes it: a mapping, the name of a JSON file, or nothing."""
    found = json.loads(Path(given).read_text()) if isinstance(given, str) else given or {}
    return {key.removeprefix("fsdp_"): value for key, value in found.items()}
