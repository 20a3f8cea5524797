"""The whole evaluation, over stored answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from sightline.engines import Engine, Engines
from sightline.engines.roles import ChatReply, ChatRequest, Decoding
from sightline.engines.weights import locate_data
from sightline.errors import DataError
from sightline.eval import Eval, Results, evaluate, limited
from sightline.eval.chair import Chair
from sightline.eval.pope import Pope
from sightline.execute import Execution, Executor, Tally
from sightline.miniature import heldout, world
from sightline.plugin import recipe_error
from sightline.store.shards import Store

REPOSITORY = Path(__file__).parents[2]


class Looker(Engine):
    """Reads the picture by templates and says what it sees; `habit` adds a cup to everything."""

    roles: ClassVar[frozenset[str]] = frozenset({"vision_chat"})
    asked: ClassVar[list[str]] = []
    habit: bool = False

    def fingerprint(self) -> str:
        return "templates"

    def load(self) -> Looker:
        return self

    def chat(self, requests: Sequence[ChatRequest], decoding: Decoding) -> list[ChatReply]:
        self.asked.extend(request.text for request in requests)
        return [self._reply(request) for request in requests]

    def _reply(self, request: ChatRequest) -> ChatReply:
        things = [thing.phrase for thing in world.read(request.pictures[0])] + (["a blue cup"] if self.habit else [])
        if request.text == "Describe the picture.":
            return ChatReply(f"The picture shows {world.enumerate_phrases(things)}.", "stop", 9)
        kind = request.text.removesuffix(" in the picture?").split()[-1]
        return ChatReply("Yes." if any(thing.endswith(kind) for thing in things) else "No.", "stop", 2)


BOTH = [{"kind": "pope", "data": "miniature/heldout"}, {"kind": "chair", "data": "miniature/heldout", "rule": "clean"}]
MODELS = {"base": Looker(kind="looker", model="x", habit=True), "aligned": Looker(kind="looker", model="x")}


def evaluated(root: Path, models: dict[str, Any] = MODELS, on_step: Any = None, **section: Any) -> Results:
    executor = Executor(Store(root), Engines({}), 0, Execution())
    with executor.working():
        return evaluate(
            Eval.model_validate({"benchmarks": BOTH, "limit": 40, "draws": 200, **section}), executor, models, on_step
        )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads(json.dumps(evaluated(tmp_path_factory.mktemp("results")).to_json()))


def lines(results: dict[str, Any], benchmark: str) -> dict[str, dict[str, Any]]:
    found = next(entry for entry in results["benchmarks"] if entry["benchmark"] == benchmark)
    return {line["metric"]: line for line in found["metrics"]}


def test_a_model_that_looks_is_without_fault(results: dict[str, Any]) -> None:
    assert lines(results, "pope")["accuracy"]["aligned"]["value"] == 100
    assert lines(results, "chair")["CHAIR_i"]["aligned"]["value"] == 0
    assert lines(results, "chair")["coverage"]["aligned"]["value"] == 100


def test_a_habit_shows_in_chair_and_its_breaking_is_significant(results: dict[str, Any]) -> None:
    chosen = {question.group for question in limited(Chair(kind="chair", data="", rule="clean").questions(heldout.FOLDER), 40, 0)}
    captions = json.loads((heldout.FOLDER / "captions.json").read_text())["annotations"]
    told = [entry["caption"] for entry in captions if f"{entry['image_id']:03d}.png" in chosen]
    without = [caption for caption in told if "cup" not in caption]
    mentions = sum(caption.count(" a ") + 1 for caption in told)  # "a red cat": one for each thing, and the habit's cup
    chair = lines(results, "chair")
    assert chair["CHAIR_i"]["base"]["value"] == pytest.approx(100 * len(without) / mentions, rel=1e-5)
    assert chair["CHAIR_s"]["base"]["value"] == pytest.approx(100 * len(without) / 40)
    assert chair["CHAIR_s"]["difference"]["value"] == pytest.approx(-100 * len(without) / 40)
    assert chair["CHAIR_s"]["difference"]["high"] < 0
    # every discordant picture speaks for one side: twice one tail of as many fair coins
    assert chair["CHAIR_s"]["difference"]["p"] == pytest.approx(2 * 0.5 ** len(without), rel=1e-5)


def test_every_number_carries_its_interval_and_n(results: dict[str, Any]) -> None:
    for benchmark in results["benchmarks"]:
        for line in benchmark["metrics"]:
            assert line["n"] > 0
            for who in ("base", "aligned"):
                assert line[who]["low"] <= line[who]["value"] <= line[who]["high"]
                assert line[who]["interval"] in ("wilson", "bootstrap")
            change = line["difference"]
            assert {"value", "low", "high", "p", "test"} <= change.keys()
            assert ("resolvable" in change) == (change["high"] - change["low"] > 1e-6)


def test_examples_show_what_each_model_hallucinated(results: dict[str, Any]) -> None:
    assert len(results["examples"]) == 12
    for example in results["examples"]:
        assert example["hallucinated_aligned"] == []
        assert example["hallucinated_base"] == ([] if "cup" in example["truth"] else ["cup"])
        assert all(kind in example["aligned"] for kind in example["truth"])


def test_one_model_alone_gets_plain_numbers(tmp_path: Path) -> None:
    alone = evaluated(tmp_path, {"base": MODELS["base"]}).to_json()
    assert "difference" not in lines(alone, "chair")["CHAIR_i"]
    assert lines(alone, "chair")["CHAIR_i"]["base"]["value"] > 0


def test_scoring_again_asks_nothing(tmp_path: Path) -> None:
    first = evaluated(tmp_path).to_json()
    Looker.asked.clear()
    steps: list[Tally] = []
    assert evaluated(tmp_path, on_step=steps.append).to_json() == first
    assert Looker.asked == []
    assert [tally.name for tally in steps] == [
        "items/pope", "items/chair", "answers/pope-base", "answers/chair-base", "answers/pope-aligned", "answers/chair-aligned",
        "scores/pope-base", "scores/pope-aligned", "scores/chair-base", "scores/chair-aligned",
    ]  # fmt: skip
    evaluated(tmp_path, benchmarks=[{**BOTH[0], "rule": "clean"}])
    assert Looker.asked == []


def test_two_evaluations_of_one_executor_never_mix_their_models(tmp_path: Path) -> None:
    executor = Executor(Store(tmp_path), Engines({}), 0, Execution())
    section = Eval.model_validate({"benchmarks": BOTH[1:], "limit": 8, "draws": 200})
    with executor.working():
        found = [evaluate(section, executor, {"base": MODELS[who]}).to_json() for who in ("base", "aligned")]
    assert lines(found[0], "chair")["CHAIR_i"]["base"]["value"] > 0
    assert lines(found[1], "chair")["CHAIR_i"]["base"]["value"] == 0


def test_a_limit_takes_whole_pictures_and_the_same_ones_everywhere() -> None:
    every = [
        Pope(kind="pope", data="").questions(heldout.FOLDER),
        Chair(kind="chair", data="", rule="clean").questions(heldout.FOLDER),
    ]
    few = [limited(questions, 25, seed=3) for questions in every]
    groups = [{question.group for question in questions} for questions in few]
    assert len(groups[0]) == 25
    assert groups[0] == groups[1]
    assert [sum(q.group in groups[0] for q in questions) for questions in every] == [len(questions) for questions in few]
    assert {q.group for q in limited(every[1], 25, seed=4)} != groups[1]


def test_a_finished_evaluation_needs_no_torch(tmp_path: Path) -> None:
    evaluated(tmp_path, limit=4)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; import test_evaluate as t;"
        f"t.evaluated(Path({str(tmp_path)!r}), limit=4); sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=120).returncode == 0


def test_two_benchmarks_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        Eval.model_validate({"benchmarks": [BOTH[0], BOTH[0]]})
    assert "two benchmarks are named 'pope'" in str(recipe_error(caught.value))
    assert Eval.model_validate({"benchmarks": [BOTH[0], {**BOTH[0], "name": "pope-clean", "rule": "clean"}]})


def test_data_that_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(DataError, match="miniature/heldout") as caught:
        locate_data("miniature/heldot")
    assert "did you mean" in caught.value.fix
    with pytest.raises(DataError, match="no/where"):
        locate_data("no/where")


def test_a_data_path_may_start_in_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert locate_data("mine", tmp_path) == tmp_path / "mine"


def small_copy(folder: Path) -> Path:
    """The first two held-out scenes as a data folder of one's own."""
    folder.mkdir()
    (folder / "pictures").mkdir()
    for split in heldout.SPLITS:
        rows = (heldout.FOLDER / f"pope_{split}.jsonl").read_text().splitlines()
        (folder / f"pope_{split}.jsonl").write_text("\n".join(row for row in rows if '"000.png"' in row))
    (folder / "pictures" / "000.png").write_bytes((heldout.FOLDER / "pictures" / "000.png").read_bytes())
    return folder


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    place = small_copy(tmp_path / "mine")
    (place / "pictures" / "000.png").unlink()
    with pytest.raises(DataError, match=r"000\.png"):
        evaluated(tmp_path / "store", benchmarks=[{"kind": "pope", "data": str(place)}])


def test_a_picture_that_will_not_decode_is_named(tmp_path: Path) -> None:
    place = small_copy(tmp_path / "mine")
    (place / "pictures" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    with pytest.raises(DataError, match=r"000\.png: .* cannot be used: picture does not decode"):
        evaluated(tmp_path / "store", benchmarks=[{"kind": "pope", "data": str(place)}])


def test_the_sections_own_model_and_adapter_go_before_the_trained_ones() -> None:
    section = Eval.model_validate({"benchmarks": BOTH, "model": "mine", "adapter": "put/on"})
    models = section.models("trained", "made")
    assert [(who, engine.model, engine.adapter) for who, engine in models.items()] == [
        ("base", "mine", None),
        ("aligned", "mine", "put/on"),
    ]
    plain = Eval.model_validate({"benchmarks": BOTH})
    assert list(plain.models("trained")) == ["base"]
    assert plain.models("trained", "made")["aligned"].adapter == "made"
    assert plain.models() == {}


def test_a_suffix_is_added_for_the_aligned_model_alone_and_is_told(tmp_path: Path) -> None:
    Looker.asked.clear()
    both = [{**BOTH[0], "suffixed": False}, BOTH[1]]
    found = evaluated(tmp_path, benchmarks=both, suffix="\nFaithfulness:4").to_json()
    plain, asked = Looker.asked[: len(Looker.asked) // 2], Looker.asked[len(Looker.asked) // 2 :]
    describe = "Describe the picture."
    assert plain.count(describe) == asked.count(f"{describe}\nFaithfulness:4") == 40
    assert [text for text in plain if text != describe] == [text for text in asked if not text.startswith(describe)]
    assert [benchmark["suffix"] for benchmark in found["benchmarks"]] == ["", "\nFaithfulness:4"]


def test_levels_and_a_suffix_are_not_both_asked() -> None:
    with pytest.raises(ValidationError, match="asked writes the suffix"):
        Eval.model_validate({"benchmarks": BOTH, "asked": {"Faithfulness": 4}, "suffix": ""})
