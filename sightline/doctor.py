"""What this machine has, and what would go wrong on it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sightline import __version__
from sightline.engines.weights import locate
from sightline.errors import UserError

PACKAGES = ("torch", "transformers", "diffusers", "peft", "accelerate", "datasets", "pyarrow", "pydantic")
MINIATURES = ("painter", "image-reward", "policy", "judge", "answer-reward")
ENOUGH_DISK_GB = 2


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `fix` says what to do where it is not well."""

    well: bool
    what: str
    fix: str = ""


def examine() -> list[Finding]:
    """Everything worth knowing before a first run."""
    return [*_python(), *_packages(), *_torch(), *_miniatures(), *_disk()]


def _python() -> Iterator[Finding]:
    yield Finding(
        sys.version_info >= (3, 11), f"sightline {__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} cores"
    )


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(True, f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding(False, f"{name} is not installed", f"pip install '{name}'")


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Finding(True, f"GPU: {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {memory:.0f} GB")
    else:
        yield Finding(True, "no GPU: miniature models run on the CPU; bring a GPU for models of a billion parameters and more")
    if importlib.util.find_spec("torchvision") is not None:
        yield _torchvision()


def _torchvision() -> Finding:
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # a mismatched build fails in many ways, and each breaks every image processor
        return Finding(
            False, f"torchvision does not fit this torch: {error}", "pip uninstall torchvision (images work without it)"
        )
    return Finding(True, f"torchvision {importlib.metadata.version('torchvision')}")


def _miniatures() -> Iterator[Finding]:
    for name in MINIATURES:
        try:
            locate(f"miniature/{name}")
        except UserError as error:
            yield Finding(
                False, f"{error.where}: {error.problem}", "install the package anew, or python -m sightline.miniature.build"
            )
            return
    yield Finding(True, f"miniature models: {', '.join(MINIATURES)} and the pool")


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path()).free / 2**30
    yield Finding(free > ENOUGH_DISK_GB, f"{free:.0f} GB free here", "free some space" if free <= ENOUGH_DISK_GB else "")
