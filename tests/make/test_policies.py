"""Policies that draw or make many pairs, and those of faultless answers; every expected pair is worked out by hand."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest

from sightline.engines import Engines
from sightline.execute import Execution, Executor, Task, Use
from sightline.make.balance import Balance
from sightline.make.pairs import PAIRS
from sightline.rows import Annotation, Dropped, Instruction, Pair, Response
from sightline.store.shards import Store
from tests.make.rows import annotation, instruction, response

ANSWERS = {"a": "a red cup", "b": "a red cup and a cat", "c": "a tree", "d": "a car"}
# mllm-dpo's attributes: a sums to 12, b to 11, c to 10, d to 7; complexity would turn the order round
RATED = {
    "a": {"helpfulness": 4.0, "correctness": 4.0, "coherence": 4.0, "complexity": 0.0},
    "b": {"helpfulness": 4.0, "correctness": 3.0, "coherence": 4.0, "complexity": 1.0},
    "c": {"helpfulness": 3.0, "correctness": 3.0, "coherence": 4.0, "complexity": 3.0},
    "d": {"helpfulness": 2.0, "correctness": 2.0, "coherence": 3.0, "complexity": 4.0},
}
SUM = {"judge.helpfulness": 1.0, "judge.correctness": 1.0, "judge.coherence": 1.0}


def rated(aspects: dict[str, dict[str, float]] = RATED, by: str = "judge") -> list[Annotation]:
    return [replace(annotation(name, by, sum(given.values())), aspects=given) for name, given in aspects.items()]


def scored(**scores: float | None) -> list[Annotation]:
    return [annotation(name, "judge", score, None if score is not None else "unreadable") for name, score in scores.items()]


def settle(tmp_path, policy: dict, given: list, answers=ANSWERS, seed: int = 0, ask: str = "ask") -> list[Pair | Dropped]:
    asked: list[Instruction] = [replace(instruction(), id=ask)]
    rows: list[list[Response]] = [[response(name, text, about=ask)] for name, text in answers.items()]
    return list(PAIRS.read(policy).make(Use(Engines({}), Store(tmp_path), seed), asked, *rows, given))


def named(made: list[Pair | Dropped]) -> list[str]:
    """Chosen and rejected answer of each pair: ab."""
    return sorted(f"{row.chosen_id}{row.rejected_id or ''}" for row in made if isinstance(row, Pair))


def reasons(made: list[Pair | Dropped]) -> dict[str, int]:
    return dict(Counter(row.reason for row in made if isinstance(row, Dropped)))


def test_the_best_by_some_attributes_meets_one_that_is_lower_by_the_margin(tmp_path):
    drawn = Counter()
    for seed in range(200):
        (pair,) = settle(tmp_path, {"kind": "margin", "weights": SUM}, rated(), seed=seed)
        assert (pair.chosen_score, pair.rejected_score) == (12.0, {"c": 10.0, "d": 7.0}[pair.rejected_id])
        drawn[pair.chosen_id + pair.rejected_id] += 1
    assert drawn.keys() == {"ac", "ad"} and 70 < drawn["ac"] < 130  # b is lower by 1 only; 100 expected, deviation 7


def test_the_draw_follows_from_the_seed_and_the_instruction(tmp_path):
    policy = {"kind": "margin", "weights": SUM}
    asked = [named(settle(tmp_path, policy, rated(), ask=f"ask-{place}")) for place in range(20)]
    assert asked == [named(settle(tmp_path, policy, rated(), ask=f"ask-{place}")) for place in range(20)]
    assert asked != [named(settle(tmp_path, policy, rated(), ask=f"ask-{place}", seed=1)) for place in range(20)]
    assert {tuple(names) for names in asked} == {("ac",), ("ad",)}


@pytest.mark.parametrize(
    ("given", "fields", "expected"),
    [
        (scored(a=3.0, b=1.0, c=1.5, d=2.0), {}, ["ab"]),
        (scored(a=3.0, b=1.5, c=1.5, d=2.0), {}, {"no pair: gap below min_gap": 1}),
        (scored(a=3.0, b=3.0, c=3.0, d=3.0), {}, {"no pair: both answers score the same": 1}),
        (scored(a=3.0, b=3.0, c=3.0, d=3.0), {"min_gap": 0.0}, {"no pair: both answers score the same": 1}),
        (scored(a=3.0, b=None, c=None, d=None), {}, {"answer has no score": 3, "no pair: fewer than two answers left": 1}),
        (scored(a=3.0, b=None, c=1.0, d=2.0), {}, ["ac"]),
        # b, of six words, would do but for its length; against c, of two words, a's three are few enough
        (scored(a=3.0, b=0.0, c=1.0, d=2.0), {"max_length_ratio": 1.5}, ["ac"]),
        (scored(a=2.5, b=0.5, c=1.0, d=1.0), {"max_length_ratio": 1.5}, {"no pair: lengths too unlike": 1}),
    ],
)
def test_a_margin_is_kept_or_there_is_no_pair(tmp_path, given, fields, expected):
    made = settle(tmp_path, {"kind": "margin", "weights": {"judge": 1.0}, **fields}, given)
    if isinstance(expected, dict):
        assert named(made) == [] and reasons(made) == expected
    else:
        assert named(made) == expected


def test_several_best_answers_are_drawn_from(tmp_path):
    policy, given = {"kind": "margin", "weights": {"judge": 1.0}}, scored(a=4.0, b=4.0, c=3.0, d=0.0)
    assert {name for seed in range(40) for name in named(settle(tmp_path, policy, given, seed=seed))} == {"ad", "bd"}


EVERY = {"kind": "all_pairs", "weights": {"judge": 1.0}}
MEANS = scored(a=14 / 3, b=13 / 3, c=13 / 3, d=3.0)


def test_every_pair_of_different_means_is_made_and_ties_are_counted(tmp_path):
    made = settle(tmp_path, EVERY, MEANS)
    assert named(made) == ["ab", "ac", "ad", "bd", "cd"]
    assert reasons(made) == {"no pair: both answers score the same": 1}
    assert len({row.id for row in made if isinstance(row, Pair)}) == 5
    assert all(row.chosen_score > row.rejected_score and row.rule == "all_pairs" for row in made if isinstance(row, Pair))


def test_what_two_answers_lack_for_a_pair_is_counted_pair_by_pair(tmp_path):
    made = settle(tmp_path, {**EVERY, "min_gap": 1.0, "max_length_ratio": 2.0}, MEANS)
    assert named(made) == ["ad", "cd"]  # gaps: ab and ac 1/3, ad 5/3, bd and cd 4/3; b has six words, c and d two, a three
    assert reasons(made) == {
        "no pair: both answers score the same": 1,
        "no pair: gap below min_gap": 2,
        "no pair: lengths too unlike": 1,
    }


def test_an_instruction_gives_no_more_pairs_than_allowed(tmp_path):
    seen = Counter()
    for seed in range(300):
        made = settle(tmp_path, {**EVERY, "per_instruction": 2}, MEANS, seed=seed)
        assert len(named(made)) == 2
        assert reasons(made) == {"no pair: both answers score the same": 1, "no pair: more than per_instruction": 3}
        seen.update(named(made))
    assert seen.keys() == {"ab", "ac", "ad", "bd", "cd"} and all(
        85 < count < 155 for count in seen.values()
    )  # 120, deviation 8.5
    assert len(named(settle(tmp_path, {**EVERY, "per_instruction": 9}, MEANS))) == 5


def test_rounding_errors_are_ties(tmp_path):
    given = [annotation(name, by, score) for name, by, score in [("a", "x", 3), ("a", "y", 0), ("b", "x", 0), ("b", "y", 1)]]
    assert 0.1 * 3 != 0.3 * 1
    made = settle(tmp_path, {"kind": "all_pairs", "weights": {"x": 0.1, "y": 0.3}}, given, {"a": "a cup", "b": "a cat"})
    assert reasons(made) == {"no pair: both answers score the same": 1} and named(made) == []


def test_one_answer_or_none_gives_no_pair(tmp_path):
    for answers, given in (({"a": "a red cup"}, scored(a=1.0)), ({}, [])):
        made = settle(tmp_path, EVERY, given, answers)
        assert named(made) == [] and reasons(made) == {"no pair: fewer than two answers left": 1}


def test_rejected_claims_order_answers_whatever_credit_the_others_had(tmp_path):
    counted = {"a": (3, 0), "b": (9, 1), "c": (9, 2), "d": (4, 2)}  # claims, rejected; with credit b and c score above a
    given = [
        replace(
            annotation(name, "claims", claims - 2.0 * rejected), aspects={"claims": float(claims), "rejected": float(rejected)}
        )
        for name, (claims, rejected) in counted.items()
    ]
    made = settle(tmp_path, {"kind": "all_pairs", "weights": {"claims.rejected": -1.0}, "min_gap": 1.0}, given)
    assert named(made) == ["ab", "ac", "ad", "bc", "bd"]
    assert {row.chosen_id: row.chosen_score for row in made if isinstance(row, Pair)} == {"a": 0.0, "b": -1.0}


def test_an_aspect_that_is_not_there_is_no_score(tmp_path):
    made = settle(tmp_path, {"kind": "margin", "weights": {"judge.helpfullness": 1.0}}, rated())
    assert reasons(made) == {"answer has no score": 4, "no pair: fewer than two answers left": 1}
    assert "did you mean 'helpfulness'" in made[0].detail
    unread = [replace(row, score=None, reason="cut") if row.response_id == "d" else row for row in rated()]
    assert named(settle(tmp_path, {"kind": "margin", "weights": SUM}, unread)) == ["ac"]


def test_answers_at_the_top_of_all_scales_are_learned_by_themselves(tmp_path):
    both = {"kind": "all_perfect", "top": {"judge.helpfulness": 4.0, "judge.coherence": 4.0}}
    made = settle(tmp_path, both, rated())
    assert [(row.chosen, row.rejected, row.chosen_score) for row in made if isinstance(row, Pair)] == [
        ("a red cup", None, 8.0),
        ("a red cup and a cat", None, 8.0),
    ]
    below = {row.row_id: (row.reason, row.detail) for row in made if isinstance(row, Dropped)}
    assert below == {
        "c": ("answer is not perfect", "judge.helpfulness 3"),
        "d": ("answer is not perfect", "judge.coherence 3, judge.helpfulness 2"),
    }
    assert named(settle(tmp_path, {"kind": "all_perfect", "top": dict.fromkeys(SUM, 4.0)}, rated())) == ["a"]
    made = settle(tmp_path, {"kind": "all_perfect", "top": {"judge": 4.0}}, scored(a=None), {"a": "a cup"})
    assert reasons(made) == {"answer has no score": 1, "no row: no answer left": 1}


@pytest.mark.parametrize(
    "text",
    [
        "I cannot see the picture.",
        "I can\u2019t help with that.",
        "Sorry, but that is not possible.",
        "I'm sorry, there is no picture.",
        "Unfortunately, I am unable to tell.",
        "As an AI, I see no pictures.",
        "*I apologize*, but no.",
    ],
)
def test_refusals_take_part_unless_they_shall_not(tmp_path, text):
    given, answers = scored(a=2.0, b=1.0, c=0.0), {"a": "a cup", "b": "a cat", "c": text}
    assert named(settle(tmp_path, EVERY, given, answers)) == ["ab", "ac", "bc"]
    made = settle(tmp_path, {**EVERY, "allow_refusals": False}, given, answers)
    assert named(made) == ["ab"] and reasons(made) == {"answer is a refusal": 1}


@pytest.mark.parametrize(
    "text", ["Sorry-looking dogs.", "I see a cup.", "The sign says: I cannot swim.", "As an AI-made picture, it has six fingers."]
)
def test_answers_that_only_hold_the_words_are_no_refusals(tmp_path, text):
    made = settle(tmp_path, {**EVERY, "allow_refusals": False}, scored(a=2.0, b=1.0), {"a": "a cup", "b": text})
    assert named(made) == ["ab"]


@pytest.mark.parametrize(
    "policy",
    [
        {"kind": "margin", "weights": SUM, "min_gap": 1.0},
        {"kind": "all_pairs", "weights": SUM},
        {"kind": "all_pairs", "weights": SUM, "per_instruction": 2},
        {"kind": "best_worst", "weights": SUM},
    ],
)
def test_the_order_of_answers_changes_nothing(tmp_path, policy):
    expected = [row for row in settle(tmp_path, policy, rated()) if isinstance(row, Pair)]
    for order in permutations(ANSWERS):
        answers = {name: ANSWERS[name] for name in order}
        assert [row for row in settle(tmp_path, policy, rated()[::-1], answers) if isinstance(row, Pair)] == expected


def carried_out(folder, rows: dict[str, list], task: Task, **execution: int) -> dict[str, bytes]:
    """The stored rows of a step, by file."""
    store = Store(folder)
    with Executor(store, Engines({}), 0, Execution(**execution)).working() as hands:
        inputs = [store.source(name, name, given, [], hands.execution.shard_size) for name, given in rows.items()]
        return {
            str(store.path(shard).relative_to(folder)): store.path(shard).read_bytes() for shard in hands.run(task, inputs).shards
        }


def test_the_number_of_workers_changes_nothing(tmp_path):
    places = range(6)
    rows = {
        "instructions": [replace(instruction(), id=f"ask-{at}", key=f"key-{at}") for at in places],
        "responses/pool": [
            replace(response(name, text, about=f"ask-{at}"), id=f"{name}-{at}", key=f"key-{at}")
            for at in places
            for name, text in ANSWERS.items()
        ],
        "annotations/judge": [
            replace(row, id=f"{row.id}-{at}", response_id=f"{row.response_id}-{at}", key=f"key-{at}")
            for at in places
            for row in rated()
        ],
    }
    task = Task("pairs", PAIRS.read({"kind": "all_pairs", "weights": SUM, "per_instruction": 3}), tuple(rows))
    alone = carried_out(tmp_path / "one", rows, task, workers=1, shard_size=1)
    assert len(alone) > 1 and alone == carried_out(tmp_path / "two", rows, task, workers=2, shard_size=1)


def long(*lengths: tuple[int, int]) -> list[Pair]:
    """Pairs whose answers have so many words, chosen and rejected."""
    return [
        Pair(
            id=f"{at}",
            key=f"key-{at}",
            instruction="?",
            pictures=[],
            chosen=" ".join(["yes"] * chosen),
            rejected=" ".join(["no"] * rejected),
            rule="r",
        )
        for at, (chosen, rejected) in enumerate(lengths)
    ]


def test_pairs_whose_chosen_answers_are_shortest_leave_until_lengths_are_balanced(tmp_path):
    # shortened by 0, 20 %, 50 %, not at all, 99 %; words kept at cut-off 0: 24 against 20, apart by 20 %;
    # from 20 %: 32 against 30, 6.7 %; from 50 %: 37 against 40, 7.5 %; no cut-off keeps the last
    pairs = long((10, 10), (8, 10), (5, 10), (14, 10), (1, 100))
    for size in (1, 16):
        store = Store(tmp_path / str(size))
        with Executor(store, Engines({}), 0, Execution(shard_size=size)).working() as hands:
            given = store.source("unbalanced", "given", pairs, [], size)
            tally = hands.run(Task("pairs", Balance(), ("unbalanced",)), [given])
        assert sorted(row.id for shard in tally.shards for row in store.read(shard)) == ["0", "1", "3"]
        dropped = {row.row_id: row.detail for shard in tally.shards for row in store.read_dropped(shard)}
        assert dropped == {"2": "5 words against 10, less than 80%", "4": "1 words against 100, less than 80%"}


def test_the_cut_off_is_the_published_one():
    import numpy as np

    rng = np.random.default_rng(0)
    for shift in (-4, 0, 6):
        # primes of words: no share of them is a fiftieth, where the published code's own rounding decides
        rejected = rng.choice([23, 37, 41, 53], 60)
        chosen = np.maximum(1, rejected - shift + rng.integers(-15, 16, 60))
        shortened, apart = (rejected - chosen) / rejected, {}
        for cutoff in np.arange(0, 1, 0.02):
            kept = shortened <= cutoff
            apart[cutoff] = abs(chosen[kept].mean() - rejected[kept].mean()) / rejected[kept].mean()
        expected = min(apart, key=apart.get)
        pairs = long(*zip(chosen.tolist(), rejected.tolist(), strict=True))
        assert Balance().informed([pairs[:20], [], pairs[20:]]).cutoff == round(expected * 50)


def test_pairs_that_all_lack_length_leave_with_their_reason():
    balance = Balance().informed([long((1, 100))])
    (dropped,) = balance.make(Use(Engines({}), Store("unused"), 0), long((1, 100)))
    assert isinstance(dropped, Dropped)


def test_balanced_pairs_are_made_in_two_steps():
    plain = PAIRS.read(EVERY).tasks(("instructions",))
    assert [(task.name, task.after) for task in plain] == [("pairs", ("instructions",))]
    balanced = PAIRS.read({**EVERY, "balance_lengths": True}).tasks(("instructions",))
    assert [(task.name, task.after) for task in balanced] == [("unbalanced", ("instructions",)), ("pairs", ("unbalanced",))]
