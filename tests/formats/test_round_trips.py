"""What goes into any format comes back: rows through files, and files through rows."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import DataError
from sightline.formats import FORMATS, export_rows, import_rows
from sightline.rows import Pair
from sightline.store.shards import Store

from .conftest import COLOURS, coloured, folder_of, lay_out, pairs_in

FILES = {
    "datasets": ("",),
    "llamafactory": (".json", ".jsonl"),
    "llava": (".json", ".jsonl"),
    "mllm_dpo": (".json", ".jsonl"),
    "rlaif_v": (".json", ".jsonl", ".parquet"),
    "swift": (".jsonl", ".json"),
    "trl": (".parquet", ".json", ".jsonl"),
    "vlfeedback": (".jsonl", ".json"),
}
WAYS = [(format, suffix) for format, suffixes in FILES.items() for suffix in suffixes]
ONE_PICTURE = ("rlaif_v", "vlfeedback")
NO_PICTURES = ("mllm_dpo", "swift", "llamafactory", "trl", "datasets")
FEW = settings(max_examples=10, deadline=None)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = texts.filter(str.strip)
numbers = st.integers(-(2**63), 2**63 - 1)
extras = st.fixed_dictionaries({}, optional={"origin": texts, "score": numbers, "notes": st.none() | texts})


def some_pictures(format: str) -> st.SearchStrategy[list[str]]:
    fewest, most = (1, 1) if format in ONE_PICTURE else (0 if format in NO_PICTURES else 1, 3)
    return st.lists(st.sampled_from(sorted(COLOURS)), min_size=fewest, max_size=most)


@st.composite
def made_pairs(draw: Any, format: str, root: Path) -> list[Pair]:
    """Pairs as runs make them: ids of their own, keys that may come twice, fields that may be absent."""
    rated = format == "vlfeedback"
    made = []
    for number in range(draw(st.integers(1, 4))):
        low, high = sorted(draw(st.tuples(*[st.floats(-1e6, 1e6)] * 2).filter(lambda two: two[0] != two[1])))
        maybe = {name: draw(st.none() | names) for name in ("chosen_id", "chosen_model", "rejected_model", "topic")}
        scores = {"chosen_score": high, "rejected_score": low}
        made.append(
            Pair(
                id=f"pair {number}",
                key=draw(names),
                instruction=draw(texts),
                pictures=[Store(root).put_picture(coloured(name)) for name in draw(some_pictures(format))],
                chosen=draw(texts),
                rejected=draw(texts),
                rule=draw(names),
                **maybe,
                **(scores if rated or draw(st.booleans()) else {}),
            )
        )
    return made


def through(format: str, suffix: str, pairs: list[Pair], root: Path, folder: Path) -> list[Pair]:
    """The pairs after an export and an import."""
    done = export_rows(folder_of(root, pairs), format, folder / (f"rows{suffix}" if suffix else "out"))
    where = folder / "out" if format == "datasets" else done.file
    return pairs_in(import_rows(where, format, None, folder / "back"))


def test_every_format_goes_through_these_tests():
    assert set(FILES) == set(FORMATS)
    assert {format: set(suffixes) for format, suffixes in FILES.items() if suffixes != ("",)} == {
        name: set(FORMATS.find(name).containers) for name in FORMATS if name != "datasets"
    }


@pytest.mark.parametrize(("format", "suffix"), WAYS)
def test_rows_come_back_equal(format, suffix, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")

    @FEW
    @given(made_pairs(format, root))
    def check(pairs: list[Pair]) -> None:
        with tempfile.TemporaryDirectory(dir=root.parent) as folder:
            assert through(format, suffix, pairs, root, Path(folder)) == pairs

    check()


def turn(who: str, what: str, role: str, text: Any) -> dict[str, Any]:
    return {who: role, what: text}


def question(draw: Any, pictures: list[str]) -> str:
    """A question with a placeholder for each picture, before or behind it."""
    asks = draw(texts)
    marks = "<image>\n" * len(pictures)
    return draw(st.sampled_from([marks + asks, asks + "\n<image>" * len(pictures)]))


@st.composite
def llava(draw: Any, pictures: list[str]) -> dict[str, Any]:
    asks = question(draw, pictures)
    sides = {
        side: [turn("from", "value", "human", asks), turn("from", "value", "gpt", draw(texts))]
        for side in ("conversations", "rejected_conversations")
    }
    return {"id": draw(names), "image": pictures[0] if len(pictures) == 1 and draw(st.booleans()) else pictures, **sides}


@st.composite
def mllm_dpo(draw: Any, pictures: list[str]) -> dict[str, Any]:
    asks = turn("from", "value", "human", question(draw, pictures))
    sides = {side: turn("from", "value", "gpt", draw(texts)) for side in ("chosen", "rejected")}
    written = draw(st.sampled_from(["turn", "python", "list"]))
    if written == "list":
        record: dict[str, Any] = {side: [asks, answer] for side, answer in sides.items()}
    else:
        record = {"question": asks if written == "turn" else repr(asks), **sides}
    image = {"image": pictures[0] if len(pictures) == 1 else pictures} if pictures else {}
    logprobs = st.floats(-1e4, 0)
    reference = {f"ref_{side}_{what}": draw(logprobs) for side in ("win", "rej") for what in ("logp", "avg_logp")}
    tokens = {f"ref_{side}_per_token_logp": draw(st.lists(logprobs, max_size=3)) for side in ("win", "rej")}
    return {**image, **record, **(reference | tokens if draw(st.booleans()) else {})}


@st.composite
def swift(draw: Any, pictures: list[str]) -> dict[str, Any]:
    def says(role: str, text: str) -> dict[str, Any]:
        return turn("role", "content", role, text)

    asks, chosen, rejected = question(draw, pictures), draw(texts), draw(texts)
    record: dict[str, Any] = {"messages": [says("user", asks), says("assistant", chosen)]}
    images: list[Any] = [{"bytes": None, "path": name} if draw(st.booleans()) else name for name in pictures]
    if pictures:
        record["images"] = images
    written = draw(st.sampled_from(["text", "turn", "messages"]))
    if written == "messages":
        record["rejected_messages"] = [says("user", asks), says("assistant", rejected)]
        return {**record, "rejected_images": images} if pictures else record
    return {**record, "rejected_response": rejected if written == "text" else [says("assistant", rejected)]}


@st.composite
def llamafactory(draw: Any, pictures: list[str]) -> dict[str, Any]:
    images = {"images": pictures} if pictures else {}
    if draw(st.booleans()):  # alpaca
        asks = {"instruction": question(draw, pictures), "input": draw(texts)}
        return {**asks, "chosen": draw(texts), "rejected": draw(texts), **images}
    sides = {side: turn("from", "value", "gpt", draw(texts)) for side in ("chosen", "rejected")}
    return {"conversations": [turn("from", "value", "human", question(draw, pictures))], **sides, **images}


@st.composite
def rlaif_v(draw: Any, pictures: list[str]) -> dict[str, Any]:
    said = {name: draw(texts) for name in ("question", "chosen", "rejected")}
    image = {"image": draw(st.sampled_from([pictures[0], {"path": pictures[0]}]))}
    text = {"text": json.dumps(said)} if draw(st.booleans()) else {}
    return {"idx": draw(numbers), **image, **(said if not text or draw(st.booleans()) else {}), **text}


@st.composite
def trl(draw: Any, pictures: list[str]) -> dict[str, Any]:
    texted = draw(st.booleans())
    asks, chosen, rejected = draw(texts), draw(texts), draw(texts)
    part = {"type": "text", "text": asks}
    shown: list[dict[str, Any]] = [{"type": "image"} for _ in pictures]
    content = asks if texted else draw(st.sampled_from([[*shown, part], [part, *shown]]))
    sides = {
        side: [turn("role", "content", "assistant", text if texted else [{"type": "text", "text": text}])]
        for side, text in (("chosen", chosen), ("rejected", rejected))
    }
    images: dict[str, Any] = {"images": pictures}
    if len(pictures) == 1 and draw(st.booleans()):
        images = {"image": pictures[0]}
    return {**images, "prompt": [turn("role", "content", "user", content)], **sides}


@st.composite
def vlfeedback(draw: Any, pictures: list[str]) -> dict[str, Any]:
    aspects = ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")
    ratings = ["2", "5"]  # the first two differ: a record without a pair does not come back
    completions = []
    for number in range(draw(st.integers(2, 4))):
        rating = ratings[number] if number < 2 else draw(st.sampled_from(["1", "3", "N/A"]))
        annotations = {aspect: {"Rating": rating, "Rationale": draw(texts)} for aspect in aspects}
        completions.append({"annotations": annotations, "model": draw(names), "response": draw(texts)})
    models = [completion["model"] for completion in completions]
    held: Any = completions
    if draw(st.booleans()):
        held = {name: [completion[name] for completion in completions] for name in completions[0]}
    return {"id": draw(names), "prompt": draw(texts), "models": models, "completions": held, "img_path": pictures[0]}


RECORDS: dict[str, Callable[[list[str]], st.SearchStrategy[dict[str, Any]]]] = {
    "llamafactory": llamafactory,
    "llava": llava,
    "mllm_dpo": mllm_dpo,
    "rlaif_v": rlaif_v,
    "swift": swift,
    "trl": trl,
    "vlfeedback": vlfeedback,
}


@st.composite
def records(draw: Any, format: str) -> list[dict[str, Any]]:
    """Records of a format as others write them, with keys of their own; the same one may come twice."""
    made = [draw(RECORDS[format](draw(some_pictures(format)))) | draw(extras) for _ in range(draw(st.integers(1, 3)))]
    return made + made[:1] if draw(st.booleans()) else made


@pytest.mark.parametrize("format", RECORDS)
def test_files_come_back_equal_from_rows_and_through_every_format(format, tmp_path_factory):
    """The record that a pair came from travels with it: so a file comes back from the rows that passed another format, too."""
    photos = lay_out(tmp_path_factory.mktemp("photos"))

    @FEW
    @given(records(format), st.sampled_from(WAYS))
    def check(given_records: list[dict[str, Any]], way: tuple[str, str]) -> None:
        with tempfile.TemporaryDirectory(dir=photos.parent) as name:
            folder = Path(name)
            (folder / "rows.json").write_text(json.dumps(given_records))
            done = import_rows(folder / "rows.json", format, photos, folder / "in")
            assert json.loads(export_rows(done.folder, format, folder / "same" / "rows.json").file.read_text()) == given_records
            pairs = pairs_in(done)
            if way[0] in ONE_PICTURE and any(len(pair.pictures) != 1 for pair in pairs):
                return
            if way[0] == "llava" and not all(pair.pictures for pair in pairs):
                return
            if way[0] == "vlfeedback" and format != "vlfeedback":
                with pytest.raises(DataError, match="its scores are None"):
                    export_rows(done.folder, way[0], folder / "other" / f"rows{way[1]}")
                return
            (folder / "other").mkdir()
            if way == (format, ".parquet"):  # rows of one shape only fit its columns, with nulls for the keys that others have
                (back,) = through(*way, pairs[:1], folder / "in", folder / "other")
                # alone it is the first of its name, and its name its place in the file, where the format gives it none
                same = {"record": None, "id": "", **({"key": ""} if pairs[0].key.startswith("row-") else {})}
                assert replace(back, **same) == replace(pairs[0], **same)
            else:
                assert through(*way, pairs, folder / "in", folder / "other") == pairs

    check()


@pytest.mark.parametrize("format", [format for format in FILES if format != "vlfeedback"])
@pytest.mark.parametrize(
    ("file", "own"), [("pds_dpo/preferences.json", "llava"), ("mcm_dpo/pinterest/pinterest_train.json", "rlaif_v")]
)
def test_the_real_samples_lose_nothing_in_any_format(shared, tmp_path, file, own, format):
    """Pictures keep their bytes: a pair names them by these. In its own format a file comes back as tests of the import show."""
    if format != own:
        done = import_rows(shared / "data" / file, own, None, tmp_path / "in")
        (tmp_path / "there").mkdir()
        assert through(format, FILES[format][0], pairs_in(done), tmp_path / "in", tmp_path / "there") == pairs_in(done)


def test_the_real_samples_have_no_scores_for_vlfeedback(shared, tmp_path):
    done = import_rows(shared / "data" / "pds_dpo" / "preferences.json", "llava", None, tmp_path / "in")
    with pytest.raises(DataError, match=r"pair art-1: its scores are None and None"):
        export_rows(done.folder, "vlfeedback", tmp_path / "out")


@pytest.mark.parametrize(("format", "suffix"), WAYS)
@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_row_of_one_answer_is_told_by_name_but_for_the_format_that_holds_it(tmp_path, format, suffix, side):
    name = Store(tmp_path / "s").put_picture(coloured("a.png"))
    said = {"instruction": "What?", "pictures": [name], "chosen": "A.", "rejected": "B."}
    pair = Pair(id="p", key="row seven", chosen_score=2.0, rejected_score=1.0, rule="best_of_n", **said)
    lone = replace(pair, **{side: None})
    if format == "datasets":
        assert through(format, suffix, [lone], tmp_path / "s", tmp_path) == [lone]
    else:
        with pytest.raises(DataError, match=f"pair row seven: it has no {side} answer"):
            through(format, suffix, [lone], tmp_path / "s", tmp_path)


@pytest.mark.parametrize("format", ["llava", "mllm_dpo", "swift", "llamafactory"])
def test_a_question_that_says_where_its_picture_stands_keeps_it_and_one_that_says_another_number_is_refused(tmp_path, format):
    name = Store(tmp_path / "s").put_picture(coloured("a.png"))
    pair = Pair(id="p", key="k", instruction="See <image> here?", pictures=[name], chosen="A.", rejected="B.", rule="r")
    done = export_rows(folder_of(tmp_path / "s", [pair]), format, tmp_path / "out" / "rows.json")
    assert done.file.read_text().count("<image>") == (2 if format == "llava" else 1)
    assert pairs_in(import_rows(done.file, format, None, tmp_path / "back")) == [pair]
    with pytest.raises(DataError, match="says <image> 1 times and it has 2 pictures"):
        export_rows(folder_of(tmp_path / "s", [replace(pair, pictures=[name, name])]), format, tmp_path / "other")
