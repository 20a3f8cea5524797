"""Before the first step the policy is its reference, or training stops and says which of them is wrong."""

import shutil
from functools import partial

import pytest

from sightline.errors import TrainingError
from sightline.execute import Task
from sightline.train import train

from .conftest import section, spoil


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"logprob": lambda value: value - 1}, "not this model's"),
        ({"num_tokens": lambda value: value + 1}, "template or tokenizer"),
    ],
)
def test_a_reference_that_is_not_the_policys_stops_training_before_the_first_step(
    tiny, store, executor, make_pairs, changes, cause
):
    pairs = make_pairs(3)
    executor.run(Task("reference", section(tiny).reference_step(), ("pairs",)), [pairs])
    spoil(store, **changes)
    with pytest.raises(TrainingError, match=cause):
        train(section(tiny), pairs, executor)


def test_an_adapter_that_changes_the_model_from_the_start_is_told_from_a_wrong_reference(tiny, executor, make_pairs, monkeypatch):
    import peft

    monkeypatch.setattr(peft, "LoraConfig", partial(peft.LoraConfig, init_lora_weights=False))
    with pytest.raises(TrainingError, match="adapter does not start neutral"):
        train(section(tiny), make_pairs(3), executor)


@pytest.mark.parametrize("parts", [{}, {"language_model": "full", "learning_rate": 1e-3}])
def test_kept_features_that_are_wrong_are_told_from_a_wrong_reference(tiny, store, executor, make_pairs, parts):
    from safetensors.torch import load_file, save_file

    pairs, kept = make_pairs(3), section(tiny, epochs=1, feature_cache_gb=0.1, **parts)
    shutil.rmtree(train(kept, pairs, executor).folder)
    for file in store.root.glob("features/**/*.safetensors"):
        save_file({name: 2 * features for name, features in load_file(file).items()}, file)
    with pytest.raises(TrainingError, match="kept features") as told:
        train(kept, pairs, executor)
    assert "folder features" in told.value.fix


def test_a_chat_template_that_changed_behind_the_models_back_is_named(tiny, executor, make_pairs, monkeypatch, tmp_path):
    """A template in the model's folder that changes makes another reference; so the folder is kept from telling."""
    folder = shutil.copytree(tiny, tmp_path / "tiny")
    monkeypatch.setattr("sightline.train.fingerprint", lambda *model: "the same")
    pairs, template = make_pairs(3), folder / "chat_template.jinja"
    executor.run(Task("reference", section(folder).reference_step(), ("pairs",)), [pairs])
    template.write_text(template.read_text().replace("{{ '</s>' if", "{{ ' Yes.</s>' if"))
    with pytest.raises(TrainingError, match="chat template or tokenizer changed"):
        train(section(folder), pairs, executor)
