"""mDPO, POVID, dense DPO and MCM-DPO against hand arithmetic and what was measured on the published code."""

from math import exp, log

import pytest
from torch import float64, tensor

from sightline.train.objectives import ALL_TERMS, Logprobs, Term
from sightline.train.objectives.ddpo import DDPO
from sightline.train.objectives.mcm_dpo import MCMDPO, PUBLISHED
from sightline.train.objectives.mdpo import MDPO
from sightline.train.objectives.povid import POVID


def cost(x: float) -> float:
    """-log sigmoid(x)"""
    return log(1 + exp(-x))


def gained(**gains: float) -> tuple[Logprobs, Logprobs]:
    """One pair whose terms gained this much on a reference of -10; names with __ for /."""
    names = {name.replace("__", "/"): gain for name, gain in gains.items()}
    counts = {name: tensor([5]) for name in names}
    policy = {name: tensor([-10.0 + gain], dtype=float64, requires_grad=True) for name, gain in names.items()}
    return Logprobs(policy, counts), Logprobs({name: tensor([-10.0], dtype=float64) for name in names}, counts)


def test_term_names_tell_what_is_not_the_pairs_own():
    assert Term("rejected", picture="negative", question="negative").name == "rejected/picture/question"
    assert Term.read("chosen/question") == Term("chosen", question="negative")
    assert Term.read("rejected").negatives == []
    assert [Term.read(term.name) for term in ALL_TERMS] == list(ALL_TERMS)
    assert Term("unrelated").negatives == ["response"] and Term("chosen", tokens="guessed").negatives == ["picture"]
    with pytest.raises(ValueError, match="no term is called"):
        Term.read("chosen/sound")


def test_mdpo_adds_three_sigmoids():
    policy, reference = gained(chosen=2.0, rejected=-1.0, chosen__picture=0.5)
    made = MDPO(beta=0.3, anchor=0.2).loss(policy, reference)
    assert made.value.item() == pytest.approx(cost(0.3 * 3) + cost(0.3 * 1.5) + cost(0.3 * 2 - 0.2))
    assert made.logs["picture_margin"].item() == pytest.approx(0.45)
    assert made.logs["preference_loss"].item() == pytest.approx(cost(0.9))


def test_mdpo_starts_at_three_times_log_two():
    policy, reference = gained(chosen=0.0, rejected=0.0, chosen__picture=0.0)
    assert MDPO().loss(policy, reference).value.item() == pytest.approx(3 * log(2))


def test_povid_is_half_dpo_and_half_dpo_against_the_guess():
    policy, reference = gained(chosen=2.0, rejected=-1.0, chosen__picture=9.0, chosen__guessed=0.5)
    made = POVID(beta=0.3).loss(policy, reference)
    assert made.value.item() == pytest.approx(0.5 * cost(0.3 * 3) + 0.5 * cost(0.3 * 1.5))
    assert made.logs["guess_margin"].item() == pytest.approx(0.45)
    other = POVID(beta=0.3, preference=0.2, guess=1.5, nll=0.1).loss(policy, reference)
    assert other.value.item() == pytest.approx(0.2 * cost(0.9) + 1.5 * cost(0.45) + 0.1 * 8 / 5)


def dense(**sums: tuple[float, float]) -> tuple[Logprobs, Logprobs]:
    """Policy and reference of one pair: chosen of 5 tokens, 2 changed; rejected of 10, none changed."""
    lengths = {"chosen": 5, "chosen/changed": 2, "rejected": 10, "rejected/changed": 0}
    counts = {name: tensor([length]) for name, length in lengths.items()}
    sides = [{name.replace("__", "/"): tensor([both[at]], dtype=float64) for name, both in sums.items()} for at in (0, 1)]
    return Logprobs(sides[0], counts), Logprobs(sides[1], counts)


def test_dense_dpo_counts_changed_tokens_gamma_times():
    """Chosen: 3 unchanged tokens gained 2, the 2 changed ones 4; rejected gained -1."""
    sums = {"chosen": (-4.0, -10.0), "chosen__changed": (-1.0, -5.0), "rejected": (-9.0, -8.0), "rejected__changed": (0.0, 0.0)}
    policy, reference = dense(**sums)
    assert DDPO(beta=0.1, gamma=5).loss(policy, reference).value.item() == pytest.approx(cost(0.1 * (2 + 5 * 4 + 1)))
    assert DDPO(beta=0.1, gamma=1).loss(policy, reference).value.item() == pytest.approx(cost(0.1 * (6 + 1)))
    averaged = DDPO(beta=0.1, gamma=5, length="average").loss(policy, reference)
    assert averaged.value.item() == pytest.approx(cost(0.1 * (22 / (3 + 5 * 2) + 1 / 10)))
    assert averaged.logs["chosen_reward"].item() == pytest.approx(0.1 * 22 / 13)


GAINS = {
    "chosen": 3.0, "rejected": -1.0, "chosen__picture": 0.5, "chosen__question": 1.0, "rejected__question": -2.0,
    "rejected__picture": -0.5, "chosen__picture__question": 0.25, "rejected__picture__question": -4.0,
}  # fmt: skip


def test_the_published_joint_loss_is_one_anchor_against_one_averaged_negative():
    policy, reference = gained(**GAINS)
    mean = (1.0 * -1 + 0.5 * 0.5 + 0.5 * 1 + 0.2 * (-2 - 0.5 + 0.25 - 4)) / 2.8
    made = MCMDPO().loss(policy, reference)
    assert made.value.item() == pytest.approx(cost(0.1 * (3 - mean)))
    assert made.logs["margin/chosen/picture"].item() == pytest.approx(0.1 * 2.5)
    assert made.logs["accuracy/rejected"].item() == 1
    assert sum(PUBLISHED.values()) == pytest.approx(2.8) and len(PUBLISHED) == 7


def test_separate_sigmoids_are_weighed():
    policy, reference = gained(**GAINS)
    made = MCMDPO(weights={"rejected": 3.0, "chosen/picture": 1.0}, combine="separate").loss(policy, reference)
    assert made.value.item() == pytest.approx(0.75 * cost(0.4) + 0.25 * cost(0.25))


@pytest.mark.parametrize(("nats", "slope"), [(0.0, 0.00893), (20.0, 0.00289)])
def test_the_joint_form_hides_a_picture_that_is_not_learned_behind_negatives_that_are(nats, slope):
    """Slopes measured on the published formula (facts/training.md, 1.4); the separate form keeps its slope."""
    down = {name: -nats for name in GAINS if name not in ("chosen", "chosen__picture")}
    slopes = {}
    for combine in ("joint", "separate"):
        policy, reference = gained(chosen=0.0, chosen__picture=0.0, **down)
        MCMDPO(combine=combine).loss(policy, reference).value.backward()
        slopes[combine] = policy["chosen/picture"].grad.item()
    assert slopes["joint"] == pytest.approx(slope, abs=1e-5)
    assert slopes["separate"] == pytest.approx(0.00893, abs=1e-5)


def test_a_subset_of_terms_asks_for_no_others():
    asked = MCMDPO(weights={"rejected": 1.0, "chosen/picture": 0.5}).needed_terms()
    assert [term.name for term in asked] == ["chosen", "rejected", "chosen/picture"]


def test_the_published_number_of_terms_is_divided_by_the_weights_of_all_seven():
    policy, reference = gained(chosen=3.0, rejected=-1.0, chosen__picture=0.5)
    published = MCMDPO(published_terms=2)
    assert [term.name for term in published.needed_terms()] == ["chosen", "rejected", "chosen/picture"]
    assert published.loss(policy, reference).value.item() == pytest.approx(cost(0.1 * (1.0 * 4 + 0.5 * 2.5) / 2.8))
    assert MCMDPO(published_terms=7).shares == MCMDPO().shares
