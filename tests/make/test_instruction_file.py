import json
from collections import Counter

import pytest

from sightline.engines import Engines
from sightline.errors import DataError
from sightline.execute import Silent, Use
from sightline.make import Make, check
from sightline.make.instructions import INSTRUCTIONS
from sightline.make.prompts import prompt_key
from sightline.rows import Dropped, Instruction, RankedImage
from sightline.store.shards import Store
from tests.make.rows import ORIGIN


def ranked(number: int) -> RankedImage:
    text = f"{number} cups"
    return RankedImage(
        id=f"ranked{number}", key=prompt_key(text), prompt_id=f"3@reply{number}", prompt=text, topic="art", image_id="i",
        picture="p", score=0.0, candidates=[], origin=ORIGIN,
    )  # fmt: skip


def ask(tmp_path, name: str, content: str | bytes, numbers: int = 4, **fields: object) -> list[Instruction | Dropped]:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (task,) = INSTRUCTIONS.read({"kind": "file", "path": name, **fields}).tasks(tmp_path)
    return list(task.step.make(Use(Engines({}), Store(tmp_path), 0), [ranked(number) for number in range(numbers)]))


def test_a_line_of_a_list_is_drawn_for_each_picture_evenly_and_always_the_same(tmp_path):
    made = ask(tmp_path, "i.txt", "\ufeffWhat is {it}?\n\n  Describe it. \r\n", 400)
    assert 150 < Counter(row.text for row in made)["What is {it}?"] < 250 and {row.text for row in made} == {
        "What is {it}?",
        "Describe it.",
    }
    assert made == ask(tmp_path, "i.txt", "What is {it}?\nDescribe it.", 400)


def test_a_prompts_own_lines_go_before_those_for_any_prompt(tmp_path):
    lines = [
        {"text": "How many?", "prompt": "0 cups "},
        {"text": "Which colour?", "prompt": "0 cups"},
        {"text": "By its id.", "prompt_id": "3@reply1"},
        {"text": "By its key.", "prompt_id": prompt_key("2 cups")},
        {"text": "Any."},
    ]
    content = "\n".join(map(json.dumps, lines))
    made = ask(tmp_path, "i.jsonl", content, all=True)
    assert [(row.prompt, row.text) for row in made] == [
        ("0 cups", "How many?"),
        ("0 cups", "Which colour?"),
        ("1 cups", "By its id."),
        ("2 cups", "By its key."),
        ("3 cups", "Any."),
    ]
    assert ask(tmp_path, "i.jsonl", content)[0].text in ("How many?", "Which colour?")


def test_a_prompt_without_a_line_is_a_drop(tmp_path):
    made = ask(tmp_path, "i.jsonl", '{"text": "How many?", "prompt": "1 cups"}', 2)
    assert [(row.row_id, row.reason, row.detail) for row in made if isinstance(row, Dropped)] == [
        ("ranked0", "no instruction for this prompt", "0 cups")
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("i.txt", "\n \n", "i.txt: this file holds no instructions"),
        ("i.txt", b"What?\nWhich \xff?\n", "line 2: this is not UTF-8"),
        ("i.jsonl", '{"text": "What?"}\n{"text": \n', "i.jsonl, line 2: this is not JSON"),
        ("i.jsonl", '{"text": "\\ud83d"}\n', "i.jsonl, line 1: this is not JSON"),
        ("i.jsonl", '["What?"]\n', "i.jsonl, line 1: no instruction is here"),
        ("i.jsonl", '{"text": " "}\n', "i.jsonl, line 1: no instruction is here"),
        ("i.jsonl", '{"text": "What?", "prompt": 3}\n', "i.jsonl, line 1: no instruction is here"),
        ("i.jsonl", '{"text": "What?", "prompt": "a", "prompt_id": "b"}\n', "i.jsonl, line 1: no instruction is here"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path, name, content, said):
    with pytest.raises(DataError, match=said):
        ask(tmp_path, name, content)


def section(path: str = "i.jsonl") -> Make:
    tree = {"prompts": {"kind": "file", "path": "p.txt"}, "images": {"engine": "p"}, "ranking": {"scorer": "s"}}
    return Make.model_validate({**tree, "instructions": {"kind": "file", "path": path}})


def test_a_check_reads_the_file_and_compares_it_with_the_prompts(tmp_path):
    (tmp_path / "p.txt").write_text("a cup\na tree\n")
    (tmp_path / "i.jsonl").write_text('{"text": "What?", "prompt": "a cup"}\n{"text": "What?", "prompt": "a cat"}\n')
    said = "instructions i.jsonl, 1 prompts without an instruction, 1 prompts that are not there"
    assert check(section(), {}, tmp_path, Silent()) == (f"prompts p.txt: 2 over 1 topics; {said}", [])
    (tmp_path / "i.jsonl").write_text('{"text": "What?"}\n')
    assert check(section(), {}, tmp_path, Silent()) == ("prompts p.txt: 2 over 1 topics; instructions i.jsonl", [])
    (tmp_path / "i.jsonl").write_text('{"text": "What?", "prompt": "a cat"}\n')
    with pytest.raises(DataError, match=r"i\.jsonl: no line is for any of the prompts"):
        check(section(), {}, tmp_path, Silent())
    with pytest.raises(DataError, match=r"nowhere\.txt: the instructions cannot be read"):
        check(section("nowhere.txt"), {}, tmp_path, Silent())
