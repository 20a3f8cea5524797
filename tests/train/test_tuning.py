"""What trains, and at which rate."""

import json

import pytest
import torch

from sightline.train import Train, tuning


@pytest.fixture
def network(tiny):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(tiny)


def section(**changes) -> Train:
    return Train.model_validate({"model": "tiny", "objective": {"kind": "dpo"}, **changes})


def test_adapters_go_on_every_linear_layer_of_the_language_model_and_nowhere_else(network):
    # width 32, inner 48; per layer 4 of 32 to 32, 2 of 32 to 48, 1 of 48 to 32; two layers; rank 4
    assert tuning.count_trained(tuning.tune(network, section(lora={"rank": 4}))) == {
        "vision_tower": 0,
        "projector": 0,
        "language_model": 2 * 4 * (4 * (32 + 32) + 3 * (32 + 48)),
    }


def test_parts_train_as_the_section_says_and_at_their_own_rates(network):
    mixed = section(
        vision_tower="lora", projector="full", vision_learning_rate=1e-6, projector_learning_rate=2e-5, weight_decay=0.1
    )
    tuned = tuning.tune(network, mixed)
    counts = tuning.count_trained(tuned)
    assert counts["projector"] == sum(value.numel() for value in network.model.multi_modal_projector.original_module.parameters())
    assert counts["vision_tower"] > 0
    groups = tuning.parameter_groups(tuned, mixed)
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(1e-6, 0.1), (2e-5, 0.1), (2e-5, 0.0), (2e-4, 0.1)}
    sizes = [sum(value.numel() for value in group["params"]) for group in groups]
    assert sum(sizes) == sum(counts.values())


def test_a_whole_language_model_trains_with_its_head_and_without_adapters(network):
    tuned = tuning.tune(network, section(language_model="full"))
    assert not tuning.is_adapter(tuned)
    assert tuned.lm_head.weight.requires_grad
    assert not any(value.requires_grad for value in tuned.model.vision_tower.parameters())


def test_the_adapters_settings_are_the_same_bytes_in_every_process_and_name_the_recipes_model(network, tmp_path):
    tuned = tuning.tune(network, section(vision_tower="lora"))
    tuning.save(tuned, tmp_path, "miniature/policy", None)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "miniature/policy"
    assert isinstance(settings["target_modules"], str)  # a list would be a set's, in an order that changes


def test_a_snapshot_brings_every_trained_number_back(network, tiny, tmp_path):
    from transformers import AutoModelForImageTextToText

    mixed = section(projector="full")
    tuned = tuning.tune(network, mixed)
    for value in tuned.parameters():
        if value.requires_grad:
            torch.nn.init.normal_(value)
    tuning.snapshot(tuned, tmp_path / "state.safetensors")
    other = tuning.tune(AutoModelForImageTextToText.from_pretrained(tiny), mixed)
    tuning.restore(other, tmp_path / "state.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(tuned.parameters(), other.parameters(), strict=True))
