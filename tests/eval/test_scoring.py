"""`sightline score`: someone else's answers, joined to a benchmark's questions and scored without a model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.errors import DataError, RecipeError
from sightline.eval.answer_files import read_texts
from sightline.eval.scoring import read_benchmark, score
from tests.conftest import Sightline

IDS, TEXTS = ("question_id", "id"), ("answer", "text")
ASKED = ["1", "2", "3"]
Written = Callable[[str, str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("answers.jsonl", '{"id": 3, "text": "c"}\n\n{"id": 1, "text": "a\\n"}\n{"id": 2, "answer": ""}\n'),
        ("answers.json", '[{"question_id": "2", "answer": ""}, {"question_id": "1", "text": "a\\n"}, {"id": 3, "text": "c"}]'),
        ("answers.json", '{"3": "c", "1": "a\\n", "2": ""}'),
        ("answers.json", '{"id": 3, "text": "c"}\n{"id": 1, "text": "a\\n"}\n{"id": 2, "text": ""}\n'),
        ("answers.csv", 'question_id,answer\n1,"a\n"\n2,\n3,c\n'),
        ("answers.csv", 'question_id,answer,note\n1,"a\n",\u2028\n3,c,x\x0b\n2,,y\n'),
        ("answers.tsv", 'note\tid\ttext\nx\t3\tc\nx\t2\t\nx\t1\t"a\n"\n'),
    ],
)
def test_answers_are_joined_by_id_whatever_their_order_and_form(written, name, text):
    assert read_texts(written(name, text), ASKED, IDS, TEXTS) == ["a\n", "", "c"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", "", "no answers"),
        ("a.json", "  ", "no answers"),
        ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}', "1 questions have no answer, the first '3'"),
        ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', "question 1 is answered a second time"),
        ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 9, "text": "b"}', "no question is called '9'"),
        ("a.jsonl", '{"id": 1, "text": null}', "the answer to 1 is None"),
        ("a.jsonl", '{"id": 1, "reply": "a"}', "no 'answer' or 'text' here"),
        ("a.jsonl", '{"id": 1, "text": "a"', "no JSON"),
        ("a.jsonl", "[1]", "no record"),
        ("a.json", '"a"', "neither a list"),
        ("a.tsv", "question_id\tanswer\timage\n1\ta\t" + 140_000 * "x", "this table cannot be read"),
        ("a.csv", "question_id,answer\n1,a,b\n2,b\n3\n", "the answer to 3 is None"),
    ],
)
def test_what_is_no_list_of_all_answers_is_refused(written, name, text, told):
    with pytest.raises(DataError, match=told) as error:
        read_texts(written(name, text), ASKED, IDS, TEXTS)
    assert name in error.value.where


def test_a_file_of_another_encoding_or_none_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes('{"1": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_texts(tmp_path / "a.json", ["1"], IDS, TEXTS)
    with pytest.raises(DataError, match="cannot be read"):
        read_texts(tmp_path / "b.json", ["1"], IDS, TEXTS)


@pytest.fixture
def pope(written) -> tuple[Path, Path]:
    """A split of four questions about two pictures, and answers of which the second is wrong and the last says nothing."""
    rows = [("1.jpg", "a cat", "yes"), ("1.jpg", "a dog", "no"), ("2.jpg", "a car", "yes"), ("2.jpg", "a cup", "no")]
    lines = [
        json.dumps({"question_id": n, "image": i, "text": f"Is there {t}?", "label": x}) for n, (i, t, x) in enumerate(rows, 1)
    ]
    said = ["Yes.", "Yes", "yes", ""]
    answers = [{"question_id": f"{row[0]}: Is there {row[1]}?", "text": text} for row, text in zip(rows, said, strict=True)]
    return written("coco_pope_random.json", "\n".join(lines)), written("answers.json", json.dumps(answers))


def values(results) -> dict[str, float | None]:
    return {line.metric: line.numbers["answers"].value for line in results.benchmarks[0].lines if line.split == "random"}


def test_answers_are_scored_by_either_rule_and_their_doubt_told(pope):
    data, answers = pope
    published = score(read_benchmark("pope", {"data": str(data)}), answers)
    assert values(published) == {"accuracy": 50, "F1": pytest.approx(200 / 3), "precision": 50, "recall": 100, "yes ratio": 100}
    assert (published.benchmarks[0].rule, published.benchmarks[0].guesses) == ("published", {"answers": 1})
    clean = score(read_benchmark("pope", {"data": str(data), "rule": "clean"}), answers)
    assert (clean.benchmarks[0].rule, values(clean)["accuracy"]) == ("clean", 50)
    assert values(clean)["precision"] == pytest.approx(200 / 3)


def test_the_command_prints_a_table_or_json_and_tells_of_a_benchmark(sightline: Sightline, pope):
    data, answers = pope
    asked = ("score", "pope", "--answers", str(answers), "--data", str(data))
    table = sightline(*asked)
    assert table.returncode == 0, table.stderr
    assert "accuracy (random)" in table.stdout and "1 answers gave the rule nothing to go by" in table.stdout
    told = json.loads(sightline(*asked, "--rule", "clean", "--json").stdout)
    assert told["benchmarks"][0]["rule"] == "clean"
    about = sightline("eval", "--help", "pope").stdout
    assert "github.com/AoiDragon/POPE (MIT)" in about and "published: a first sentence" in about
    assert "RECIPE" in sightline("eval", "--help").stdout


@pytest.mark.parametrize(("kind", "settings", "told"), [("popes", {}, "pope"), ("pope", {"rule": "mine"}, "rule")])
def test_a_wrong_benchmark_or_rule_is_refused(kind, settings, told):
    with pytest.raises(RecipeError) as error:
        read_benchmark(kind, {"data": "x", **settings})
    assert told in f"{error.value.where} {error.value.fix}"
