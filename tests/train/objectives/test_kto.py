"""KTO by hand; test_against_trl.py holds it against TRL."""

from math import exp

import pytest
from torch import Tensor, float64, tensor

from sightline.train.objectives import OBJECTIVES, Logprobs
from sightline.train.objectives.kto import KTO

# a pair, a row without a chosen answer, one without a rejected
LENGTHS = {"chosen": [4, 0, 5], "rejected": [2, 10, 0], "unrelated": [3, 3, 3]}


def logprobs(chosen: list[float], rejected: list[float], unrelated: list[float]) -> Logprobs:
    def column(values: list[float]) -> Tensor:
        return tensor(values, dtype=float64, requires_grad=True)

    sums = {"chosen": column(chosen), "rejected": column(rejected), "unrelated": column(unrelated)}
    return Logprobs(sums, {name: tensor(counts) for name, counts in LENGTHS.items()})


REFERENCE = logprobs([-3.0, 0.0, -9.0], [-5.0, -2.0, 0.0], [-7.0, -7.0, -7.0])
POLICY = logprobs([-2.0, 0.0, -10.0], [-6.0, -2.5, 0.0], [-4.0, -8.0, -6.0])  # gains +1, -1 · -1, -0.5 · +3, -1, +1: the bar is 1


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_each_answer_that_is_there_counts_the_same():
    chosen = [1 - sigmoid(0.5 * (gain - 1)) for gain in (1, -1)]
    rejected = [1 - sigmoid(0.5 * (1 - gain)) for gain in (-1, -0.5)]
    made = KTO(beta=0.5).loss(POLICY, REFERENCE)
    assert made.value.item() == pytest.approx((sum(chosen) + sum(rejected)) / 4)
    weighed = KTO(beta=0.5, desirable_weight=1.5, undesirable_weight=0.7).loss(POLICY, REFERENCE)
    assert weighed.value.item() == pytest.approx((1.5 * sum(chosen) + 0.7 * sum(rejected)) / 4)


def test_it_starts_at_one_half_and_the_bar_never_falls_below_0():
    assert KTO().loss(REFERENCE, REFERENCE).value.item() == pytest.approx(0.5)
    lower = logprobs([-3.0, 0.0, -9.0], [-5.0, -2.0, 0.0], [-9.0, -9.0, -9.0])
    made = KTO().loss(lower, REFERENCE)
    assert made.value.item() == pytest.approx(0.5) and made.logs["kl"].item() == 0


def test_the_bar_and_what_is_missing_get_no_gradient():
    KTO(nll=1).loss(POLICY, REFERENCE).value.backward()
    chosen, rejected = (POLICY[side].grad for side in ("chosen", "rejected"))
    assert POLICY["unrelated"].grad is None
    assert (chosen != 0).tolist() == [True, False, True] and (rejected != 0).tolist() == [True, True, False]


def test_what_the_log_says_is_of_the_answers_that_are_there():
    made = KTO(beta=0.5).loss(POLICY, REFERENCE)
    told = {name: (value.item(), made.counts[name].item()) for name, value in made.logs.items() if name in made.counts}
    assert told["chosen_reward"] == (pytest.approx(0.5 * (1 - 1) / 2), 2)
    assert told["rejected_reward"] == (pytest.approx(0.5 * (-1 - 0.5) / 2), 2)
    assert told["margin"] == (pytest.approx(0.5 * 2), 1) and told["accuracy"] == (1, 1)
    assert told["nll"] == (pytest.approx((2 / 4 + 10 / 5) / 2), 2)
    assert made.logs["kl"].item() == 1


def test_rows_of_rejected_answers_alone_have_a_loss_and_no_chosen_reward():
    absent = {"chosen": tensor([0, 0]), "rejected": tensor([2, 3]), "unrelated": tensor([3, 3])}
    policy, reference = (
        Logprobs({name: tensor(values, dtype=float64) for name, values in sums.items()}, absent)
        for sums in (
            {"chosen": [0.0, 0.0], "rejected": [-3.0, -3.0], "unrelated": [-1.0, -1.0]},
            {"chosen": [0.0, 0.0], "rejected": [-2.0, -4.0], "unrelated": [-1.0, -1.0]},
        )
    )
    made = KTO(beta=1, nll=1).loss(policy, reference)
    assert made.value.item() == pytest.approx((1 - sigmoid(1) + 1 - sigmoid(-1)) / 2)
    assert made.counts["chosen_reward"] == made.counts["margin"] == 0
    assert all(value.isfinite() for value in made.logs.values())


def test_in_a_mixture_an_answer_that_another_part_needs_is_not_optional():
    parts = [{"objective": {"kind": "kto"}}, {"objective": {"kind": "sft"}}]
    optional = {term.name: term.optional for term in OBJECTIVES.read({"kind": "mix", "parts": parts}).needed_terms()}
    assert optional == {"chosen": False, "rejected": True, "unrelated": False}


def test_a_mixture_counts_what_it_tells_of_its_first_part():
    kto, dpo = {"objective": {"kind": "kto"}}, {"objective": {"kind": "dpo"}}
    first = OBJECTIVES.read({"kind": "mix", "parts": [kto, dpo]}).loss(POLICY, REFERENCE)
    assert first.counts["chosen_reward"] == 2 and "kto_loss" not in first.counts
    assert "chosen_reward" not in OBJECTIVES.read({"kind": "mix", "parts": [dpo, kto]}).loss(POLICY, REFERENCE).counts
