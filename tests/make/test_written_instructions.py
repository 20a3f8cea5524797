"""Instructions that a served model writes from what each picture was asked to show."""

import json
from typing import Any

import pytest

from sightline.engines import ENGINES, Engines
from sightline.errors import RunError
from sightline.execute import Execution, Executor, Tally
from sightline.make.instructions import INSTRUCTIONS
from sightline.make.written_instructions import InstructionReading, read_instruction
from sightline.plugin import recipe_error
from sightline.rows import Dropped, Instruction, RankedImage
from sightline.store.shards import Store
from tests.make.rows import ORIGIN
from tests.make.test_written_prompts import reply
from tests.make.writer import executor
from tests.servers import Server, text_of

RANKED = [
    RankedImage(
        id=f"ranked{n}", key=f"k{n}", prompt_id=f"k{n}", prompt=f"{n} cups", topic="art", image_id=f"i{n}", picture=f"p{n}",
        score=0.0, candidates=[], origin=ORIGIN,
    )
    for n in range(20)
]  # fmt: skip


def ask(body: dict[str, Any]) -> str:
    """An instruction that names how many cups were asked for."""
    text = text_of(body)
    assert "on the topic art:" in text
    number = text.partition(" cups")[0].rpartition("\n")[2]
    return json.dumps({"instruction": f"Are there {number}\nof them?"})


def write(hands: Executor, **fields: Any) -> tuple[list[Instruction], list[Dropped], dict[str, Tally]]:
    tallies: dict[str, Tally] = {}
    shards = {"ranking": hands.store.source("ranking", "test", RANKED, [], 4)}
    for task in INSTRUCTIONS.read({"kind": "written", "engine": "writer", **fields}).tasks(None):
        tallies[task.name] = hands.run(task, [shards[name] for name in task.after])
        shards[task.name] = tallies[task.name].shards
    made = [row for shard in shards["instructions"] for row in hands.store.read(shard)]
    return made, [row for shard in shards["instructions"] for row in hands.store.read_dropped(shard)], tallies


def test_each_picture_is_asked_about_by_what_was_written_of_its_own_prompt(tmp_path):
    with Server(ask) as server:
        made, dropped, tallies = write(executor(tmp_path, server))
    assert {row.image_id: row.text for row in made} == {f"i{n}": f"Are there {n} of them?" for n in range(20)}
    assert {row.pictures[0]: row.prompt for row in made} == {f"p{n}": f"{n} cups" for n in range(20)} and dropped == []
    assert (tallies["replies/instructions"].usage["calls"], tallies["instructions"].usage) == (20, {})
    assert all("response_format" in body and not body["messages"][0]["content"][1:] for body in server.bodies)


def test_a_local_model_writes_without_a_picture_and_what_it_says_is_kept_though_unreadable(tmp_path):
    policy = ENGINES.read({"kind": "transformers", "model": "miniature/policy"})
    hands = Executor(Store(tmp_path / "store"), Engines({"writer": policy}), 0, Execution(shard_size=16))
    made, dropped, tallies = write(hands, decoding={"temperature": 0.0, "max_tokens": 5})
    raw = [row for shard in tallies["replies/instructions"].shards for row in hands.store.read(shard)]
    assert len(raw) == 20 and all(row.text and row.num_tokens <= 5 for row in raw)
    assert made == [] and {row.detail for row in dropped} == {row.text for row in raw}


def test_the_wording_is_the_recipes(tmp_path):
    with Server(lambda body: '{"instruction": "Look."}') as server:
        write(executor(tmp_path, server), wording="Ask of {prompt} ({topic}), {{please}}.")
    assert {text_of(body).partition("\n")[0] for body in server.bodies} == {
        f"Ask of {n} cups (art), {{please}}." for n in range(20)
    }


@pytest.mark.parametrize(
    ("text", "finish", "read", "why"),
    [
        ('{"instruction": " What colour? "}', "stop", "What colour?", ""),
        ('Here:\n```json\n{"instruction": "What colour?"}\n```', "stop", "What colour?", ""),
        ('{"instruction": "What colour', "stop", "What colour", ""),
        ('{"instruction": "What colour', "length", None, "no instruction: reply cut at max_tokens"),
        ('{"instruction": "  "}', "stop", None, "no instruction: empty"),
        ('{"instruction": ["What colour?"]}', "stop", None, "no instruction: unreadable reply"),
        ('["What colour?"]', "stop", None, "no instruction: unreadable reply"),
        ("What colour?", "stop", None, "no instruction: unreadable reply"),
        ("", "stop", None, "no instruction: unreadable reply"),
    ],
)
def test_a_reply_is_read_or_gives_no_instruction_and_says_why(text, finish, read, why):
    found, reason = read_instruction(reply(text, finish))
    assert found == read and (read or reason == why)


def test_what_cannot_be_read_or_had_is_a_drop_with_its_reason(tmp_path):
    def spoilt(body):
        text = ask(body)
        return {"Are there 3": "no", "Are there 5": '{"instruction": ""}'}.get(
            json.loads(text)["instruction"].split("\n")[0], text
        )

    def fault(request, attempt):
        return "400" if "\n7 cups" in text_of(server.bodies[-1]) else None

    with Server(spoilt, fault) as server:
        made, dropped, tallies = write(executor(tmp_path, server, concurrency=1))
    assert len(made) == 17 and tallies["replies/instructions"].dropped == {"no reply: HTTP 400": 1}
    assert {row.row_id: row.reason for row in dropped} == {
        "ranked3": "no instruction: unreadable reply",
        "ranked5": "no instruction: empty",
        "ranked7": "no instruction: no reply",
    }


def test_stopped_and_started_again_it_pays_once_and_a_better_reading_pays_nothing(tmp_path, monkeypatch):
    def fault(request, attempt):
        return "503" if down and len(server.paid) >= 6 else None

    with Server(ask, fault) as server:
        down = True
        with pytest.raises(RunError):
            write(executor(tmp_path, server, retries=0, concurrency=1, max_failures_in_a_row=2))
        down = False
        made, _, tallies = write(executor(tmp_path, server))
        assert len(made) == 20 == len(server.paid) and set(server.paid.values()) == {1}
        assert tallies["replies/instructions"].reused > 0
        monkeypatch.setattr(InstructionReading, "version", InstructionReading.version + 1)
        again, _, tallies = write(executor(tmp_path, server))
    assert again == made and tallies["instructions"].reused == 0
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"wording": "Ask about {topic}."}, "the text lacks its slot 'prompt'"),
        ({"wording": "Ask about {prompt} and {scene}."}, "unknown slot 'scene'"),
        ({"wording": "Ask about {prompt."}, "expected '}'"),
        ({"templates": ["What?"]}, "unknown key 'templates'"),
    ],
)
def test_a_section_that_cannot_work_is_refused(fields, said):
    from pydantic import ValidationError

    with pytest.raises(Exception, match=said):
        try:
            INSTRUCTIONS.read({"kind": "written", "engine": "writer", **fields})
        except ValidationError as error:
            raise recipe_error(error) from None
