"""AMBER: its inference.py's numbers with the same nouns and similarities, our reading without models, and broken files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError, MissingPackage
from sightline.eval.amber import Amber
from sightline.eval.amber_words import Nouns, Similarity
from sightline.eval.compare import Counts
from sightline.eval.scoring import score
from tests.eval.conftest import measured, scored

GOLDEN = json.loads((Path(__file__).parent / "golden" / "amber.json").read_text(encoding="utf-8"))
"""54 odd answers, and what AMBER's inference.py made of them (its repository and commit, and how it was run, are in the file)."""
TEXTS = [record["response"] for record in GOLDEN["responses"]]
NUM_DESCRIBED = 14
SECTIONS = {
    "Descriminative Task": "yes/no",
    "Exsitence": "existence",
    "Attribute": "attribute",
    "State": "state",
    "Number": "number",
    "Action": "action",
    "Relation": "relation",
}
"""The original's headings, and our names."""


class Tabled(Amber):
    """AMBER with the tables that the original was given in place of NLTK and spaCy."""

    def nouns(self) -> Nouns:
        nouns = GOLDEN["nouns"]
        return lambda text: [nouns[word] for word in re.findall(r"[\w-]+|[^\w\s]", text) if word in nouns]

    def similarity(self) -> Similarity:
        near = {frozenset(pair): value for *pair, value in GOLDEN["near"]}
        return lambda first, second: 1.0 if first == second else near.get(frozenset((first, second)), 0.0)


def tabled(data: Path, **settings: Any) -> Tabled:
    return Tabled.model_validate({"kind": "amber", "data": str(data), **settings})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The golden files as AMBER's repository lays them out."""
    (tmp_path / "query").mkdir()
    for name in ("annotations", "relation"):
        (tmp_path / f"{name}.json").write_text(json.dumps(GOLDEN[name]))
    queries = GOLDEN["queries"]
    for name, asked in (("all", queries), ("generative", queries[:NUM_DESCRIBED]), ("discriminative", queries[NUM_DESCRIBED:])):
        (tmp_path / "query" / f"query_{name}.json").write_text(json.dumps(asked))
    (tmp_path / "safe_words.txt").write_text("\n".join(GOLDEN["safe_words"]))
    return tmp_path


def original(name: str) -> float | None:
    """The script's number behind one of our names; it has none for the AMBER score."""
    metric, _, split = name.removesuffix(")").partition(" (")
    headings = {ours: theirs for theirs, ours in SECTIONS.items()}
    section = GOLDEN["numbers"][headings[split] if split else "Generative Task"]
    return section.get(metric if not split or metric == "F1" else metric.capitalize())


def test_every_number_is_the_original_scripts_after_its_rounding(data: Path, tmp_path: Path) -> None:
    answers = tmp_path / "responses.json"
    answers.write_text(json.dumps(GOLDEN["responses"][::-1]))
    (outcome,) = score(tabled(data), answers, draws=100).benchmarks
    found = {
        f"{line.metric} ({line.split})" if line.split else line.metric: line.numbers["answers"].value for line in outcome.lines
    }
    whole = found.pop("AMBER score")
    assert {name: round(value, 1) for name, value in found.items()} == {name: original(name) for name in found}
    assert len(found) == 4 + 4 * len(SECTIONS)
    # by hand, from the printed numbers: (100 - CHAIR + F1) / 2
    assert whole == pytest.approx((100 - 22.0 + 60.5) / 2)


def test_each_task_is_measured_alone_from_its_own_questions(data: Path) -> None:
    described = measured(tabled(data), data / "query" / "query_generative.json", TEXTS[:NUM_DESCRIBED])
    assert round(described["Cover"].value, 1) == original("Cover")
    assert described["AMBER score"].value is None
    answered = measured(tabled(data), data / "query" / "query_discriminative.json", TEXTS[NUM_DESCRIBED:])
    assert round(answered["F1 (existence)"].value, 1) == original("F1 (existence)")
    assert (answered["CHAIR"].n, answered["AMBER score"].n) == (0, 0)


def test_published_rule_counts_where_it_guessed(data: Path) -> None:
    scores = scored(tabled(data), data, TEXTS)
    guessed = {number for number, found in enumerate(scores, 1) if found.guessed}
    # 5: a bucket is near to the cart, which is there; 7: an e-book to the TV; 12: hens, which the annotation does not know of
    assert {number for number in guessed if number <= NUM_DESCRIBED} == {5, 7, 8, 10, 12, 14}
    answers = {number: text for number, text in enumerate(TEXTS, 1) if number > NUM_DESCRIBED}
    assert {number for number in answers if number in guessed} == {n for n, text in answers.items() if text not in ("Yes", "No")}


def test_numbers_do_not_depend_on_the_order_of_the_scores(data: Path) -> None:
    benchmark = tabled(data)
    scores = scored(benchmark, data, TEXTS)
    forwards, backwards = Counts.of(scores), Counts.of(scores[::-1])
    assert [forwards.total(metric) for metric in benchmark.metrics()] == [
        backwards.total(metric) for metric in benchmark.metrics()
    ]


def test_clean_rule_equals_hand_arithmetic(data: Path) -> None:
    benchmark = tabled(data, rule="clean")
    silent = [""] * len(TEXTS)
    texts = {1: "Hills and a pond, with a horse.", 3: "A KID and some people.", 10: "A cart, two boats and a shed. The TV is on."}
    said = [texts.get(number, text) for number, text in enumerate(silent, 1)]
    scores = scored(benchmark, data, said)
    # 1: hill and pond cover both, the horse is thought to be there
    assert scores[0].counts == counts(mentions=3, wrong=1, covered=2, truth=2, imagined=1, imaginable=2)
    # 3: child (twice: kid and people go with it) and man (people go with it); kid is thought to be there, but is right
    assert scores[2].counts == counts(mentions=2, wrong=0, covered=2, truth=2, imagined=0, imaginable=2)
    # 10: cart is there; boats are thought to be; nothing is known of sheds and the TV
    assert scores[9].counts == counts(mentions=4, wrong=3, covered=1, truth=2, imagined=1, imaginable=2)
    assert scores[9].hallucinated == ("boats", "shed", "TV")
    assert [found.guessed for found in scores[:10]] == [False] * 9 + [True]
    found = measured(benchmark, data, said)
    assert found["CHAIR"].value == pytest.approx(100 * 4 / 9)
    assert found["Hal"].value == pytest.approx(100 * 2 / 14)
    assert found["accuracy (yes/no)"].value == 0
    assert (found["F1 (yes/no)"].value, found["AMBER score"].value) == (None, None)


def counts(mentions: int, wrong: int, covered: int, truth: int, imagined: int, imaginable: int) -> dict[str, float]:
    return {
        "described": 1,
        "mentions": mentions,
        "hallucinated": wrong,
        "faultless": not wrong,
        "flawed": bool(wrong),
        "truth": truth,
        "covered": covered,
        "imaginable": imaginable,
        "imagined": imagined,
    }


def test_perfect_answers_are_perfect_by_the_clean_rule(data: Path) -> None:
    texts = [
        " and ".join(annotation["truth"]) if isinstance(annotation["truth"], list) else f"{annotation['truth']}, it is"
        for annotation in GOLDEN["annotations"]
    ]
    found = measured(tabled(data, rule="clean"), data, texts)
    assert [found[name].value for name in ("CHAIR", "Cover", "Hal", "Cog", "F1 (yes/no)", "AMBER score")] == [
        0,
        100,
        0,
        0,
        100,
        100,
    ]
    # whole sentences are neither 'Yes' nor 'No' to the published rule
    assert measured(tabled(data), data, texts)["accuracy (yes/no)"].value == 0


def test_a_model_that_says_nothing_has_the_originals_numbers_or_none(data: Path) -> None:
    found = measured(tabled(data), data, [""] * len(TEXTS))
    # inference.py on the same rows, every response empty: CHAIR 0.0, Cover 0.0, Hal 0.0, Cog 0.0, F1 0.0
    assert [round(found[name].value, 1) for name in ("CHAIR", "Cover", "Hal", "Cog", "F1 (yes/no)")] == [0, 0, 0, 0, 0]
    clean = measured(tabled(data, rule="clean"), data, [""] * len(TEXTS))
    assert clean["CHAIR"].value is clean["Hal"].value is None
    assert clean["CHAIR"].reason == "no answer mentions an object"


def test_one_description_has_numbers_by_both_rules(data: Path) -> None:
    (data / "query" / "one.json").write_text(json.dumps(GOLDEN["queries"][12:13]))
    for rule in ("published", "clean"):
        found = measured(tabled(data, rule=rule), data / "query" / "one.json", ["A hill."])
        assert round(found["CHAIR"].value, 1) == 0
        assert round(found["Cover"].value, 1) == (99.9 if rule == "published" else 100)  # 1 / 1.001 by the original
        assert round(found["Hal"].value, 1) == (0.1 if rule == "published" else 0)
        assert found["accuracy (yes/no)"].n == 0


def test_questions_are_asked_of_the_pictures_with_the_suffix_where_they_are_yes_or_no(data: Path) -> None:
    questions = tabled(data, suffix=" Yes or no?").questions(data)
    assert (questions[0].id, questions[0].text, questions[0].picture) == (
        "1",
        "What is to be seen?",
        data / "pictures" / "P_1.jpg",
    )
    assert questions[20].text.endswith("so? Yes or no?")


def test_without_the_models_the_published_rule_says_what_to_install(data: Path) -> None:
    plain = Amber.model_validate({"kind": "amber", "data": str(data)})
    try:
        import nltk  # noqa: F401
        import spacy  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(MissingPackage, match="pip install|python -m"):
            plain.questions(data)
    assert len(plain.questions(data / "query" / "query_discriminative.json")) == 40
    assert len(Amber.model_validate({"kind": "amber", "data": str(data), "rule": "clean"}).questions(data)) == 54


@pytest.mark.parametrize(
    ("file", "number", "change", "problem"),
    [
        ("annotations", 0, {"truth": ["unicorn"]}, "truth: 'unicorn' is not in relation.json"),
        ("annotations", 0, {"hallu": None}, "hallu: None is not in"),
        ("annotations", 20, {"truth": "Yes"}, "truth 'Yes'"),
        ("annotations", 20, {"type": "discriminative-colour"}, "type 'discriminative-colour'"),
        ("annotations", 20, {"id": 99}, "annotations.json has no id 21"),
        ("query/query_all", 3, {"image": None}, "image None"),
    ],
)
def test_files_of_another_version_are_refused(data: Path, file: str, number: int, change: dict[str, Any], problem: str) -> None:
    path = data / f"{file}.json"
    records = json.loads(path.read_text())
    records[number] |= change
    path.write_text(json.dumps(records))
    with pytest.raises(DataError, match=problem):
        tabled(data).questions(data)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda records: records[1:], "1 questions have no answer, the first '1'"),
        (lambda records: [*records, records[3]], "question 4 is answered a second time"),
        (lambda records: [*records, {"id": 55, "response": "Yes"}], "no question is called '55'"),
        (lambda records: [{"id": 1, "response": None}], "the answer to 1 is None"),
        (lambda records: [], "no answers"),
    ],
)
def test_missing_doubled_and_unknown_answers_are_refused(data: Path, tmp_path: Path, change: Any, problem: str) -> None:
    answers = tmp_path / "responses.json"
    answers.write_text(json.dumps(change(GOLDEN["responses"])))
    with pytest.raises(DataError, match=problem):
        score(tabled(data), answers, draws=100)


def test_a_missing_file_of_the_folder_is_named(data: Path) -> None:
    (data / "relation.json").unlink()
    with pytest.raises(DataError, match="relation.json: cannot be read"):
        tabled(data).questions(data)
    (data / "relation.json").write_text("[]")
    with pytest.raises(DataError, match="no mapping of words"):
        tabled(data).questions(data)
    alone = data / "query" / "alone"
    alone.mkdir()
    (alone / "query.json").write_text("[]")
    with pytest.raises(DataError, match="no annotations.json"):
        tabled(data).questions(alone / "query.json")
