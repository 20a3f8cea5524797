"""The loss against hand arithmetic and against the published formulas."""

from math import exp, log

import pytest

from sightline.train.objectives import OBJECTIVES
from sightline.train.objectives.dpo import DPO

from .conftest import REFERENCE, logprobs


def test_loss_is_log_two_while_the_policy_still_equals_the_reference():
    assert DPO(beta=0.3).loss(REFERENCE, REFERENCE).value.item() == pytest.approx(log(2))


def test_loss_by_hand():
    # pair 1: (-2 + 3) - (-6 + 5) = 2; pair 2: (-10 + 9) - (-2.5 + 2) = -0.5
    policy = logprobs([-2.0, -10.0], [-6.0, -2.5])
    made = DPO(beta=0.5).loss(policy, REFERENCE)
    assert made.value.item() == pytest.approx((log(1 + exp(-1.0)) + log(1 + exp(0.25))) / 2)
    assert made.logs["margin"].item() == pytest.approx((1.0 - 0.25) / 2)
    assert made.logs["accuracy"].item() == 0.5
    assert made.logs["chosen_reward"].item() == pytest.approx(0.5 * (1 - 1) / 2)
    assert made.logs["rejected_reward"].item() == pytest.approx(0.5 * (-1 - 0.5) / 2)


def test_label_smoothing_is_the_conservative_loss_and_not_the_robust_one():
    policy = logprobs([-2.0, -9.0], [-6.0, -2.0])  # margins 2 and 0, times beta
    by_hand = [(0.9 * log(1 + exp(-1.0)) + 0.1 * log(1 + exp(1.0))), log(2)]
    assert DPO(beta=0.5, label_smoothing=0.1).loss(policy, REFERENCE).value.item() == pytest.approx(sum(by_hand) / 2)


def test_nll_adds_the_chosen_answers_mean_over_its_tokens():
    # -(-3)/4 and -(-9)/5, their mean, times the weight
    made = DPO(beta=0.1, nll=0.2).loss(REFERENCE, REFERENCE)
    assert made.value.item() == pytest.approx(log(2) + 0.2 * (0.75 + 1.8) / 2)
    assert made.logs["preference_loss"].item() == pytest.approx(log(2))
    assert made.logs["nll"].item() == pytest.approx((0.75 + 1.8) / 2)


def test_loss_equals_trls_sigmoid_formula():
    """TRL 1.x: logits = (chosen - rejected) - (ref_chosen - ref_rejected); losses = -logsigmoid(beta * logits)."""
    from torch.nn.functional import logsigmoid

    policy = logprobs([-7.5, -120.0], [-8.25, -33.0])
    logits = (policy["chosen"] - policy["rejected"]) - (REFERENCE["chosen"] - REFERENCE["rejected"])
    assert DPO(beta=0.1).loss(policy, REFERENCE).value.item() == pytest.approx((-logsigmoid(0.1 * logits)).mean().item())


def test_hopeless_margins_stay_finite():
    policy = logprobs([-1e5, -1e5], [-1.0, -1.0])
    assert DPO(beta=1.0).loss(policy, REFERENCE).value.isfinite()


def test_table_finds_it_by_its_kind():
    assert OBJECTIVES.read({"kind": "dpo", "beta": 0.2}) == DPO(beta=0.2)


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"nll": -1}, {"label_smoothing": 0.5}])
def test_numbers_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DPO(**wrong)
