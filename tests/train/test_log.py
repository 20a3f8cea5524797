"""The log: what it says of each step, and to whom."""

from math import exp

import pytest
import torch
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from sightline.train import requirements, train
from sightline.train.log import Means, measured, told_by
from sightline.train.objectives import Logprobs, Loss

from .conftest import lines, section


def test_the_log_says_how_far_and_how_long(tiny, executor, make_pairs):
    """A reward is beta, 0.1, times a log-ratio."""
    told = lines(train(section(tiny), make_pairs(6), executor))
    last = told[-1]
    assert last["log_ratio/chosen"] == pytest.approx(last["chosen_reward"] / 0.1, rel=1e-5)
    assert last["log_ratio/rejected"] == pytest.approx(last["rejected_reward"] / 0.1, rel=1e-5)
    assert last["kl"] > 0 and last["num_pairs"] == 2
    assert all(line["pairs_per_second"] > 0 and line["tokens_per_second"] > line["pairs_per_second"] for line in told)


def test_means_leave_out_pairs_that_lack_an_answer():
    """By hand: log-ratios of 2 over 4 tokens and of -6 over 3 are 0.5 and -2 a token; k3 is exp(d) - 1 - d."""
    counts = {"chosen": torch.tensor([4, 0]), "rejected": torch.tensor([0, 3])}
    policy = Logprobs({"chosen": torch.tensor([-8.0, 0.0]), "rejected": torch.tensor([0.0, -9.0])}, counts)
    reference = Logprobs({"chosen": torch.tensor([-10.0, 0.0]), "rejected": torch.tensor([0.0, -3.0])}, counts)
    means = Means()
    means.start()
    means.count(2, 30)
    means.add(told_by(Loss(torch.tensor(0.0), {"margin": torch.tensor(1.5)}), 2) | measured(policy, reference))
    nobody = {"chosen": torch.tensor([0]), "rejected": torch.tensor([0])}
    zeros = Logprobs({"chosen": torch.zeros(1), "rejected": torch.zeros(1)}, nobody)
    means.count(1, 10)
    means.add(told_by(Loss(torch.tensor(0.0), {"margin": torch.tensor(0.0)}), 1) | measured(zeros, zeros))
    told = means.take()
    assert (told["log_ratio/chosen"], told["log_ratio/rejected"]) == (2.0, -6.0)
    assert (told["chosen_tokens"], told["rejected_tokens"]) == (4.0, 3.0)
    assert told["kl"] == pytest.approx(((exp(0.5) - 1.5) + (exp(-2) + 1)) / 2)
    assert (told["margin"], told["num_pairs"], told["num_tokens"]) == (1.0, 3, 40)
    assert measured(zeros, None).keys() == {"chosen_tokens", "rejected_tokens"}


def test_the_librarys_trackers_are_told_what_the_log_says(tiny, executor, make_pairs, monkeypatch):
    told = []

    class Recorder(TrainerCallback):
        def on_log(self, args, state, control, logs, **rest):
            told.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "recorder", Recorder)
    monkeypatch.setitem(requirements.TRACKERS, "recorder", ("recorder", "json"))
    checkpoint = train(section(tiny, trainer_args={"report_to": "recorder"}), make_pairs(6), executor)
    assert told[: len(lines(checkpoint))] == lines(checkpoint)
