"""Sentences beside the curves: there when the numbers say so, and not otherwise."""

import math

import pytest

from sightline.report.readings import one_term_only, readings, rewards, settled_early, uneven_lengths, unmoved


def test_a_falling_chosen_reward_is_explained_and_a_failed_training_is_not_excused():
    assert "usual with DPO" in rewards([{"chosen_reward": -1.0, "rejected_reward": -4.0}])
    assert "became likelier" in rewards([{"chosen_reward": 1.0, "rejected_reward": -4.0}])
    assert "has not learned" in rewards([{"chosen_reward": -2.0, "rejected_reward": -1.0}])
    assert rewards([{"loss": 0.7}]) == ""


def test_a_loss_that_stays_at_log_two_is_named():
    still = [{"loss": 0.9, "preference_loss": math.log(2) + 0.001 * (-1) ** step} for step in range(12)]
    assert "never left log 2" in unmoved(still)
    assert not unmoved(still[:9])  # too few to say
    assert not unmoved([*still, {"loss": 0.8, "preference_loss": 0.65}])
    assert not unmoved([{"loss": 1.0} for _ in range(12)])  # a hinge loss starts at 1


def drifting(accuracy: list[float], **curves: list[float]) -> list[dict[str, float]]:
    return [
        {"step": step, "accuracy": right, **{name: curve[step] for name, curve in curves.items()}}
        for step, right in enumerate(accuracy)
    ]


def test_training_on_after_all_pairs_are_in_order_is_named_when_the_model_still_moves():
    early, late = [0.5, 0.8] + [1.0] * 18, [0.5] * 10 + [1.0] * 10
    growing, level = [0.01 * step for step in range(20)], [0.1] * 20
    assert settled_early(drifting(early, kl=growing)).startswith("From step 2 on")
    assert "KL estimate grew from 0.05 to 0.19" in settled_early(drifting(early, kl=growing))
    assert not settled_early(drifting(early, kl=[0.1 * drift for drift in growing]))  # it has hardly moved at all
    assert "gradient norm" in settled_early(drifting(early, kl=level, grad_norm=growing))
    assert not settled_early(drifting(early, kl=level, grad_norm=level))
    assert not settled_early(drifting(late, kl=growing))
    assert not settled_early(drifting([*early[:-1], 0.9], kl=growing))


def test_one_margin_of_several_that_grew_alone_is_named():
    alone = [{"margin/rejected": 3.0, "margin/chosen/picture": 0.1, "margin/chosen/question": -0.2}]
    assert "only that over rejected grew (3.00; chosen/picture 0.10, chosen/question \u22120.20)" in one_term_only(alone)
    assert not one_term_only([{**alone[0], "margin/chosen/picture": 1.5}])
    assert not one_term_only([{"margin/rejected": 3.0}])  # there is no other
    assert not one_term_only([{"margin": 3.0}])
    assert "only that over chosen/picture grew" in one_term_only([{"margin": -0.1, "picture_margin": 2.0}])


@pytest.mark.parametrize(
    ("chosen", "rejected", "said"), [(30, 20, "50\u00a0% longer"), (15, 20, "25\u00a0% shorter"), (22, 20, "")]
)
def test_answers_of_unlike_length_are_named_where_rewards_are_sums(chosen, rejected, said):
    line = {"chosen_tokens": chosen, "rejected_tokens": rejected, "log_ratio/chosen": -6.0, "log_ratio/rejected": -40.0}
    sums = [{**line, "chosen_reward": -0.6, "rejected_reward": -4.0}]
    means = [{**line, "chosen_reward": -0.6 / chosen, "rejected_reward": -4.0 / rejected}]
    assert said in uneven_lengths(sums) and bool(uneven_lengths(sums)) == bool(said)
    assert not uneven_lengths(means)
    assert not uneven_lengths([{"chosen_tokens": 30, "rejected_tokens": 20}])  # nothing was held against a reference


def test_an_ordinary_log_has_one_sentence_and_an_empty_one_none():
    log = [
        {"step": step, "loss": 0.69 * 0.9**step, "accuracy": min(1, 0.5 + 0.05 * step), "chosen_reward": 0.1 * step,
         "rejected_reward": -0.2 * step, "kl": 0.001 * step, "grad_norm": 2 - 0.05 * step, "chosen_tokens": 20,
         "rejected_tokens": 21, "log_ratio/chosen": step, "log_ratio/rejected": -2 * step}
        for step in range(20)
    ]  # fmt: skip
    assert len(readings(log)) == 1 and "became likelier" in readings(log)[0]
    assert readings([]) == [] and readings([{"step": 1, "loss": 0.7}]) == []
