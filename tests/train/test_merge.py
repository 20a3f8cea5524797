"""A merged model says what base and adapter say together, and a tensor that does not arrive is an error."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.errors import RunError
from sightline.train import Train, train
from sightline.train.merge import merge


@pytest.fixture
def trained(tiny, executor, make_pairs) -> Path:
    values = {"objective": {"kind": "dpo"}, "batch_size": 4, "epochs": 2, "learning_rate": 1e-2, "projector": "lora"}
    return train(Train.model_validate({"model": str(tiny), **values}), make_pairs(6), executor).folder


def says(network) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=torch.arange(20, 40)[None]).logits


def test_a_merged_model_says_what_base_and_adapter_say(trained, tiny, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    made = merge(trained, tmp_path / "whole")
    base = AutoModelForImageTextToText.from_pretrained(tiny)
    alone = says(base)
    together = says(PeftModel.from_pretrained(base, trained))
    merged = says(AutoModelForImageTextToText.from_pretrained(tmp_path / "whole"))
    assert (together - alone).abs().max() > 0.1
    assert (merged - together).abs().max() < 1e-4
    assert AutoProcessor.from_pretrained(tmp_path / "whole", backend="pil").chat_template
    assert made.num_tensors == len(load_file(trained / "adapter_model.safetensors")) / 2
    assert (made.dtype, made.lost) == ("float32", 0)


def test_a_half_precision_base_stays_one_and_tells_how_much_of_the_update_rounding_moved(tiny, executor, make_pairs, tmp_path):
    from transformers import AutoModelForImageTextToText

    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.bfloat16).save_pretrained(base)
    values = {"objective": {"kind": "dpo"}, "batch_size": 4, "epochs": 1, "learning_rate": 1e-3, "dtype": "float32"}
    section = Train.model_validate({"model": str(base), **values})
    made = merge(train(section, make_pairs(6), executor).folder, tmp_path / "whole")
    assert made.dtype == "bfloat16" and 0 < made.lost < 1
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "whole", dtype="auto").dtype == torch.bfloat16


def test_an_adapter_of_another_model_is_refused_by_the_tensors_name(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    tensors = load_file(trained / "adapter_model.safetensors")
    lost = {"base_model.model.model.language_model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(16, 32)}
    save_file({**tensors, **lost}, tmp_path / "copy" / "adapter_model.safetensors")
    with pytest.raises(RunError, match=r"layers\.9"):
        merge(tmp_path / "copy", tmp_path / "whole")


def test_what_cannot_be_merged_is_refused(trained, tmp_path):
    with pytest.raises(RunError, match="no trained checkpoint"):
        merge(tmp_path, tmp_path / "whole")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(RunError, match="not empty"):
        merge(trained, tmp_path / "full")
