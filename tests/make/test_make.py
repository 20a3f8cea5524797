import copy
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sightline.engines import ENGINES, Engines
from sightline.errors import DataError, RecipeError
from sightline.execute import Execution, Executor, Tally, Task
from sightline.make import Make, make
from sightline.make.annotators import ANNOTATORS
from sightline.make.annotators.claims import ClaimReading
from sightline.store.shards import Store

ENGINE_SECTIONS = {
    "painter": {"kind": "diffusers", "model": "miniature/painter", "steps": 2, "max_sequence_length": 1, "batch_size": 64},
    "eyes": {"kind": "image_reward", "model": "miniature/image-reward"},
    "policy": {"kind": "transformers", "model": "miniature/policy"},
    "terse": {"kind": "transformers", "model": "miniature/terse"},
    "judge": {"kind": "transformers", "model": "miniature/judge"},
    "taste": {"kind": "armorm", "model": "miniature/answer-reward"},
}
CLAIMS = {"kind": "claims", "judge": "judge", "objects": "miniature/objects", "attributes": "miniature/colours"}
SECTION: dict[str, Any] = {
    "prompts": {"kind": "file", "path": "prompts.txt"},
    "images": {"engine": "painter", "guidance": [1, 5]},
    "ranking": {"scorer": "eyes"},
    "instructions": {"templates": ["Describe the picture.", "This picture was asked to show {prompt}. Describe what it shows."]},
    "responses": {
        "decoding": {"max_tokens": 20},
        "pool": [{"engine": "policy"}, {"engine": "policy", "name": "sampled", "samples": 2, "decoding": {"temperature": 1.0}}],
    },
    "annotations": {"taste": {"kind": "reward", "scorer": "taste"}, "claims": CLAIMS},
    "pairs": {"kind": "best_worst", "weights": {"taste": 1.0}, "allow_cut": True},
}
PROMPTS = [
    "a red cup in the kitchen",
    "a blue bird and a green tree in the park",
    "a pink gift in the party",
    "a yellow cat in the room",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder in which the section was carried out by this process."""
    folder = tmp_path_factory.mktemp("whole")
    carry_out(folder)
    return folder


def executor(folder: Path, **execution: int) -> Executor:
    engines = {name: ENGINES.read(section) for name, section in ENGINE_SECTIONS.items()}
    return Executor(Store(folder / "store"), Engines(engines), 0, Execution(shard_size=2, threads=1, **execution))


def carry_out(
    folder: Path, section: dict[str, Any] = SECTION, prompts: list[str] = PROMPTS, **execution: int
) -> dict[str, Tally]:
    (folder / "prompts.txt").write_text("\n".join(prompts))
    hands = executor(folder, **execution)
    with hands.working():
        return make(Make.model_validate(section), hands, folder, lambda tally: None)


def changed(**changes: Any) -> dict[str, Any]:
    """The section with values at dotted places replaced; None removes a step."""
    section = copy.deepcopy(SECTION)
    for place, value in changes.items():
        *parents, last = place.split("__")
        inner = section
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return section


def files(folder: Path) -> dict[str, bytes]:
    """Rows and pictures; the files beside them hold how long they took."""
    stored = (path for path in (folder / "store").rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in stored}


def fresh(tallies: dict[str, Tally]) -> set[str]:
    """Steps of which anything was made; the prompts are only read."""
    return {name for name, tally in tallies.items() if name != "prompts" and tally.reused < len(tally.shards)}


def test_two_workers_store_the_same_bytes_as_one(whole, tmp_path):
    tallies = carry_out(tmp_path, workers=2)
    assert files(tmp_path).items() <= files(whole).items()
    assert [tallies[name].rows for name in ("prompts", "images", "responses/sampled", "annotations/claims")] == [4, 8, 8, 12]


def test_what_is_stored_is_not_made_again(whole):
    assert fresh(carry_out(whole)) == set()


def test_another_guidance_scale_reuses_the_prompts_only(whole):
    short = {
        **changed(images__guidance=[1, 7]),
        "ranking": None,
        "instructions": None,
        "responses": None,
        "annotations": {},
        "pairs": None,
    }
    tallies = carry_out(whole, short)
    assert fresh(tallies) == {"images"}
    assert [shard.address for shard in tallies["prompts"].shards] == [
        shard.address for shard in carry_out(whole)["prompts"].shards
    ]


def test_another_model_in_the_pool_adds_its_own_answers_and_makes_no_others(whole):
    pool = [*SECTION["responses"]["pool"], {"engine": "terse"}]
    assert fresh(carry_out(whole, {**changed(responses__pool=pool), "annotations": {}, "pairs": None})) == {"responses/terse"}


def test_lengths_are_balanced_over_all_shards_and_only_once(whole):
    policy = {"kind": "all_pairs", "weights": {"taste": 1.0}, "allow_cut": True}
    both = {
        name: carry_out(whole, changed(pairs={**policy, "balance_lengths": name == "balanced"})) for name in ("plain", "balanced")
    }
    assert len(both["balanced"]["pairs"].shards) > 1
    assert both["balanced"]["unbalanced"].rows == both["plain"]["pairs"].rows
    assert both["balanced"]["pairs"].rows + sum(both["balanced"]["pairs"].dropped.values()) == both["plain"]["pairs"].rows
    assert fresh(carry_out(whole, changed(pairs={**policy, "balance_lengths": True}))) == set()


class BetterReading(ClaimReading):
    """Reads the same replies otherwise."""

    version: ClassVar[int] = 2


def test_a_better_reading_asks_no_engine(whole):
    tallies = carry_out(whole)
    section = ANNOTATORS.read(CLAIMS).reading("claims")
    better = Task(
        "annotations/claims",
        BetterReading(name=section.name, question=section.question),
        ("responses/policy", "judgements/claims"),
    )
    without_engines = Executor(Store(whole / "store"), Engines({}), 0, Execution(shard_size=2))
    again = without_engines.run(better, [tallies[name].shards for name in better.after])
    assert (again.reused, again.rows) == (0, 4)


def test_unknown_words_are_refused_before_anything_is_stored(tmp_path):
    with pytest.raises(DataError, match="does not know 'zebra'"):
        carry_out(tmp_path, prompts=["a red zebra in the park"])
    assert not (tmp_path / "store").exists()


def test_a_step_that_leaves_nothing_stops_the_run_with_the_reasons(whole):
    with pytest.raises(DataError, match=r"pairs: nothing is left after this step \(.*\d no pair: gap below min_gap\)"):
        carry_out(whole, changed(pairs__min_gap=1e6))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ranking": None}, "make.instructions: this step needs 'ranking'"),
        ({"annotations": {}}, "make.pairs: this step needs 'annotations'"),
        ({"prompts": None}, "make.images: this step needs 'prompts'"),
        ({"pairs__weights": {"clams": 1.0}}, "no annotator named 'clams'.*\n.*did you mean 'claims'"),
        ({"images__engine": "painte"}, "no engine named 'painte'.*\n.*did you mean 'painter'"),
        ({"images__engine": "eyes"}, "engine 'eyes' .* is no text_to_image"),
    ],
)
def test_a_section_that_cannot_work_is_refused_before_the_first_step(tmp_path, changes, said):
    with pytest.raises(RecipeError, match=said):
        carry_out(tmp_path, changed(**changes))
    assert not (tmp_path / "store").exists()


def test_tasks_are_named_without_reading_any_file():
    section = Make.model_validate(changed(annotations__claims={**CLAIMS, "objects": "nowhere.txt"}))
    assert [task.name for task in section.tasks()] == [
        *("images", "ranking", "instructions", "responses/policy", "responses/sampled"),
        *("judgements/taste", "annotations/taste", "judgements/claims", "annotations/claims", "pairs"),
    ]
