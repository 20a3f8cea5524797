import pytest

from sightline.engines import ENGINES
from sightline.errors import DataError
from sightline.execute import Silent
from sightline.make import Make, check
from sightline.make.prompts import PROMPTS

PAINTER = ENGINES.read({"kind": "diffusers", "model": "miniature/painter"})


def read(tmp_path, name: str, content: str | bytes, **fields: object):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return PROMPTS.read({"kind": "file", "path": name, **fields}).read(tmp_path)


def test_plain_text_holds_a_prompt_a_line(tmp_path):
    prompts, dropped = read(tmp_path, "p.txt", "\ufeffa red cup\n\n  a tree \r\n", topic="art")
    assert [(prompt.text, prompt.topic) for prompt in prompts] == [("a red cup", "art"), ("a tree", "art")]
    assert dropped == []
    assert all(prompt.key == prompt.id for prompt in prompts)


def test_json_lines_hold_prompts_and_topics(tmp_path):
    prompts, _ = read(tmp_path, "p.jsonl", '{"text": "a red cup", "topic": "art"}\n{"text": "a tree"}\n')
    assert [(prompt.text, prompt.topic) for prompt in prompts] == [("a red cup", "art"), ("a tree", "unsorted")]


def test_a_prompt_that_stands_twice_is_dropped_with_its_line(tmp_path):
    prompts, dropped = read(tmp_path, "p.txt", "a red cup\na tree\na red cup\n")
    assert len(prompts) == 2
    assert [(row.key, row.reason, row.detail) for row in dropped] == [(prompts[0].key, "duplicate prompt", "line 3: a red cup")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", "\n \n", "p.txt: this file holds no prompts"),
        ("p.txt", b"a cup\na \xff cup\n", "line 2: this is not UTF-8"),
        ("p.jsonl", '{"text": "a cup"}\n{"text": \n', "p.jsonl, line 2: this is not JSON"),
        ("p.jsonl", '{"txet": "a cup"}\n', "p.jsonl, line 1: no prompt is here"),
        ("p.jsonl", '["a cup"]\n', "p.jsonl, line 1: no prompt is here"),
        ("p.jsonl", '{"text": "a cup", "topic": 3}\n', "p.jsonl, line 1: no prompt is here"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path, name, content, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, name, content)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        PROMPTS.read({"kind": "file", "path": "none.txt"}).read(tmp_path)


def test_a_check_names_the_words_that_the_painter_does_not_know_and_those_it_does(tmp_path):
    (tmp_path / "p.txt").write_text("a red cup in the park\na red zebra in the park\na mauve cup in the park\n")
    section = Make.model_validate({"prompts": {"kind": "file", "path": "p.txt"}, "images": {"engine": "painter"}})
    with pytest.raises(DataError) as caught:
        check(section, {"painter": PAINTER}, tmp_path, Silent())
    assert "does not know 'zebra' in the prompt 'a red zebra in the park' (1 more" in str(caught.value)
    assert "it knows: " in str(caught.value) and "umbrella" in caught.value.fix


def test_a_check_says_what_the_prompts_come_to(tmp_path):
    (tmp_path / "p.txt").write_text("a red cup in the park\na red cup in the park\n")
    section = Make.model_validate({"prompts": {"kind": "file", "path": "p.txt"}, "images": {"engine": "painter"}})
    said, refused = check(section, {"painter": PAINTER}, tmp_path, Silent())
    assert said == "prompts p.txt: 1 over 1 topics, 1 duplicates left out"
    assert refused == []
