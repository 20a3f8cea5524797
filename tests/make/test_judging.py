"""Judges over HTTP, through the steps: a server of ours that fails, counts and bends its ratings."""

import io
import json
import random
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import PIL.Image
import pytest

from sightline.engines import ENGINES, Engines
from sightline.engines.roles import Decoding
from sightline.errors import RunError
from sightline.execute import Execution, Executor, Tally, Task
from sightline.make.annotators import ANNOTATORS
from sightline.make.responses import Answers
from sightline.report.evidence import Evidence
from sightline.report.served import served
from sightline.rows import Dropped, Instruction, Response
from sightline.store.runs import Run
from sightline.store.shards import Store
from tests.make.rows import ORIGIN
from tests.servers import Server, seeded, shown_answers, text_of

SHARD = 512  # keys: a shard waits for its slowest call
KEY = "sk-secret-0123456789abcdef"
ASPECTS = ("helpfulness", "visual_faithfulness", "ethical_considerations")


def rate(body, bonus: int = 0) -> str:
    """Ratings as each answer's own text asks for ('... quality 3'), and more for the one that is shown first."""
    entries = []
    for number, text in enumerate(shown_answers(body), start=1):
        quality = int(text.rpartition(" ")[2]) + (bonus if number == 1 else 0)
        entries.append({"answer": number, "reason": "seen", **dict.fromkeys(ASPECTS, quality)})
    return json.dumps({"answers": entries})


def rate_badly(body) -> str:
    """One reply in ten cannot be read; it is paid for all the same."""
    reply = rate(body)
    bad = random.Random(sha256(json.dumps(body).encode()).hexdigest())
    spoilt = [
        "I would rather not.",
        reply.replace('"helpfulness": ', '"helpfulness": 9'),
        reply.replace("helpfulness", "kindness"),
    ]
    return bad.choice(spoilt) if bad.random() < 0.1 else reply


def answers(store: Store, qualities: list[tuple[int, ...]]) -> list[Response]:
    """Answers to as many instructions, about one picture."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (250, 0, 0)).save(file, "PNG")
    picture = store.put_picture(file.getvalue())
    return [
        Response(
            id=f"response-{number}-{index}",
            key=f"key-{number}",
            instruction_id=f"ask-{number}",
            instruction=f"Question {number}?",
            pictures=[picture],
            text=f"answer {number} {index} of quality {quality}",
            model=f"model-{index}",
            index=0,
            finish="stop",
            num_tokens=5,
            origin=ORIGIN,
        )
        for number, shown in enumerate(qualities)
        for index, quality in enumerate(shown)
    ]


class Bench:
    """A store with answers, and a judge behind the server."""

    def __init__(self, root: Path, server: Server, qualities: list[tuple[int, ...]], **engine) -> None:
        quick = {"timeout_s": 30.0, "backoff_s": 0.01, "max_wait_s": 2.0, "retries": 1, "max_reply_mb": 1.0, "concurrency": 32}
        section = {"kind": "openai_http", "model": "judge-model", "base_url": server.url, **quick, **engine}
        self.store = Store(root / "store")
        self.hands = Executor(self.store, Engines({"judge": ENGINES.read(section)}), 0, Execution(shard_size=SHARD))
        self.responses = answers(self.store, qualities)
        self.shards = self.store.source("responses/pool", "test", self.responses, [], SHARD)

    def judge(self, **settings) -> tuple[Tally, Tally]:
        """Ask, then read."""
        section = ANNOTATORS.read({"kind": "judge", "judge": "judge", "rubric": "vlfeedback", **settings})
        asking = Task("judgements/judge", section.asking("judge", Path()), ("responses/pool",))
        asked = self.hands.run(asking, [self.shards])
        reading = Task("annotations/judge", section.reading("judge", Path()), ("responses/pool", "judgements/judge"))
        return asked, self.hands.run(reading, [self.shards, asked.shards])

    def rows(self, tally: Tally) -> list:
        return [row for shard in tally.shards for row in self.store.read(shard)]

    def dropped(self, tally: Tally) -> list[Dropped]:
        return [row for shard in tally.shards for row in self.store.read_dropped(shard)]


def qualities(number: int) -> list[tuple[int, ...]]:
    rng = random.Random(0)
    return [tuple(rng.randint(1, 5) for _ in range(2)) for _ in range(number)]


def test_answers_in_a_shuffled_order_get_their_own_ratings(tmp_path):
    with Server(rate) as server:
        bench = Bench(tmp_path, server, [(1, 2, 3, 4, 5)] * 20)
        _, read = bench.judge()
    asked = {row.id: float(row.text[-1]) for row in bench.responses}
    assert {row.response_id: row.score for row in bench.rows(read)} == asked
    places = Counter(shown_answers(body)[0][-1] for body in server.bodies)
    assert len(places) == 5  # each of the five stood first somewhere


def test_one_at_a_time_each_answer_is_a_call(tmp_path):
    with Server(rate) as server:
        bench = Bench(tmp_path, server, [(1, 5), (2, 2)])
        asked, read = bench.judge(show="one")
    assert [len(shown_answers(body)) for body in server.bodies] == [1, 1, 1, 1]
    assert {row.response_id: row.score for row in bench.rows(read)} == {row.id: float(row.text[-1]) for row in bench.responses}
    assert asked.usage["calls"] == 4


def test_a_judge_that_favours_what_stands_first_is_found_out_by_the_swap(tmp_path):
    with Server(lambda body: rate(body, bonus=1)) as server:
        bench = Bench(tmp_path, server, [(2, 2), (1, 4)])
        asked, read = bench.judge(swap=True)
    found = {row.response_id: row for row in bench.rows(read)}
    # equal answers: whichever stood first won, so their order flips; 1 against 4: 4 wins in both orders
    assert [found[f"response-0-{index}"].aspects["flips"] for index in (0, 1)] == [1, 1]
    assert [found[f"response-1-{index}"].aspects["flips"] for index in (0, 1)] == [0, 0]
    assert {name: row.score for name, row in found.items()} == {  # the bonus came to each once in two calls
        "response-0-0": 2.5,
        "response-0-1": 2.5,
        "response-1-0": 1.5,
        "response-1-1": 4.5,
    }
    assert asked.usage["calls"] == 4


def test_a_better_reading_or_other_weights_cost_no_call(tmp_path):
    with Server(rate) as server:
        bench = Bench(tmp_path, server, [(1, 5)])
        bench.judge()
        asked, read = bench.judge(weights={"helpfulness": 1.0})
    assert sum(server.asked.values()) == 1 and (asked.reused, read.reused) == (1, 0)


def test_the_page_says_what_was_asked_and_how_often_the_order_decided(tmp_path):
    with Server(lambda body: rate(body, bonus=1)) as server:
        bench = Bench(tmp_path, server, [(2, 2), (1, 4), (3, 3)], input_price=1000.0, output_price=0.0)
        tallies = bench.judge(swap=True)
    run = Run.create(tmp_path / "run", "name: x", tmp_path / "store")
    for tally in tallies:
        shards = [[shard.bucket, shard.address] for shard in tally.shards]
        run.note_step(tally.name, {"rows": tally.rows, "dropped": {}, "usage": tally.usage, "shards": shards})
    assert dict(served(Evidence(run))) == {
        # three instructions, each in two orders, each call of 100 + 7 tokens
        "judgements/judge, served": "6 calls, 600 tokens read, 42 tokens written, cost 0.6",
        # equal answers flip, 1 and 4 do not
        "annotations/judge, order": "2 of 3 pairs of answers (66.7%) change their better one when shown in reversed order",
    }


def test_an_answer_that_cannot_be_had_is_dropped_with_its_reason_and_the_others_stay(tmp_path):
    def fault(request, attempt):
        return "400" if "bad" in text_of(server.bodies[-1]) else None

    with Server(lambda body: f"I see {text_of(body)}", fault) as server:
        use = Bench(tmp_path, server, []).hands.use
        asked = [Instruction(id=text, key=text, text=text, pictures=[]) for text in ("good", "bad", "fair")]
        step = Answers(engine="judge", name="served", samples=2, decoding=Decoding(temperature=1.0))
        rows = list(step.make(use, asked))
    assert [row.text for row in rows if isinstance(row, Response)] == ["I see good"] * 2 + ["I see fair"] * 2
    lost = [row for row in rows if isinstance(row, Dropped)]
    assert [(row.row_id, row.reason) for row in lost] == [("bad", "no reply: HTTP 400")] * 2
    # without the plain request that tells a last row's fault from the server's
    assert len({body["seed"] for body in server.bodies if text_of(body) in ("good", "bad", "fair")}) == 6


def test_a_claim_that_could_not_be_asked_about_leaves_the_answer_without_a_score(tmp_path):
    def fault(request, attempt):
        return "400" if "cat" in text_of(server.bodies[-1]) else None

    with Server(lambda body: "Yes.", fault) as server:
        bench = Bench(tmp_path, server, [(1,), (2,)])
        (tmp_path / "objects.txt").write_text("cat\ncup\n")
        section = ANNOTATORS.read({"kind": "claims", "judge": "judge", "objects": str(tmp_path / "objects.txt")})
        answers = [replace(row, text=text) for row, text in zip(bench.responses, ("A cat and a cup.", "A cup."), strict=True)]
        made = list(section.asking("claims", tmp_path).make(bench.hands.use, answers))
        judgements = [row for row in made if not isinstance(row, Dropped)]
        read = list(section.reading("claims").make(bench.hands.use, answers, judgements))
    assert [row.reason for row in made if isinstance(row, Dropped)] == ["no reply: HTTP 400"]
    assert [(row.score, row.reason) for row in read] == [(None, "unreadable verdict on 1 of 2 claims"), (0.0, None)]


def judge_under_faults(root: Path, number: int, monkeypatch) -> tuple[Bench, Server, Tally, Tally]:
    monkeypatch.setenv("SERVER_KEY", KEY)
    # a reply that a busy machine delays past the time-out is paid and lost; so this is long
    with Server(rate_badly, seeded(0.3), sleep_s=7.0) as server:
        bench = Bench(root, server, qualities(number), timeout_s=6.0, api_key_env="SERVER_KEY", input_price=1.0, output_price=2.0)
        asked, read = bench.judge()
    return bench, server, asked, read


@pytest.mark.parametrize("number", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_under_faults_every_answer_is_annotated_or_dropped_and_no_call_is_paid_twice(tmp_path, monkeypatch, number):
    bench, server, asked, read = judge_under_faults(tmp_path, number, monkeypatch)
    everybody = {row.id for row in bench.responses}
    judged = {row.response_id for row in bench.rows(asked)}
    lost = {row.row_id: row for row in bench.dropped(asked)}
    assert judged | set(lost) == everybody and not judged & set(lost)
    assert all(row.reason.startswith("no reply: ") for row in lost.values()) and len(lost) > 0
    notes = {row.response_id: row for row in bench.rows(read)}
    assert set(notes) == everybody
    assert {name for name, row in notes.items() if row.reason == "no reply of the judge"} == set(lost)
    assert all((row.score is None) == (row.reason is not None) for row in notes.values())
    scored = {name: row.score for name, row in notes.items() if row.score is not None}
    truth = {row.id: float(row.text[-1]) for row in bench.responses}
    assert all(truth[name] == score for name, score in scored.items())
    assert len(scored) > 0.75 * len(everybody)

    assert {count for name, count in server.paid.items() if "[Answer 1]" in server.texts[name]} == {1}
    calls = sum(server.paid.values())  # with the plain requests that told a row's fault from the server's
    used = {"calls": calls, "input_tokens": 100 * calls, "output_tokens": 7 * calls, "cost": pytest.approx(114e-6 * calls)}
    assert asked.usage == used
    assert set(server.faults) == {"none", "429", "500", "cut", "cut_body", "timeout", "truncated", "malformed", "shape", "huge"}
    said = (
        f"{number} calls: {len(scored)} scored, {len(judged) - len(scored)} unread, {dict(asked.dropped)}; {dict(server.faults)}"
    )
    print(said, asked.usage, f"{asked.seconds:.1f} s")

    assert server.keys == {f"Bearer {KEY}"}
    rows = [bench.rows(asked), bench.dropped(asked), bench.rows(read), bench.dropped(read)]
    assert KEY not in repr(rows)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not list(tmp_path.rglob("*.calls.jsonl"))


def test_a_server_that_goes_down_stops_the_run_and_it_goes_on_without_paying_again(tmp_path):
    with Server(rate, lambda request, attempt: "503" if len(server.paid) >= 20 and down else None) as server:
        down = True
        bench = Bench(tmp_path, server, qualities(60), retries=0, concurrency=1, max_failures_in_a_row=4)
        with pytest.raises(RunError, match="4 requests in a row had no reply.*HTTP 503"):
            bench.judge()
        down = False
        asked, read = bench.judge()
    assert (asked.rows, read.rows, asked.dropped) == (120, 120, {})
    assert len(server.paid) == 60 and set(server.paid.values()) == {1}
    assert asked.usage["calls"] == 60  # those of the stopped run are counted with the rest
