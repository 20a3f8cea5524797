"""Object HalBench on written answers: RLHF-V's script for the published rule, hand counts for the clean one."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.errors import DataError, MissingPackage, RecipeError
from sightline.eval import Outcome
from sightline.eval.chair_words import ListedWords
from sightline.eval.compare import Number
from sightline.eval.object_halbench import FORM, ObjectHalBench, objects, published, runs_of_nouns
from sightline.eval.runs import compare, sides
from sightline.eval.scoring import score
from sightline.miniature import heldout
from sightline.recipe import parse
from sightline.run import evaluate as evaluate_recipe
from tests.servers import Server, text_of

from .conftest import GOLDEN_ROWS, measured, write_coco
from .test_judging import engine, evaluated, served

GOLDEN = json.loads((GOLDEN_ROWS / "object_halbench.json").read_text(encoding="utf-8"))
ROWS = GOLDEN["rows"]
KINDS = [line.split(", ")[0] for line in GOLDEN["synonyms"]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return written(tmp_path, ROWS)


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """The benchmark's files about the rows' pictures, and the rows as answers.jsonl."""
    write_coco(folder, rows, KINDS)
    (folder / "synonyms_refine.txt").write_text("\n".join(GOLDEN["synonyms"]))
    asked = [{"image_id": row["image_id"], "question": "Describe it."} for row in rows]
    (folder / "obj_halbench_300_with_image.jsonl").write_text("\n".join(map(json.dumps, asked)))
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def benchmark(place: Path, **values: Any) -> ObjectHalBench:
    return ObjectHalBench(kind="object_halbench", data=str(place), **values)


def numbers(found: ObjectHalBench, place: Path) -> dict[str, Number]:
    (outcome,) = score(found, place / "answers.jsonl", draws=100).benchmarks
    assert {line.split for line in outcome.lines} - {None} == ({"lemmas"} if found.extractor == "lemmas" else set())
    return {line.metric: line.numbers["answers"] for line in outcome.lines}


def need_wordnet() -> None:
    nltk = pytest.importorskip("nltk")
    try:
        nltk.corpus.wordnet.ensure_loaded()
    except LookupError:
        pytest.skip("NLTK has no WordNet here")


def spacy_pipeline(folder: Path) -> Path:
    """A pipeline that knows the golden rows' words, as the one that the original script was given."""
    nlp = pytest.importorskip("spacy").blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    for word, (lemma, tag) in GOLDEN["lexicon"].items():
        ruler.add([[{"ORTH": word}]], {"LEMMA": lemma, "TAG": tag})
    nlp.to_disk(folder / "pipeline")
    return folder / "pipeline"


def by_lexicon(text: str) -> list[tuple[str, str]]:
    return [tuple(GOLDEN["lexicon"][word]) for word in text.split()]


def equal(found: dict[str, Number], wanted: dict[str, float]) -> None:
    named = {"response_level": "CHAIRs_refine", "mention_level": "CHAIRi", "recall": "obj_rec", "CHAIR_s": "CHAIRs"}
    for ours, theirs in named.items():
        assert found[ours].value == pytest.approx(100 * wanted[theirs], rel=1e-12), ours
    assert found["words"].value == pytest.approx(wanted["avg_word_len"], rel=1e-12)
    assert found["response_level"].n == wanted["coco_sentence_num"]


def test_the_published_rule_gives_the_original_scripts_numbers_for_a_models_lists(data: Path) -> None:
    need_wordnet()
    found = numbers(benchmark(data, parser=str(spacy_pipeline(data))), data)
    equal(found, GOLDEN["llm"])
    assert found["unreadable"].value == 0


def test_the_published_rule_gives_the_original_scripts_numbers_without_a_model(data: Path) -> None:
    need_wordnet()
    equal(numbers(benchmark(data, extractor="lemmas"), data), GOLDEN["lemmas"])


@pytest.mark.parametrize("row", [row for row in ROWS if len(row["text"].split()) > 3], ids=lambda row: row["text"])
def test_a_models_list_gives_the_original_scripts_objects(row: dict[str, Any]) -> None:
    words = ListedWords([line.split(", ") for line in GOLDEN["synonyms"]], str)
    found = published(objects(row["reply"]) or [], words, by_lexicon)
    assert [mention.name for mention in found] == row["llm"]


def test_nouns_in_a_row_are_one_word() -> None:
    tokens = [("a", "DT"), ("tennis", "NN"), ("player", "NN"), ("of", "IN"), ("Rome", "NNP")]
    assert runs_of_nouns(tokens) == ["tennis player", "Rome"]
    assert runs_of_nouns([]) == []


@pytest.mark.parametrize(
    ("reply", "listed"),
    [
        ('["dog", "cat"]', ["dog", "cat"]),
        (' [ ] ', []),
        ('["a", 3]', ["a", "3"]),
        ('The list:\n["dog"]\n', ["dog"]),
        ('["dog"]\nThat is all.', None),
        ("The list: [dog]", None),
        ("()", None),
        ('{"dog": 1}', None),
        ("null", None),
        ('"dog"', None),
        ("", None),
        ("I cannot help with that.", None),
    ],
)  # fmt: skip
def test_a_reply_is_a_list_or_ends_with_one(reply: str, listed: list[str] | None) -> None:
    assert objects(reply) == listed


def answered(tmp_path: Path) -> Path:
    """Three pictures (a dog; a car and a cup; a cat) and answers to them, the last of three words."""
    seen = [["dog"], ["car"], ["cat"]]
    said = ["A dog and a puppy, a cat!", "Cars and a bus stop there", "Two cats sleep"]
    lists = ['["dog", "puppy", "cat"]', '["cars", "bus stop"]', '["no list']
    captions: list[list[str]] = [[], ["a cup"], []]
    rows = [{"image_id": n, "instances": seen[n], "captions": captions[n], "text": said[n], "reply": lists[n]} for n in range(3)]
    return written(tmp_path, rows)


def test_clean_numbers_equal_hand_counts(tmp_path: Path) -> None:
    place = answered(tmp_path)
    found = numbers(benchmark(place, rule="clean"), place)
    # dog and cat of the first, the car of the second, nothing of the third
    assert found["mention_level"].value == pytest.approx(100 / 3)
    assert (found["response_level"].value, found["response_level"].n) == (50, 2)
    assert found["CHAIR_s"].value == pytest.approx(100 / 3)
    assert found["recall"].value == pytest.approx(100 * 2 / 4)
    assert found["words"].value == pytest.approx((7 + 6 + 3) / 3)
    assert found["unreadable"].value == 0
    alone = numbers(benchmark(place, rule="clean", extractor="lemmas"), place)
    assert alone["recall"].value == pytest.approx(100 * 3 / 4)
    assert alone["mention_level"].value == pytest.approx(100 / 4)
    assert "unreadable" not in alone


def test_an_unreadable_reply_leaves_its_answer_out_and_is_told(tmp_path: Path) -> None:
    place = answered(tmp_path)
    lines = [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]
    lines[1]["reply"] = "Sorry, I cannot."
    (place / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = numbers(benchmark(place, rule="clean"), place)
    assert found["unreadable"].value == pytest.approx(100 / 3)
    assert found["mention_level"].value == 50
    assert found["recall"].n == 2


def test_answers_without_objects_have_no_rates(tmp_path: Path) -> None:
    place = answered(tmp_path)
    found = measured(benchmark(place, rule="clean", extractor="lemmas"), place, ["", "Nothing.", ""])
    assert [found[f"{name} (lemmas)"].value for name in ("response_level", "mention_level", "CHAIR_s")] == [None] * 3
    assert found["mention_level (lemmas)"].reason == "no answer mentions an object"
    assert (found["recall (lemmas)"].value, found["words"].value) == (0, 1)


def test_numbers_by_other_words_or_another_extractor_do_not_compare(tmp_path: Path) -> None:
    place = answered(tmp_path)
    found = [benchmark(place, extractor=extractor).terms(place) for extractor in ("llm", "lemmas")]
    (place / "synonyms_refine.txt").write_text("dog, puppy\n")
    found.append(benchmark(place).terms(place))
    assert len(set(map(str, found))) == 3


def test_short_answers_are_counted_as_guesses(tmp_path: Path) -> None:
    place = answered(tmp_path)
    (outcome,) = score(benchmark(place, rule="clean"), place / "answers.jsonl", draws=100).benchmarks
    assert outcome.guesses == {"answers": 1}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reply": None}, "neither 'reply'"),
        ({"image_id": 99}, "no question is called '99'"),
        ({"text": None}, "the answer to 0 is None"),
    ],
)
def test_other_answers_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    place = answered(tmp_path)
    first, *others = (place / "answers.jsonl").read_text().splitlines()
    (place / "answers.jsonl").write_text("\n".join([json.dumps({**json.loads(first), **change}), *others]))
    with pytest.raises(DataError, match=told):
        numbers(benchmark(place, rule="clean"), place)


def asked(tmp_path: Path) -> Path:
    """The three pictures of `answered`, to be asked about."""
    place = answered(tmp_path)
    picture = base64.b64encode((heldout.FOLDER / "pictures" / "000.png").read_bytes()).decode()
    rows = [{"image_id": n, "question": f"What is in {n}?", "image": picture} for n in range(3)]
    (place / "obj_halbench_300_with_image.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place


def outcome(place: Path, lister: Server, model: Server, **values: Any) -> Outcome:
    section = {"kind": "object_halbench", "data": str(place), "rule": "clean", **values}
    return evaluated(place / "store", section, engine(lister), engine(model)).benchmarks[0]


def described(body: dict[str, Any]) -> str:
    """The description that a judge is asked about."""
    before, after = FORM.split("{answer}")
    return text_of(body).removeprefix(before).removesuffix(after)


def test_a_judges_lists_give_the_numbers_of_the_same_lists_in_a_file(tmp_path: Path) -> None:
    place = asked(tmp_path)
    rows = [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]
    replies = {row["text"]: row["reply"] for row in rows}

    def fault(request: str, attempt: int) -> str | None:
        return "400" if down and "bus stop" in judge.texts[request] else None

    def answer(body: dict[str, Any]) -> str:
        return rows[int(text_of(body).removeprefix("What is in ")[0])]["text"]

    with Server(lambda body: replies.get(described(body), "[]"), fault) as judge, Server(answer) as model:
        down = True
        told = outcome(place, judge, model)
        assert (told.unjudged, told.unreadable, told.guesses) == ({"base": 1}, {"base": 0}, {"base": 1})
        found = {line.metric: line.numbers["base"] for line in told.lines}
        assert (found["mention_level"].value, found["recall"].n) == (50, 2)  # dog and cat of the first, nothing of the third
        down = False
        told = outcome(place, judge, model)
        assert [*map(described, judge.bodies)].count(rows[0]["text"]) == 1
    assert rows[2]["text"] not in map(described, judge.bodies)  # of three words
    found = {line.metric: (line.numbers["base"].value, line.n) for line in told.lines}
    assert found == {name: (number.value, number.n) for name, number in numbers(benchmark(place, rule="clean"), place).items()}


def test_a_judge_is_not_asked_about_short_answers(tmp_path: Path) -> None:
    place = asked(tmp_path)
    with Server(lambda body: "[]") as judge, Server(lambda body: "Three cats sleep") as model:
        told = outcome(place, judge, model)
    assert not judge.bodies
    assert (told.n, told.guesses, told.unjudged) == (3, {"base": 3}, {"base": 0})
    (line,) = (line for line in told.lines if line.metric == "mention_level")
    assert (line.n, line.numbers["base"].value, line.numbers["base"].reason) == (3, None, "no answer mentions an object")


def test_without_a_judge_no_model_is_asked(tmp_path: Path) -> None:
    place = asked(tmp_path)
    with Server(lambda body: "[]") as judge, Server(lambda body: "A dog and a cat") as model:
        with pytest.raises(RecipeError, match="no model lists the objects"):
            outcome(place, judge, model, judge="")
        assert not model.bodies
        told = outcome(place, judge, model, judge="", extractor="lemmas")
    assert not judge.bodies and told.judge is None
    assert (told.lines[0].metric, told.lines[0].split, told.lines[0].n) == ("response_level", "lemmas", 3)


def test_a_recipe_names_a_judge_where_one_is_asked_and_nowhere_else() -> None:
    def parsed(**values: str) -> None:
        server = {"kind": "openai_http", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
        section = {"kind": "object_halbench", "data": "x", **values}
        parse({"name": "x", "engines": {"writer": server}, "eval": {"benchmarks": [section]}})

    with pytest.raises(RecipeError, match="no model lists the objects") as error:
        parsed()
    assert "judge" in error.value.fix and "lemmas" in error.value.fix
    with pytest.raises(RecipeError, match="lemmas ask no judge"):
        parsed(extractor="lemmas", judge="writer")
    with pytest.raises(RecipeError, match="someone"):
        parsed(judge="someone")
    parsed(judge="writer")
    parsed(extractor="lemmas")


def listed(body: dict[str, Any]) -> str:
    """Always the same things; no list where a cat is spoken of."""
    return "A cat, I think." if "cat" in described(body) else '["ship", "apples"]'


def listing_recipe(folder: Path, server: Server, model: str) -> Path:
    """The miniature policy describes held-out scenes, and `model` lists the objects."""
    (folder / "hal").mkdir(exist_ok=True)
    for name in ("instances.json", "captions.json", "synonyms.txt"):
        shutil.copy(heldout.FOLDER / name, folder / "hal" / name.replace("synonyms", "synonyms_refine"))
    rows = [{"image_id": n, "question": "Describe this picture."} for n in range(24)]
    (folder / "hal" / "obj_halbench_300_with_image.jsonl").write_text("\n".join(map(json.dumps, rows)))
    hal = {"kind": "object_halbench", "data": "hal", "pictures": str(heldout.FOLDER / "pictures"), "rule": "clean"}
    section = {"model": "miniature/policy", "draws": 100, "benchmarks": [{**hal, "judge": "lister"}]}
    tree = {"name": "hal", "engines": {"lister": served(server, model=model)}, "execution": {"threads": 1}, "eval": section}
    (folder / f"{model}.yaml").write_text(yaml.safe_dump(tree))
    return folder / f"{model}.yaml"


def test_a_run_stores_a_judges_lists_and_compares_with_no_other_judges(tmp_path: Path) -> None:
    with Server(listed) as server:
        wanted = listing_recipe(tmp_path, server, "m"), tmp_path / "runs" / "m"
        evaluate_recipe(*wanted)
        num_asked = len(server.bodies)
        run = evaluate_recipe(*wanted)
        assert len(server.bodies) == num_asked
        other = evaluate_recipe(listing_recipe(tmp_path, server, "n"), tmp_path / "runs" / "n")
    texts = {row.item_id: row.text for row in run.rows("answers/object_halbench-base")}
    assert set(map(described, server.bodies)) == set(texts.values())
    assert {row.text for row in run.rows("judging/object_halbench-base")} == {"A cat, I think.", '["ship", "apples"]'}

    (told,) = run.manifest["results"]["benchmarks"]
    found = {line["metric"]: line["base"]["value"] for line in told["metrics"]}
    truths = {item.id: set(json.loads(item.target)) for item in run.rows("items/object_halbench")}
    wrong = [{"boat", "apple"} - truths[name] for name, text in texts.items() if "cat" not in text]
    assert 0 < len(wrong) < 24 and told["unreadable"] == {"base": 24 - len(wrong)}
    assert found["response_level"] == pytest.approx(100 * sum(map(bool, wrong)) / len(wrong), rel=1e-5)
    assert found["mention_level"] == pytest.approx(100 * sum(map(len, wrong)) / (2 * len(wrong)), rel=1e-5)
    assert (told["judge"]["model"], told["judge"]["prompt"]) == ("m", benchmark(tmp_path).prompt_digest())
    with pytest.raises(DataError, match=r"judge\.model is 'm' in m:base, 'n' in n:base"):
        compare(sides([str(run.folder), str(other.folder)]))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"image_id": 0, "question": "?"}\n{"image_id": 0, "question": "?"}', "a second time"),
        ('{"image_id": 5, "question": "?"}', "no picture 5"),
        ('{"image_id": 0}', "no 'question'"),
        ('{"question": "?"}', "no 'image_id'"),
    ],
)
def test_other_questions_are_refused(tmp_path: Path, line: str, told: str) -> None:
    place = answered(tmp_path)
    (place / "obj_halbench_300_with_image.jsonl").write_text(line)
    with pytest.raises(DataError, match=told):
        benchmark(place, rule="clean").questions(place)
    (place / "obj_halbench_300_with_image.jsonl").unlink()
    with pytest.raises(DataError, match="0 files"):
        benchmark(place, rule="clean").questions(place)


def test_a_picture_in_the_question_is_used(tmp_path: Path) -> None:
    place = answered(tmp_path)
    row = {"image_id": 2, "question": "?", "image": base64.b64encode(b"pixels").decode()}
    (place / "obj_halbench_300_with_image.jsonl").write_text(json.dumps(row) + '\n{"image_id": 1, "question": "?"}')
    first, second = benchmark(place, rule="clean").questions(place)
    assert (first.id, first.picture, first.target) == ("2", b"pixels", ["cat"])
    assert (second.picture, second.target) == (place / "pictures" / "1.jpg", ["car", "cup"])


def test_without_its_data_the_published_rule_says_how_to_get_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = pytest.importorskip("nltk")
    pytest.importorskip("spacy")
    need_wordnet()
    with pytest.raises(MissingPackage, match="en_core_web_none"):
        numbers(benchmark(data, parser="en_core_web_none"), data)
    nltk.corpus.wordnet._unload()
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(MissingPackage, match="WordNet"):
        benchmark(data).questions(data)
