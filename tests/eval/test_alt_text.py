"""Alt text's measures: get_score.py's on written rows, the clean rule's beside other libraries and by hand."""

import json
import math
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import DataError, MissingPackage
from sightline.eval.alt_text import AltText, edit_distance, longest_common
from sightline.eval.cider import cider_d
from sightline.eval.scoring import score

from .conftest import GOLDEN_ROWS, measured, scored

GOLDEN = json.loads((GOLDEN_ROWS / "alt_text.json").read_text(encoding="utf-8"))
ROWS = GOLDEN["rows"]
TEXTS = st.lists(st.sampled_from("abc"), max_size=8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    # MCM-DPO's files have a record a line, and are named .json all the same
    return written(tmp_path, ROWS, "rows.json")


def written(folder: Path, rows: list[dict[str, object]], name: str = "rows.jsonl") -> Path:
    asked = [{key: row[key] for key in ("idx", "question", "chosen")} for row in rows]
    (folder / name).write_text("\n".join(json.dumps(row) for row in asked), encoding="utf-8")
    return folder / name


def published(place: Path) -> AltText:
    pytest.importorskip("nltk")
    pytest.importorskip("rouge")
    return AltText(kind="alt_text", data=str(place), splitter="untrained")


def clean(place: Path) -> AltText:
    return AltText(kind="alt_text", data=str(place), rule="clean")


def test_the_published_rule_gives_the_original_scripts_numbers(data: Path) -> None:
    numbers = measured(published(data), data, [row["response"] for row in ROWS])
    wanted = GOLDEN["all"]
    for name in ("bleu_4", "ROUGE-L", "CIDEr", "bleu_1", "cumulative_bleu_4", "edit_distance"):
        assert numbers[name].value == pytest.approx(wanted[name], abs=1e-9), name
    if numbers["METEOR"].value is None:
        assert "nltk.downloader wordnet" in str(numbers["METEOR"].reason)
    else:
        assert numbers["METEOR"].value == pytest.approx(wanted["METEOR"], abs=1e-9)


def test_the_published_rule_gives_the_original_scripts_numbers_row_by_row(data: Path) -> None:
    for row, found in zip(ROWS, scored(published(data), data, [row["response"] for row in ROWS]), strict=True):
        for name in ("bleu_1", "bleu_4", "rouge", "cider"):
            assert found.counts[name] == pytest.approx(row[name] or 0, abs=1e-9), (name, row)
        if "meteor" in found.counts:
            assert found.counts["meteor"] == pytest.approx(row["meteor"], abs=1e-9), row


def test_texts_that_the_published_rule_has_no_fours_of_words_of_are_counted(data: Path) -> None:
    found = scored(published(data), data, [row["response"] for row in ROWS])
    guessed = {row["chosen"] for row, score in zip(ROWS, found, strict=True) if score.guessed}
    assert {"Cat.", "A dog runs", "", "the"} <= guessed
    # what ends a sentence is a guess without punkt's data
    assert {"The sun sets. The sea is calm.", "Dr. Smith's lab in the U.S., with 3.5 litres of milk."} <= guessed
    assert not guessed & {"A girl holds a kite, and a boy holds a kite.", "A cat sits on a mat."}


def test_of_one_row_the_published_cider_is_0_and_the_clean_one_is_none(tmp_path: Path) -> None:
    place = written(tmp_path, ROWS[:1])
    numbers = measured(published(place), place, [ROWS[0]["response"]])
    assert numbers["CIDEr"].value == GOLDEN["one_row"]["CIDEr"] == 0
    assert numbers["bleu_4"].value == GOLDEN["one_row"]["bleu_4"] == 100
    found = measured(clean(place), place, [ROWS[0]["response"]])["CIDEr-D"]
    assert (found.value, found.reason) == (None, "in one row every phrase is in every reference")


def test_without_data_of_punkt_the_published_rule_says_how_to_get_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(MissingPackage, match="punkt") as error:
        scored(AltText(kind="alt_text", data=str(data)), data, [""] * len(ROWS))
    assert "splitter" in error.value.fix


class Absent(MetaPathFinder):
    """An environment without nltk."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "nltk":
            raise ModuleNotFoundError(name=name)


def test_without_its_packages_the_published_rule_says_which_command_brings_them(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(MissingPackage, match="text-metrics"):
        scored(AltText(kind="alt_text", data=str(data)), data, [""] * len(ROWS))


def test_the_clean_bleu_is_sacrebleus(data: Path) -> None:
    numbers = measured(clean(data), data, [row["response"] for row in ROWS])
    # sacrebleu 2.6.0 on the clean rule's words: BLEU(tokenize="none", smooth_method="none", max_ngram_order=4, then 1)
    assert numbers["BLEU-4"].value == pytest.approx(53.67016776469389, abs=1e-9)
    assert numbers["BLEU-1"].value == pytest.approx(65.64959635945117, abs=1e-9)


def test_clean_numbers_equal_hand_counts(tmp_path: Path) -> None:
    chosen = ["A red cat, on a mat", "Two dogs run"]
    place = written(tmp_path, [{"idx": n, "question": "?", "chosen": text} for n, text in enumerate(chosen)])
    numbers = measured(clean(place), place, ["a RED cat on a rug!", "dogs"])
    # words that match: a, red, cat, on, a and dogs, of 7; the references have 9
    assert numbers["BLEU-1"].value == pytest.approx(100 * 6 / 7 * math.exp(1 - 9 / 7))
    # 5 of 6 and 6 in order; 1 of 1 and 3
    assert numbers["ROUGE-L"].value == pytest.approx(100 * (2 * 5 / 12 + 2 * 1 / 4) / 2)
    # one word replaced, two to add
    assert numbers["edits_per_word"].value == pytest.approx(100 * 3 / 9)


def test_perfect_answers_are_perfect_by_the_clean_rule(data: Path) -> None:
    numbers = measured(clean(data), data, [row["chosen"] for row in ROWS])
    assert (numbers["BLEU-4"].value, numbers["ROUGE-L"].value, numbers["edits_per_word"].value) == (pytest.approx(100), 100, 0)


def test_silence_has_numbers_by_the_clean_rule(data: Path) -> None:
    numbers = measured(clean(data), data, [""] * len(ROWS))
    assert (numbers["BLEU-4"].value, numbers["BLEU-1"].value, numbers["edits_per_word"].value) == (0, 0, 100)


def test_cider_of_two_rows_by_hand() -> None:
    # every phrase is in one of two references, so all weigh the same; of (a b) against (a c): half of a pair's words, no pair
    assert cider_d([["a", "b"], ["d", "e"]], [["a", "c"], ["d", "e"]]) == pytest.approx([10 / 4 * 0.5, 10 / 4 * 2])
    # a is in both references and weighs nothing
    assert cider_d([["a"], ["a"]], [["a"], ["a", "b"]]) == [0, 0]
    assert cider_d([], []) == []


@given(TEXTS, TEXTS)
def test_distances_agree_with_their_recursive_definitions(one: list[str], other: list[str]) -> None:
    assert edit_distance(one, other) == edits(one, other)
    assert longest_common(one, other) == common(one, other)
    assert edit_distance(one, other) == edit_distance(other, one)


def edits(one: list[str], other: list[str]) -> int:
    table = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(other) + 1)}
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (one[i - 1] != other[j - 1]))
    return table[len(one), len(other)]


def common(one: list[str], other: list[str]) -> int:
    table = {(i, j): 0 for i in range(len(one) + 1) for j in range(len(other) + 1) if not i or not j}
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            same = one[i - 1] == other[j - 1]
            table[i, j] = table[i - 1, j - 1] + 1 if same else max(table[i - 1, j], table[i, j - 1])
    return table[len(one), len(other)]


def test_the_order_of_the_rows_changes_nothing(data: Path, tmp_path: Path) -> None:
    turned = written(tmp_path, ROWS[::-1], "turned.jsonl")
    first, second = (
        measured(clean(place), place, [row["response"] for row in rows]) for place, rows in ((data, ROWS), (turned, ROWS[::-1]))
    )
    assert {name: number.value for name, number in first.items()} == {
        name: pytest.approx(number.value, rel=1e-12) for name, number in second.items()
    }


def test_answers_in_the_scripts_own_form_are_joined_by_idx(data: Path, tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in reversed(ROWS)]
    (tmp_path / "answers.json").write_text("\n".join(lines), encoding="utf-8")
    (line, *_) = score(clean(data), tmp_path / "answers.json").benchmarks[0].lines
    texts = [row["response"] for row in ROWS]
    assert line.numbers["answers"].value == measured(clean(data), data, texts)["BLEU-4"].value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"idx": 1, "question": "?"}', "no 'chosen'"),
        ('{"idx": 1, "chosen": "A cat"}', "no 'question'"),
        ('{"question": "?", "chosen": 3}', "no 'chosen'"),
        ("[1]", "no record"),
    ],
)
def test_other_data_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(DataError, match=told):
        clean(tmp_path).questions(tmp_path)


def test_a_folder_holds_one_file_of_rows(data: Path, tmp_path: Path) -> None:
    assert len(clean(tmp_path).questions(tmp_path)) == len(ROWS)
    (tmp_path / "more.jsonl").write_text("")
    with pytest.raises(DataError, match="2 .json"):
        clean(tmp_path).questions(tmp_path)


@pytest.mark.parametrize(
    ("row", "file"),
    [({"image": "1.jpg"}, "1.jpg"), ({"image": {"path": "2.jpg"}}, "2.jpg"), ({"image_path": "3.jpg"}, "3.jpg"), ({}, None)],
)
def test_a_rows_picture_is_found_under_each_of_the_files_names_for_it(
    tmp_path: Path, row: dict[str, object], file: str | None
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{**row, "question": "?", "chosen": "A cat"}]))
    (question,) = clean(tmp_path).questions(tmp_path)
    assert question.picture == (tmp_path / "pictures" / file if file else None)
    assert question.group == (file or "0")
