"""Answers split into claims by a served model, and each claim asked of a served judge."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightline.engines import ENGINES
from sightline.errors import RunError
from sightline.execute import Tally
from sightline.make.annotators import ANNOTATORS
from sightline.make.annotators.claims import SplitReading
from sightline.make.annotators.splitting import read_split
from sightline.plugin import recipe_error
from sightline.rows import Annotation
from tests.make.rows import response
from tests.make.test_judging import answers
from tests.make.test_written_prompts import reply
from tests.make.writer import engine, executor
from tests.servers import Server, text_of

CLAIMS = {"kind": "claims", "judge": "judge", "split": {"engine": "writer"}}
ANSWERS = ["a red cup; a green tree", "a red cup; a cat", "", "we cannot see", "babble", "a red cup; a red cup; a dog"]
TRUE = {"a red cup", "a green tree"}


def answer(body: dict[str, Any]) -> str:
    """Splits at semicolons; judges by what is true."""
    text = text_of(body)
    if not text.startswith("Somebody was asked"):
        return "Yes." if re.fullmatch(r"Can (.*) be seen\?", text)[1] in TRUE else "No, it cannot."
    said = re.search(r"\[Answer\]\n(.*?)\n\[End of answer\]", text, re.DOTALL)[1]
    if said == "babble":
        return "The claims are that there is a cup."
    claims = [] if said == "we cannot see" else said.split("; ")
    return json.dumps({"claims": [{"claim": f"There is {claim}.", "question": f"Can {claim} be seen?"} for claim in claims]})


class Bench:
    """Answers in a store, and a server that splits and judges."""

    def __init__(self, root: Path, server: Server, **changes: Any) -> None:
        self.hands = executor(root, server, shard_size=2, **changes)
        self.hands.use.engines.sections["judge"] = ENGINES.read(engine(server, model="judge-model", **changes))
        rows = answers(self.hands.store, [(1,)] * len(ANSWERS))
        self.responses = [replace(row, text=text) for row, text in zip(rows, ANSWERS, strict=True)]
        self.shards = {"responses/pool": self.hands.store.source("responses/pool", "test", self.responses, [], 2)}
        self.tallies: dict[str, Tally] = {}

    def annotate(self, **fields: Any) -> list[Annotation]:
        for task in ANNOTATORS.read({**CLAIMS, **fields}).tasks("claims", Path(), ("responses/pool",)):
            self.tallies[task.name] = self.hands.run(task, [self.shards[name] for name in task.after])
            self.shards[task.name] = self.tallies[task.name].shards
        found = {row.response_id: row for shard in self.shards["annotations/claims"] for row in self.hands.store.read(shard)}
        return [found[row.id] for row in self.responses]


def test_the_score_is_minus_the_claims_that_the_judge_rejects(tmp_path):
    with Server(answer) as server:
        bench = Bench(tmp_path, server)
        found = bench.annotate()
    assert [(row.score, row.reason) for row in found] == [
        (0.0, None),
        (-1.0, None),
        (None, "no claim to check"),
        (None, "no claim to check"),
        (None, "unreadable split"),
        (-1.0, None),  # what stands twice is one claim
    ]
    assert [(claim.text, claim.question, claim.holds) for claim in found[1].claims] == [
        ("There is a red cup.", "Can a red cup be seen?", True),
        ("There is a cat.", "Can a cat be seen?", False),
    ]
    assert list(bench.tallies) == ["splits/claims", "judgements/claims", "annotations/claims"]
    assert bench.tallies["splits/claims"].usage["calls"] == 5  # not of the empty answer
    shown = {len(body["messages"][0]["content"]) for body in server.bodies if body["model"] == "writer-model"}
    assert shown == {1}  # the splitter sees no picture
    assert all(len(body["messages"][0]["content"]) == 2 for body in server.bodies if body["model"] == "judge-model")


def test_credit_counts_for_claims_that_hold(tmp_path):
    with Server(answer) as server:
        found = Bench(tmp_path, server).annotate(credit=1.0)
    assert [row.score for row in found] == [2.0, 0.0, None, None, None, 0.0]


@pytest.mark.parametrize(
    ("text", "finish", "claims", "why"),
    [
        ('{"claims": [{"claim": "A cup.", "question": "A cup?"}]}', "stop", {"A cup?": "A cup."}, None),
        ('I found:\n```\n[{"claim": "A cup.", "question": "A cup?"}]\n```', "stop", {"A cup?": "A cup."}, None),
        ('{"claims": []}', "stop", {}, None),
        ('{"claims": [{"claim": "A cup.", "question": "A cup?"}, {"cla', "length", {}, "split cut at max_tokens"),
        ('{"claims": [{"claim": "A cup.", "question": "A cup?"}, {"claim": "A cat."}]}', "stop", {}, "unreadable split"),
        ('{"claims": [{"claim": "A cup.", "question": ""}]}', "stop", {}, "unreadable split"),
        ('{"claims": ["A cup."]}', "stop", {}, "unreadable split"),
        ('{"claims": {"claim": "A cup.", "question": "A cup?"}}', "stop", {}, "unreadable split"),
        ("There is a cup.", "stop", {}, "unreadable split"),
        ("", "stop", {}, "unreadable split"),
    ],
)
def test_a_split_is_read_whole_or_not_at_all(text, finish, claims, why):
    found = read_split(response("a", "a cup"), reply(text, finish))
    assert (found.by_question, found.reason) == (claims, why)


def test_a_split_or_a_verdict_that_cannot_be_had_is_no_score(tmp_path):
    def fault(request, attempt):
        text = text_of(server.bodies[-1])
        return "400" if "green tree\n[End" in text or "a dog be seen" in text else None

    with Server(answer, fault) as server:
        bench = Bench(tmp_path, server, concurrency=1)
        found = bench.annotate()
    assert (found[0].score, found[0].reason) == (None, "no reply of the splitter")
    assert (found[5].score, found[5].reason) == (None, "unreadable verdict on 1 of 2 claims")
    assert bench.tallies["splits/claims"].dropped == bench.tallies["judgements/claims"].dropped == {"no reply: HTTP 400": 1}


def test_stopped_and_started_again_it_pays_once_and_a_better_reading_pays_nothing(tmp_path, monkeypatch):
    def fault(request, attempt):
        return "503" if down and len(server.paid) >= limit else None

    with Server(answer, fault) as server:
        down = False
        whole = Bench(tmp_path / "whole", server).annotate()
        owed = dict(server.paid)
        server.paid.clear()
        down = True
        for limit in (2, 7):  # in the middle of the splits, and of the judgements  # noqa: B007
            with pytest.raises(RunError):
                Bench(tmp_path, server, retries=0, concurrency=1, max_failures_in_a_row=2).annotate()
        down = False
        found = Bench(tmp_path, server).annotate()
        assert found == whole and dict(server.paid) == owed
        assert sum("Take the answer apart" in server.texts[name] for name in owed) == 5
        monkeypatch.setattr(SplitReading, "version", SplitReading.version + 1)
        bench = Bench(tmp_path, server)
        assert bench.annotate() == found and bench.tallies["annotations/claims"].reused == 0
    assert dict(server.paid) == owed


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"objects": "miniature/objects"}, "claims come from word lists, or from a model that splits"),
        ({"split": None}, "claims come from word lists, or from a model that splits"),
        ({"attributes": "miniature/colours"}, "'attributes' goes with word lists, not with split"),
        ({"question": "Do you see {claim}?"}, "'question' goes with word lists, not with split"),
        ({"split": {"engine": "writer", "wording": "Split it."}}, "the text lacks its slot 'answer'"),
        ({"split": {"engin": "writer"}}, "unknown key 'engin'.*\n.*did you mean 'engine'"),
    ],
)
def test_a_section_that_cannot_work_is_refused(fields, said):
    from pydantic import ValidationError

    with pytest.raises(Exception, match=said):
        try:
            ANNOTATORS.read({**CLAIMS, **fields})
        except ValidationError as error:
            raise recipe_error(error) from None
