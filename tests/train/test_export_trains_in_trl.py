"""What `sightline export --format trl` writes trains in TRL's own DPOTrainer, on the tokens and pictures that the pairs say."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.engines.transformers import load_processor
from sightline.execute import Use
from sightline.formats import export_rows
from sightline.rows import Pair
from sightline.store.folders import RowFolder

from .conftest import draw_pairs

trl = pytest.importorskip("trl", reason="TRL, a development dependency, is not installed")


@pytest.fixture
def pairs(store) -> list[Pair]:
    return draw_pairs(store, 4)


@pytest.fixture
def processor(tiny) -> Any:
    """Its template writes the first token: TRL 1.16 leaves that out of a template that does not, as LLaVA-1.5's."""
    found = load_processor(str(tiny))
    found.chat_template = "{{ '<s>' }}" + found.chat_template
    return found


def opened(pairs: list[Pair], store: Any, format: str, out: Path, cache: Path) -> Any:
    """The export, as `datasets` opens it."""
    import datasets

    done = export_rows(RowFolder.write(store.root, "pairs", pairs, {"format": "none"}), format, out)
    return datasets.Dataset.from_parquet(str(done.file), cache_dir=str(cache))


def by_hand(pairs: list[Pair], store: Any) -> list[dict[str, Any]]:
    """The rows as TRL documents them, built from the pairs."""
    from sightline.engines import Engines

    use = Use(Engines({}), store, 0)
    return [
        {
            "images": [use.picture(name) for name in pair.pictures],
            "prompt": [{"role": "user", "content": pair.instruction}],
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in pairs
    ]


@pytest.mark.parametrize("format", ["trl", "datasets"])
def test_an_export_trains_in_trl(tiny, store, pairs, processor, tmp_path, format):
    from transformers import AutoModelForImageTextToText

    rows = opened(pairs, store, format, tmp_path / "out", tmp_path / "cache")
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)
    before = copy.deepcopy(model.state_dict())
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "run"), max_length=None, per_device_train_batch_size=2, max_steps=3, learning_rate=1e-3,
        logging_steps=1, use_cpu=True, bf16=False, report_to="none", save_strategy="no", gradient_checkpointing=False,
        disable_dropout=True, seed=0, lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = trl.DPOTrainer(model=model, args=arguments, train_dataset=rows, processing_class=processor)
    collated, expected = trainer.data_collator([rows[at] for at in range(4)]), trainer.data_collator(by_hand(pairs, store))
    assert collated.keys() == expected.keys()
    assert all(torch.equal(collated[name], expected[name]) for name in expected)
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == 3 and losses[0] == pytest.approx(math.log(2), abs=1e-3)
    assert min(losses[1:]) < losses[0] - 1e-3
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
