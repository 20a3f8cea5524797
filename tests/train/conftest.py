"""A tiny LLaVA with random weights and the miniature policy's words, pictures of the miniature world, and stored pairs."""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.engines import Engines
from sightline.engines.weights import locate
from sightline.execute import Execution, Executor
from sightline.miniature import world
from sightline.rows import Pair, Reference
from sightline.store.shards import Shard, Store
from sightline.train import Checkpoint, Train

MakePairs = Callable[[int], list[Shard]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small sums are slower on two."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder. Its weights are wide, so that one token's change moves every log-probability that may see it."""
    import torch
    from transformers import AutoConfig, LlavaForConditionalGeneration

    policy = Path(locate("miniature/policy"))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(policy, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = AutoConfig.from_pretrained(policy)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
    config.text_config.update({**sizes, "num_key_value_heads": 2, "head_dim": 16})
    config.vision_config.update({**sizes, "num_hidden_layers": 1})
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def executor(store: Store) -> Executor:
    return Executor(store, Engines({}), 0, Execution(workers=1, threads=1))


@pytest.fixture
def make_pairs(store: Store) -> MakePairs:
    """Stores pairs about drawn scenes: true descriptions over ones with an extra thing, of several lengths."""
    return lambda count: store.source("pairs", "test", list(draw_pairs(store, count)), [], 4)


def draw_pairs(store: Store, count: int, seed: int = 0) -> list[Pair]:
    rng = np.random.default_rng(seed)
    return [draw_pair(store, world.sample(rng), f"pair-{index}", rng) for index in range(count)]


def draw_pair(store: Store, scene: world.Scene, name: str, rng: np.random.Generator, **changes: Any) -> Pair:
    buffer = io.BytesIO()
    world.draw(scene, rng).save(buffer, "PNG")
    true = world.describe(scene)
    values = {
        "instruction": world.DESCRIBE,
        "pictures": [store.put_picture(buffer.getvalue())],
        "chosen": true,
        "rejected": true.replace("shows", "shows a pink cat,"),
        "rule": "test",
    }
    return Pair(id=name, key=name, **{**values, **changes})


def moved(reference: Any, by: float) -> Any:
    """A copy of the network whose matrices differ a little."""
    import torch

    copied = copy.deepcopy(reference)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter += by * parameter.std() * torch.randn_like(parameter) if parameter.ndim > 1 else 0.0
    return copied


def section(tiny: Path, **changes: Any) -> Train:
    values = {"objective": {"kind": "dpo"}, "batch_size": 4, "epochs": 2, "learning_rate": 1e-2, "lora": {"rank": 4}, "warmup": 0}
    return Train.model_validate({"model": str(tiny), **values, **changes})


def lines(checkpoint: Checkpoint) -> list[dict]:
    return [json.loads(line) for line in checkpoint.log.read_text().splitlines()]


def spoil(store: Store, only: str = "", **changes: Callable[[Any], Any]) -> None:
    """Rewrite the stored reference, or one term of it."""
    for path in (store.root / "rows" / "reference").glob("*.parquet"):
        if "dropped" not in path.name:
            shard = Shard("reference", 0, path.stem)
            rows: list[Reference] = store.read(shard)
            spoilt = [replace(row, **{name: change(getattr(row, name)) for name, change in changes.items()}) for row in rows]
            store.write(shard, [new if only in ("", old.term) else old for old, new in zip(rows, spoilt, strict=True)])
