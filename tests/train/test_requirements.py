"""What training asks of the machine and the launch, before anything is computed."""

from importlib.util import find_spec

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from sightline.errors import UserError
from sightline.train import requirements, train

from .conftest import section


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"report_to": "tensorboard"}, "pip install tensorboard"),
        ({"report_to": ["wandb"]}, "pip install wandb"),
        ({"report_to": "tensorbord"}, "did you mean 'tensorboard'"),
        ({"fsdp": True}, "nothing would be sharded here"),
        ({"fsdp": True, "fsdp_config": {"fsdp_version": 1}}, "only FSDP2"),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, "use stage 2, or fsdp"),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "nothing would be sharded here"),
    ],
)
def test_what_this_machine_lacks_is_said_before_anything_is_computed(tiny, store, executor, make_pairs, arguments, problem):
    for package in ("tensorboard", "tensorboardX", "wandb"):
        if find_spec(package):
            pytest.skip(f"{package} is installed here")
    with pytest.raises(UserError, match=problem):
        train(section(tiny, trainer_args=arguments), make_pairs(3), executor)
    assert not list((store.root / "rows").glob("reference*"))


def test_a_step_that_processes_cannot_share_evenly_is_refused(tiny, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="multiple of 6"):
        requirements.check(section(tiny, batch_size=4, accumulation=2))
    requirements.check(section(tiny, batch_size=12, accumulation=2))


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_what_accelerate_was_told_to_shard_is_no_plain_copy_either(tiny, monkeypatch, name):
    monkeypatch.setenv(name, "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(UserError, match="nothing would be sharded here"):
        requirements.check(section(tiny))


def test_a_finished_training_asks_for_nothing(tiny, store, executor, make_pairs, monkeypatch):
    """So that what several GPUs trained is evaluated on one."""
    pairs, tracked = make_pairs(3), section(tiny, epochs=1, trainer_args={"report_to": "mlflow"})
    monkeypatch.setitem(requirements.TRACKERS, "mlflow", ("mlflow", "json"))
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "mlflow", TrainerCallback)
    finished = train(tracked, pairs, executor)
    monkeypatch.setitem(requirements.TRACKERS, "mlflow", ("mlflow", "no_such_package"))
    assert train(tracked, pairs, executor).folder == finished.folder
