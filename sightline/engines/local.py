"""What engines share that compute in this process: device, precision, batches that shrink when memory runs out, silence."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field

from sightline.engines import Engine
from sightline.engines.weights import locate
from sightline.errors import RecipeError, RunError

A = TypeVar("A")
B = TypeVar("B")
HALF_IS_MISSING = "not implemented for 'Half'"  # torch's words for what a CPU cannot do in float16
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class LocalEngine(Engine):
    """A model that runs in this process."""

    incidental: ClassVar[frozenset[str]] = frozenset({"device", "batch_size"})

    device: str = "auto"
    """auto takes a GPU where there is one; else a torch device, such as cpu or cuda:1."""
    dtype: Dtype = "auto"
    """Precision of the arithmetic. auto: float32 on a CPU; on a GPU bfloat16, or float16 where it lacks that."""
    batch_size: int = Field(16, ge=1)
    """How many go through the model at once; halved by itself where a GPU's memory runs out."""

    def torch_device(self) -> Any:
        """The torch device that the field means on this machine."""
        import torch

        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def torch_dtype(name: Dtype, device: Any) -> Any:
    """The precision to load weights in. auto: half on a GPU (bfloat16 where it has it), float32 on a CPU, where half is slow."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16


def model_folder(model: str, revision: str | None) -> Path:
    """The folder of a model's files, fetched from the hub where it is a hub name."""
    folder = Path(locate(model))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(model, revision=revision))
    except (HfHubHTTPError, HFValidationError) as error:
        raise OSError(f"neither a folder nor a model on the hub: {model}") from error


def in_batches(items: Sequence[A], batch_size: int, work: Callable[[Sequence[A]], Sequence[B]], where: str) -> list[B]:
    """`work` on batches of the items, in order. Where the GPU's memory runs out, batches go on at half the size.

    RunError where a single item does not fit, or where the device has no arithmetic of the asked precision.
    """
    import torch

    done: list[B] = []
    while len(done) < len(items):
        try:
            done += work(items[len(done) : len(done) + batch_size])
            continue
        except torch.OutOfMemoryError as error:
            if batch_size == 1:
                raise RunError(
                    where, "one picture at a time does not fit into the GPU's memory", "use a smaller dtype or model"
                ) from error
        except RuntimeError as error:
            if HALF_IS_MISSING not in str(error):
                raise
            raise RunError(where, "this device cannot compute it in float16", "use dtype: float32 or bfloat16") from error
        # after the except block, which holds on to the failed batch's tensors
        batch_size = max(1, batch_size // 2)
        torch.cuda.empty_cache()
    return done


def sorted_by(keys: Sequence[Any], items: Sequence[A], work: Callable[[list[A]], Sequence[B]]) -> list[B]:
    """`work` on the items in the order of their keys, so that alike ones share a batch; results in the items' own order."""
    order = sorted(range(len(items)), key=keys.__getitem__)
    done = dict(zip(order, work([items[place] for place in order]), strict=True))
    return [done[place] for place in range(len(items))]


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Quiet while a model loads; a folder or name that holds none becomes a message for the user."""
    try:
        with quiet():
            yield
    except (OSError, ValueError) as error:  # from_pretrained raises either for a folder that holds no such model
        reason = str(error).strip().splitlines()[0]
        raise RecipeError(
            f"model {model}", f"cannot be loaded: {reason}", "give a model's folder, its hub name, or miniature/<name>"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings and progress bars of the model libraries that a user cannot act on; errors still show."""
    import transformers

    was = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("diffusers", "peft")]
    levels = [logger.level for logger in loggers]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(was)
        if bars:
            transformers.logging.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
