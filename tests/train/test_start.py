"""Before the first step the policy is its reference, or training stops and says which of them is wrong."""

import shutil
from functools import partial

import pytest

from sightline.errors import TrainingError
from sightline.execute import Task
from sightline.train import train
from sightline.train.features import Features

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


@pytest.mark.parametrize("parts", [{}, {"language_model": "full"}])
def test_kept_features_that_are_wrong_are_told_from_a_wrong_reference(tiny, executor, make_pairs, monkeypatch, parts):
    pairs, own = make_pairs(3), Features.of
    executor.run(Task("reference", section(tiny, **parts).reference_step(), ("pairs",)), [pairs])
    monkeypatch.setattr(Features, "of", lambda *given: [2 * one for one in own(*given)])
    with pytest.raises(TrainingError, match="kept features"):
        train(section(tiny, **parts), pairs, executor)


def test_a_chat_template_that_changed_behind_the_models_back_is_named(tiny, executor, make_pairs, monkeypatch, tmp_path):
    """A template in the model's folder that changes makes another reference; so the folder is kept from telling."""
    folder = shutil.copytree(tiny, tmp_path / "tiny")
    monkeypatch.setattr("sightline.train.fingerprint", lambda *model: "the same")
    pairs, template = make_pairs(3), folder / "chat_template.jinja"
    executor.run(Task("reference", section(folder).reference_step(), ("pairs",)), [pairs])
    template.write_text(template.read_text().replace("{{ '</s>' if", "{{ ' Yes.</s>' if"))
    with pytest.raises(TrainingError, match="chat template or tokenizer changed"):
        train(section(folder), pairs, executor)
