"""The other objectives against hand arithmetic; test_against_trl.py holds those that TRL has against TRL."""

from math import exp, log

import pytest
from torch import float64, tensor

from sightline.train.objectives import OBJECTIVES, Logprobs
from sightline.train.objectives.bco import BCO
from sightline.train.objectives.dpo import DPO
from sightline.train.objectives.hinge import Hinge
from sightline.train.objectives.ipo import IPO
from sightline.train.objectives.mix import MPO, Mix
from sightline.train.objectives.orpo import ORPO
from sightline.train.objectives.robust import Robust
from sightline.train.objectives.sft import SFT
from sightline.train.objectives.simpo import SimPO

from .conftest import REFERENCE, logprobs

POLICY = logprobs([-2.0, -10.0], [-6.0, -2.5])  # gains: chosen +1 and -1, rejected -1 and -0.5


def cost(x: float) -> float:
    """-log sigmoid(x)"""
    return log(1 + exp(-x))


def value(objective, policy: Logprobs = POLICY) -> float:
    return objective.loss(policy, REFERENCE).value.item()


def test_dpo_averaged_over_tokens():
    gaps = [1 / 4 + 1 / 2, -1 / 5 + 0.5 / 10]
    assert value(DPO(beta=2, length="average")) == pytest.approx((cost(2 * gaps[0]) + cost(2 * gaps[1])) / 2)


def test_robust_takes_out_the_bias_of_flipped_labels():
    one = [(0.8 * cost(0.5 * gap) - 0.2 * cost(-0.5 * gap)) / 0.6 for gap in (2.0, -0.5)]
    assert value(Robust(beta=0.5, label_smoothing=0.2)) == pytest.approx(sum(one) / 2)
    assert value(Robust(beta=0.5, label_smoothing=0)) == pytest.approx(value(DPO(beta=0.5)))


def test_ipo_wants_one_gap_and_no_wider():
    gaps = [1 / 4 + 1 / 2, -1 / 5 + 0.5 / 10]
    assert value(IPO(beta=0.4)) == pytest.approx(sum((gap - 1.25) ** 2 for gap in gaps) / 2)


def test_hinge_is_zero_past_its_margin():
    assert value(Hinge(beta=0.5)) == pytest.approx((0 + 1.25) / 2)  # margins 1 and -0.25


def test_bco_without_a_bar():
    made = [cost(0.5 * chosen) + cost(-0.5 * rejected) for chosen, rejected in ((1, -1), (-1, -0.5))]
    assert value(BCO(beta=0.5, delta="none")) == pytest.approx(sum(made) / 2)


def test_bcos_bar_is_the_mean_of_all_rewards_so_far_and_is_remembered():
    bco = BCO(beta=0.5)
    first = (0.5 * (1 - 1) + 0.5 * (-1 - 0.5)) / 4
    made = [cost(0.5 * chosen - first) + cost(first - 0.5 * rejected) for chosen, rejected in ((1, -1), (-1, -0.5))]
    assert value(bco) == pytest.approx(sum(made) / 2)

    later = logprobs([1.0, -1.0], [-5.0, -2.0])  # gains: chosen +4 and +8, rejected 0
    resumed = BCO(beta=0.5)
    resumed.restore(bco.state())
    bar = (4 * first + 0.5 * (4 + 8)) / 8
    made = [cost(0.5 * chosen - bar) + cost(bar) for chosen in (4, 8)]
    assert value(bco, later) == value(resumed, later) == pytest.approx(sum(made) / 2)
    resumed.restore({})
    assert value(resumed) == pytest.approx(value(BCO(beta=0.5)))


def test_simpo_compares_means_and_reads_no_reference():
    nothing = logprobs([float("nan")] * 2, [float("nan")] * 2)
    margins = [2 * (-2 / 4 + 6 / 2), 2 * (-10 / 5 + 2.5 / 10)]
    made = SimPO(beta=2, gamma=0.5).loss(POLICY, nothing).value.item()
    assert made == pytest.approx((cost(margins[0] - 0.5) + cost(margins[1] - 0.5)) / 2)
    assert not SimPO().needs_reference


def test_orpo_adds_the_odds_ratio_to_the_chosen_answers_loss():
    def odds(mean: float) -> float:
        return log(exp(mean) / (1 - exp(mean)))

    ratios = [odds(-0.5) - odds(-3.0), odds(-2.0) - odds(-0.25)]
    expected = (0.5 + 2.0) / 2 + 0.3 * (cost(ratios[0]) + cost(ratios[1])) / 2
    made = ORPO(beta=0.3).loss(POLICY, POLICY)
    assert made.value.item() == pytest.approx(expected)
    assert made.logs["margin"].item() == pytest.approx(0.3 * sum(ratios) / 2)


def test_orpo_stays_finite_where_an_answer_is_certain():
    policy = logprobs([0.0, -10.0], [-6.0, -2.5])
    policy.sums["chosen"].requires_grad_()
    made = ORPO().loss(policy, policy).value
    made.backward()
    assert made.isfinite() and policy["chosen"].grad.isfinite().all()


def test_sft_counts_every_token_of_the_step_the_same():
    assert value(SFT()) == pytest.approx((2 + 10) / (4 + 5))


def test_sft_in_parts_is_sft_of_the_whole():
    """A part knows how many tokens a pair of the whole step has on average; means over pairs then add up."""
    parts = [
        Logprobs({"chosen": tensor([chosen], dtype=float64)}, {"chosen": tensor([count])}, {"chosen": 4.5})
        for chosen, count in ((-2.0, 4), (-10.0, 5))
    ]
    assert sum(SFT().loss(part, part).value.item() for part in parts) / 2 == pytest.approx((2 + 10) / (4 + 5))


def test_a_mixture_adds_its_parts_and_logs_each():
    parts = [{"weight": 0.7, "objective": {"kind": "dpo", "beta": 0.5}}, {"weight": 2, "objective": {"kind": "sft"}}]
    mix = OBJECTIVES.read({"kind": "mix", "parts": parts})
    assert isinstance(mix, Mix)
    assert value(mix) == pytest.approx(0.7 * value(DPO(beta=0.5)) + 2 * 12 / 9)
    logs = mix.loss(POLICY, REFERENCE).logs
    assert logs["dpo_loss"].item() == pytest.approx(value(DPO(beta=0.5)))
    assert logs["sft_loss"].item() == pytest.approx(12 / 9)
    assert mix.needs_reference and [term.name for term in mix.needed_terms()] == ["chosen", "rejected"]


def test_a_mixture_of_reference_free_objectives_needs_none():
    parts = [{"objective": {"kind": "sft"}}, {"objective": {"kind": "simpo"}}]
    assert not OBJECTIVES.read({"kind": "mix", "parts": parts}).needs_reference


def test_mpo_is_internvls_mixture():
    expected = 0.8 * value(DPO(beta=0.1)) + 0.2 * value(BCO(beta=0.1)) + 1.0 * 12 / 9
    assert value(MPO()) == pytest.approx(expected)
    assert value(MPO(delta="none")) == pytest.approx(expected + 0.2 * (value(BCO(beta=0.1, delta="none")) - value(BCO(beta=0.1))))


def test_mpo_remembers_its_bar():
    mpo, resumed = MPO(), MPO()
    before = value(mpo)
    assert value(mpo, REFERENCE) != value(resumed, REFERENCE)
    resumed.restore({})
    assert value(resumed) == pytest.approx(before)
    resumed.restore(mpo.state())
    assert value(resumed) == pytest.approx(value(mpo))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "ipo", "length": "sum"},
        {"kind": "robust", "label_smoothing": 0.5},
        {"kind": "mix", "parts": []},
        {"kind": "orpo", "beta": 0},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        OBJECTIVES.read(wrong)
