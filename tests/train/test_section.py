"""The recipe's train section: what it refuses, and what it passes on."""

import dataclasses
import subprocess
import sys

import pytest
from pydantic import ValidationError

from sightline.errors import RecipeError
from sightline.plugin import recipe_error
from sightline.train import DECIDING_ARGS, QUIET_ARGS, Train


def refusal(**changes) -> RecipeError:
    with pytest.raises(ValidationError) as caught:
        Train.model_validate({"model": "m", "objective": {"kind": "dpo"}, **changes})
    return recipe_error(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"language_model": "frozen"}, "nothing trains"),
        ({"language_model": "full", "projector": "lora"}, "cannot train together"),
        ({"projector": "full", "dtype": "bfloat16"}, "small updates"),
        ({"batch_size": 6, "accumulation": 4}, "multiple of accumulation"),
        ({"trainer_args": {"adam_beta3": 1}}, "did you mean 'adam_beta"),
        ({"trainer_args": {"learning_rate": 1}}, "not passed on"),
        ({"reference": "live", "language_model": "full"}, "leaves no untrained model"),
        ({"reference": "none"}, "of the objectives, orpo, sft, simpo need none"),
        ({"negatives": {"noise_step": 500}}, "asks for no negatives"),
        ({"objective": {"kind": "mcm_dpo", "published_terms": 1}}, "1 trains on two"),
        ({"objective": {"kind": "mcm_dpo", "published_terms": 2, "weights": {"rejected": 1.0}}}, "weights of its own"),
        ({"objective": {"kind": "mcm_dpo", "weights": {"chosen/sound": 1}}}, "no negative is called 'chosen/sound'"),
        ({"objective": {"kind": "mcm_dpo", "weights": {"rejected": 0}}}, "must be above 0"),
        ({"objective": {"kind": "dpa"}}, "known: bco, ddpo"),
        ({"epochs": 0}, "greater than 0"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(changes, said):
    assert said in str(refusal(**changes))


@pytest.mark.parametrize("kind", ["sft", "simpo", "orpo"])
def test_an_objective_that_reads_no_reference_takes_none(kind):
    train = Train.model_validate({"model": "miniature/policy", "objective": {"kind": kind}, "reference": "none"})
    assert not train.reference_step().computed


def test_arguments_that_are_passed_on_exist():
    from transformers import TrainingArguments

    assert {*QUIET_ARGS, *DECIDING_ARGS} <= {field.name for field in dataclasses.fields(TrainingArguments)}


def test_the_section_needs_no_torch():
    code = (
        "import sys; from sightline.train import Train;"
        "Train.model_validate({'model': 'm', 'objective': {'kind': 'dpo'}}); print('torch' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "False"
