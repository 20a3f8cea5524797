"""Prompts that a served model writes: spread over topics, without near-duplicates, asked for again where they lack."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sightline.engines import ENGINES
from sightline.errors import RunError
from sightline.execute import Executor, Tally
from sightline.make.prompts import PROMPTS, prompt_key
from sightline.make.written_prompts import TOPICS, read_prompts
from sightline.plugin import recipe_error
from sightline.rows import Dropped, Prompt, Reply
from tests.make.rows import ORIGIN
from tests.make.writer import asked_for, distinct, executor, lists
from tests.servers import Server, seeded, text_of

PAINTER = ENGINES.read({"kind": "diffusers", "model": "miniature/painter"})


def section(**fields: Any):
    return PROMPTS.read({"kind": "written", "engine": "writer", "count": 40, "per_call": 3, **fields})


def write(hands: Executor, painter=None, **fields: Any) -> tuple[list[Prompt], list[Dropped], list[Tally]]:
    tallies: list[Tally] = []
    prompts, dropped = section(**fields).obtain(hands, Path(), painter, tallies.append)
    return prompts, dropped, tallies


def reasons(dropped: list[Dropped]) -> Counter[str]:
    return Counter(row.reason for row in dropped)


def test_prompts_are_spread_evenly_over_ten_topics_and_lead_to_their_replies(tmp_path):
    with Server(lists(distinct)) as server:
        hands = executor(tmp_path, server)
        prompts, dropped, (tally,) = write(hands, count=43)
    assert Counter(prompt.topic for prompt in prompts) == {topic: 5 if topic in TOPICS[:3] else 4 for topic in TOPICS}
    assert len(TOPICS) == 10 and dropped == []
    assert sorted(asked_for(body)[0] for body in server.bodies) == [1] * 7 + [2] * 3 + [3] * 10  # 4 = 3 + 1, 5 = 3 + 2
    assert tally.usage["calls"] == len(server.bodies) == 20
    replies = {reply.id: reply for shard in tally.shards for reply in hands.store.read(shard)}
    for prompt in prompts:
        place, _, reply = prompt.id.partition("@")
        assert json.loads(replies[reply].text)["prompts"][int(place) - 1] == prompt.text
        assert prompt.key == prompt_key(prompt.text)
    assert all(reply.origin.seed is not None and reply.origin.model == "writer-model" for reply in replies.values())


@pytest.mark.parametrize(("threshold", "rounds"), [(0.5, 2), (7 / 9, 2), (0.8, 1)])
def test_a_near_duplicate_is_dropped_with_what_it_is_like_and_asked_for_again(tmp_path, threshold, rounds):
    def near(topic, seed, place):  # the second differs in its last word: of 8 and 8 runs of three words they share 7, of 9 in all
        return " ".join([*(f"{seed}w{number}" for number in range(9)), f"end{place}"])

    with Server(lists(near)) as server:
        fields = {"topics": ["art"], "count": 2, "near_duplicate": threshold}
        prompts, dropped, tallies = write(executor(tmp_path, server), **fields)
    assert len(prompts) == 2 and len(tallies) == rounds
    assert reasons(dropped) == ({"near-duplicate prompt": 1} if rounds == 2 else {})
    for row in dropped:
        theirs, ours = row.detail.split(" | ")
        assert theirs.endswith("end1") and ours == theirs.replace("end1", "end0") == prompts[0].text


def test_rounds_end_when_each_topic_has_its_number(tmp_path):
    def halves(topic, seed, place):  # every second one says what the one before it said
        return distinct(topic, seed, place - place % 2)

    with Server(lists(halves)) as server:
        prompts, dropped, tallies = write(executor(tmp_path, server), topics=["art"], count=8, per_call=8)
    assert len(prompts) == 8 and [asked_for(body)[0] for body in server.bodies] == [8, 4, 2, 1]
    assert len(tallies) == 4 and reasons(dropped) == {"duplicate prompt": 4 + 2 + 1}


def test_a_list_that_stays_short_says_how_much_is_missing_of_what(tmp_path):
    with Server(lists(lambda topic, seed, place: f"{topic} again")) as server:
        prompts, dropped, _ = write(executor(tmp_path, server), topics=["art", "nature"], count=4, per_call=2, rounds=3)
    assert sorted(prompt.text for prompt in prompts) == ["art again", "nature again"]
    assert reasons(dropped) == {"duplicate prompt": 2 + 2 + 2, "not written in 3 rounds": 2}
    assert [row.detail for row in dropped if row.reason.startswith("not")] == ["topic art", "topic nature"]


def test_what_is_more_than_asked_for_is_no_prompt(tmp_path):
    with Server(lambda body: json.dumps({"prompts": [f"{place} of many" for place in range(9)]})) as server:
        prompts, dropped, _ = write(executor(tmp_path, server), topics=["art"], count=2, shingle_words=1, near_duplicate=1.0)
    assert len(prompts) == 2 and reasons(dropped) == {"more than its topic needs": 7}


def reply(text: str, finish: str = "stop") -> Reply:
    return Reply(id="r", key="k", about_id="q", request="?", text=text, finish=finish, num_tokens=None, origin=ORIGIN)


@pytest.mark.parametrize(
    ("text", "finish", "prompts", "why"),
    [
        ('{"prompts": ["a cup", "a  tall\\n tree"]}', "stop", ["a cup", "a tall tree"], []),
        ('Sure! Here they are:\n```json\n{"prompts": ["a cup"]}\n```\nEnjoy.', "stop", ["a cup"], []),
        ('<think>{"prompts": ["no"]}</think>["a cup"]', "stop", ["a cup"], []),
        ("{'prompts': ['a cup',]}", "stop", ["a cup"], []),
        ('{"prompts": ["a cup", "a tr', "length", ["a cup"], ["prompt cut at max_tokens"]),
        ('{"prompts": ["a cup", 3, "", null, {"text": "x"}]}', "stop", ["a cup"], ["unreadable prompt"] * 4),
        ('{"prompts": ["half \\ud83d of a pair"]}', "stop", [], ["unreadable prompt"]),
        ('{"prompts": "a cup"}', "stop", [], ["unreadable reply"]),
        ('{"texts": ["a cup"]}', "stop", [], ["unreadable reply"]),
        ("1. a cup\n2. a tree", "stop", [], ["unreadable reply"]),
        ("I would rather not.", "stop", [], ["unreadable reply"]),
        ("", "stop", [], ["unreadable reply"]),
        ("[" * 50_000 + '"', "stop", [], ["unreadable reply"]),
    ],
)
def test_a_reply_is_read_or_said_to_be_unreadable(text, finish, prompts, why):
    found = list(read_prompts(reply(text, finish), "art"))
    assert [row.text for row in found if isinstance(row, Prompt)] == prompts
    assert [row.reason for row in found if isinstance(row, Dropped)] == why


def test_a_model_that_mostly_babbles_on_a_server_that_fails_still_fills_the_topics(tmp_path):
    def babble(body):
        spoilt = ["", "Of course!", '{"prompts": 3}', '{"prompts": ["cut']
        return lists(distinct)(body) if body["seed"] % 2 else spoilt[body["seed"] // 2 % 4]

    with Server(babble, seeded(0.3, faults=("500", "cut", "malformed", "shape"))) as server:
        prompts, dropped, tallies = write(executor(tmp_path, server, retries=6), rounds=20)
    assert Counter(prompt.topic for prompt in prompts) == dict.fromkeys(TOPICS, 4)
    assert reasons(dropped)["unreadable reply"] > 0
    assert sum(tally.rows for tally in tallies) == sum(tally.usage["calls"] for tally in tallies) == len(server.paid)


def test_a_run_that_was_stopped_pays_for_no_reply_twice_and_ends_the_same(tmp_path):
    def fault(request, attempt):
        return "503" if down and sum(server.paid.values()) >= 7 else None

    with Server(lists(distinct), fault) as server:
        down = False
        whole = write(executor(tmp_path / "whole", server))[0]
        server.paid.clear()
        down = True
        with pytest.raises(RunError):
            write(executor(tmp_path / "cut", server, retries=0, concurrency=1, max_failures_in_a_row=2))
        down = False
        prompts, _, (tally,) = write(executor(tmp_path / "cut", server))
        assert prompts == whole and set(server.paid.values()) == {1} and len(server.paid) == 20
        assert 0 < tally.reused < len(tally.shards)
        asked = sum(server.asked.values())
        assert write(executor(tmp_path / "cut", server))[0] == whole
    assert sum(server.asked.values()) == asked


def test_another_reading_of_the_replies_asks_for_nothing_that_is_there(tmp_path):
    with Server(lists(distinct)) as server:
        write(executor(tmp_path, server))
        asked = sum(server.asked.values())
        prompts, _, (tally,) = write(executor(tmp_path, server), near_duplicate=0.9, rounds=2)
    assert sum(server.asked.values()) == asked and tally.reused == len(tally.shards) and len(prompts) == 40


def test_a_painter_of_few_words_gets_no_others_and_the_writer_is_told_them(tmp_path):
    def zoo(topic, seed, place):
        scenes = ["a red cup in the park", "a red zebra in the park", "a yellow bird and a green tree in the room"]
        return scenes[place]

    with Server(lists(zoo)) as server:
        prompts, dropped, _ = write(executor(tmp_path, server), PAINTER, topics=["art"], count=3, rounds=2)
    assert [prompt.text for prompt in prompts] == ["a red cup in the park", "a yellow bird and a green tree in the room"]
    unknown = [row.detail for row in dropped if row.reason == "words that the painter does not know"]
    assert unknown == ["zebra"]
    assert all("Use no words but these: a, and, apple, bird," in text_of(body) for body in server.bodies)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"count": 0}, "count: .*greater than or equal to 1"),
        ({"topics": []}, "topics: .*at least 1"),
        ({"topics": ["art", " "]}, "topics.1: "),
        ({"topics": ["art", "art "]}, "the topic 'art' stands twice"),
        ({"wording": "Write {number} prompts."}, "the text lacks its slot 'topic'"),
        ({"wording": "Write {number} of {topic} by {author}."}, "unknown slot 'author'"),
        ({"near_duplicate": 0}, "near_duplicate: "),
        ({"decoding": {"temperature": 0.0}}, "greedy decoding writes the same"),
        ({"topic": "art"}, "unknown key 'topic'.*\n.*did you mean 'topics'"),
    ],
)
def test_a_section_that_cannot_work_is_refused(fields, said):
    from pydantic import ValidationError

    with pytest.raises(Exception, match=said):
        try:
            section(**fields)
        except ValidationError as error:
            raise recipe_error(error) from None
