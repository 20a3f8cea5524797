"""The engine against a server that fails in every way we know."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import PIL.Image
import pytest

from sightline.engines.calls import Call, Calls
from sightline.engines.completions import NoReply, Post, retry_after
from sightline.engines.openai_http import OpenAIHTTP, ServedChat
from sightline.engines.roles import ChatReply, ChatRequest, Decoding
from sightline.errors import RecipeError, RunError
from sightline.recipe import parse
from tests.servers import FAULTS, Server, seeded, text_of

KEY = "sk-secret/0123456789abcdef"
GREEDY = Decoding(max_tokens=24)


def echo(body):
    return f"You said: {text_of(body)}"


def section(server: Server, **settings) -> OpenAIHTTP:
    quick = {"timeout_s": 5.0, "backoff_s": 0.01, "max_wait_s": 2.0, "retries": 3, "max_reply_mb": 1.0}
    return OpenAIHTTP(kind="openai_http", model="m", base_url=server.url, **{**quick, **settings})


def ask(engine: OpenAIHTTP, *texts: str, decoding: Decoding = GREEDY) -> list[ChatReply]:
    return engine.load().chat([ChatRequest(text) for text in texts], decoding)


def only_first(fault: str):
    return lambda request, attempt: fault if attempt == 1 else None


def always(fault: str):
    return lambda request, attempt: fault


def test_replies_come_in_the_order_of_the_requests_and_a_few_at_a_time():
    texts = [f"text {number}" for number in range(40)]
    with Server(echo, delay_s=0.01) as server:
        replies = ask(section(server, concurrency=4), *texts)
    assert replies == [ChatReply(f"You said: {text}", "stop", 7) for text in texts]
    assert server.most_under_way == 4


def test_what_is_sent_is_what_openais_protocol_wants():
    picture = PIL.Image.new("RGB", (3, 2), (200, 10, 30))
    schema = {"type": "object"}
    with Server(echo) as server:
        chat = section(server, extra_body={"reasoning_effort": "low", "temperature": None}).load()
        chat.chat([ChatRequest("Look.", (picture,), 2**40 + 5, schema)], Decoding(temperature=0.7, top_p=0.9, max_tokens=11))
    (body,) = server.bodies
    shown, said = body["messages"][0].pop("content")
    assert said == {"type": "text", "text": "Look."}
    header, _, data = shown["image_url"]["url"].partition(",")
    assert header == "data:image/png;base64"
    assert PIL.Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == picture.tobytes()
    assert body == {
        "model": "m",
        "messages": [{"role": "user"}],
        "max_tokens": 11,
        "top_p": 0.9,
        "seed": 5,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}},
    }


def test_a_greedy_request_sends_no_seed_and_a_plain_server_no_schema():
    with Server(echo) as server:
        engine = section(server, structured_output=False, max_tokens_name="max_completion_tokens")
        engine.load().chat([ChatRequest("Look.", schema={"type": "object"})], GREEDY)
    assert set(server.bodies[0]) == {"model", "messages", "max_completion_tokens", "temperature"}


@pytest.mark.parametrize("fault", [*FAULTS, "503", "408"])
def test_a_fault_that_passes_is_asked_again_and_paid_once(fault):
    with Server(echo, only_first(fault), sleep_s=0.8) as server:
        assert ask(section(server, timeout_s=0.6), "a", "b") == [ChatReply(f"You said: {text}", "stop", 7) for text in "ab"]
    assert set(server.asked.values()) == {2} and set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("fault", "error", "tries"),
    [
        ("429", "HTTP 429", 4),
        ("500", "HTTP 500", 4),
        ("cut", "connection failed", 4),
        ("cut_body", "connection failed", 4),
        ("timeout", "timed out", 4),
        ("malformed", "malformed reply", 4),
        ("truncated", "malformed reply", 4),
        ("shape", "malformed reply", 4),
        ("huge", "reply too large", 4),
        ("400", "HTTP 400", 1),
        ("422", "HTTP 422", 1),
        ("302", "HTTP 302", 1),
        ("429 3600", "HTTP 429", 1),
    ],
)
def test_a_reply_that_cannot_be_had_says_why(fault, error, tries):
    def only_a(request, attempt):
        return fault if text_of(server.bodies[-1]) == "a" else None

    with Server(echo, only_a, sleep_s=0.4) as server:
        (reply,) = ask(section(server, timeout_s=0.2 if fault == "timeout" else 5.0), "a")
    assert (reply.text, reply.finish, reply.num_tokens, reply.error) == ("", "error", None, error)
    assert sorted(server.asked.values()) == sorted([tries, 1])  # and once whether it is the server


def test_one_reply_that_cannot_be_had_costs_no_other():
    with Server(echo, lambda request, attempt: "500" if request == bad else None) as server:
        chat = section(server).load()
        bad = ""
        chat.chat([ChatRequest("b")], GREEDY)
        (bad,) = server.asked
        replies = chat.chat([ChatRequest(text) for text in "abc"], GREEDY)
    assert [reply.error for reply in replies] == [None, "HTTP 500", None]


def test_retry_after_is_waited_for():
    with Server(echo, only_first("429 1")) as server:
        started = time.monotonic()
        ask(section(server), "a")
    assert time.monotonic() - started >= 1.0  # the back-off alone would be 0.01 s


def test_retry_after_is_a_number_or_a_date():
    now = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
    said = {"3": 3.0, "0.5": 0.5, "Sat, 21 Nov 2026 12:01:30 GMT": 90.0, "Sat, 21 Nov 2026 11:00:00 GMT": 0.0, "soon": None}
    assert {text: retry_after(text, now) for text in said} == said
    assert retry_after(None) is None


def test_a_server_that_drips_is_left_after_the_time_out():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=drip_to, args=(connection,), daemon=True).start()

    def drip_to(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(b" ")
                time.sleep(0.05)

    threading.Thread(target=serve, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    engine = OpenAIHTTP(kind="openai_http", model="m", base_url=url, timeout_s=0.3, retries=0)
    started = time.monotonic()
    with pytest.raises(RunError, match="timed out"):
        ServedChat(engine, None).chat([ChatRequest("a")], GREEDY)
    assert time.monotonic() - started < 3.0  # two requests; all that it has to say would take ten seconds


@pytest.mark.parametrize(("status", "said"), [("401", "refuses the key"), ("404", "knows no such address or model")])
def test_a_refused_key_or_model_stops_the_run_rather_than_dropping_rows(status, said, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    with Server(echo, always(status)) as server, pytest.raises(RunError, match=said) as raised:
        ask(section(server, api_key_env="SERVER_KEY"), "a", "b")
    assert KEY not in str(raised.value) and "***" in str(raised.value)


def test_a_server_that_is_down_for_good_stops_the_run():
    with Server(echo, always("503")) as server, pytest.raises(RunError, match="3 requests in a row had no reply.*HTTP 503"):
        ask(section(server, max_failures_in_a_row=3, retries=0, concurrency=1), *"abcdefgh")
    assert sum(server.asked.values()) < 8


@pytest.mark.parametrize("status", ["400", "503"])
def test_a_few_requests_to_a_server_that_is_down_stop_the_run_too(status):
    with Server(echo, always(status)) as server, pytest.raises(RunError, match=f"HTTP {status}"):
        ask(section(server, retries=0), "a", "b")


def test_no_server_is_told_before_anything_is_asked():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    engine = OpenAIHTTP(kind="openai_http", model="m", base_url=url)
    with pytest.raises(RunError, match=f"no server answers at {url}"):
        engine.load()
    assert "no server answers" in engine.look()


def test_filtered_replies_are_failures_and_refusals_answers():
    def completion(choice):
        return json.dumps({"choices": [choice]}).encode()

    post = Post(OpenAIHTTP(kind="openai_http", model="m", base_url="http://x/v1"), None)
    assert post.read(completion({"message": {"content": None, "refusal": "No."}})).text == "No."
    assert post.read(completion({"message": {"content": ""}, "finish_reason": "length"})).finish == "length"
    with pytest.raises(NoReply, match="withheld"):
        post.read(completion({"message": {"content": "Ha"}, "finish_reason": "content_filter"}))


def test_equal_requests_are_one_call():
    with Server(echo) as server:
        replies = ask(section(server), "a", "a", "b")
    assert len(replies) == 3 and sum(server.paid.values()) == 2


def test_where_the_server_is_and_how_it_is_asked_is_no_part_of_the_address():
    def engine(**settings):
        return OpenAIHTTP(kind="openai_http", model="m", **{"base_url": "http://here/v1", **settings}).identity()

    assert engine() == engine(base_url="https://there/v1", concurrency=2, retries=0, api_key_env="K", input_price=1.0)
    assert len({json.dumps(engine(**changed)) for changed in ({}, {"revision": "r"}, {"extra_body": {"a": 1}})}) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_key_env": KEY}, "no name of an environment variable"),
        ({"base_url": f"http://user:{KEY}@host/v1"}, "no user, password or query"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "no user, password or query"),
        ({"base_url": "localhost:8000"}, "no http or https address"),
    ],
)
def test_a_key_in_the_recipe_is_refused_and_not_repeated(settings, said):
    server = {"kind": "openai_http", "model": "m", "base_url": "http://here/v1"}
    with pytest.raises(RecipeError, match=said) as raised:
        parse({"name": "x", "engines": {"served": {**server, **settings}}})
    assert KEY not in str(raised.value) and "engines.served" in raised.value.where


def test_a_variable_that_is_not_set_is_the_users_mistake(monkeypatch):
    monkeypatch.delenv("SERVER_KEY", raising=False)
    with Server(echo) as server, pytest.raises(RecipeError, match="SERVER_KEY is not set"):
        section(server, api_key_env="SERVER_KEY").load()


def test_what_was_answered_before_a_fault_is_not_asked_again(tmp_path):
    def broken(request, attempt):
        return "503" if len(server.paid) >= 12 and not mended else None

    mended = False
    with Server(echo, broken) as server:
        chat = section(server, retries=0, concurrency=2).load()
        requests = [ChatRequest(f"text {number}") for number in range(40)]
        chat.calls = Calls(tmp_path / "shard.calls.jsonl")
        with pytest.raises(RunError, match="in a row"):
            chat.chat(requests, GREEDY)
        mended = True
        chat.calls = Calls(tmp_path / "shard.calls.jsonl")
        assert [reply.text for reply in chat.chat(requests, GREEDY)] == [f"You said: text {number}" for number in range(40)]
    assert len(server.paid) == 40 and set(server.paid.values()) == {1}


def test_calls_cut_short_by_a_kill_are_read_as_far_as_they_are_whole(tmp_path):
    path = tmp_path / "calls.jsonl"
    first, second = Call("a", "stop", 100, 7, 0.5), Call("b", "length", None, 3, 0.25)
    Calls(path).add("first", first)
    with path.open("a") as file:
        file.write('\n{"request": "cut", "text": "c')
    Calls(path).add("second", second)
    calls = Calls(path)
    assert calls.known == {"first": first, "second": second}
    assert calls.usage() == {"calls": 2, "input_tokens": None, "output_tokens": 10, "cost": 0.75}
    calls.forget()
    assert not path.exists() and Calls(path).usage() == {}


def test_cost_is_tokens_by_price_and_unknown_without_prices():
    with Server(echo) as server:
        chat = section(server, input_price=2.0, output_price=10.0).load()
        chat.calls = Calls()
        chat.chat([ChatRequest("a"), ChatRequest("b")], GREEDY)
        assert chat.calls.usage()["cost"] == pytest.approx(2 * (100 * 2 + 7 * 10) / 1e6)
        chat = section(server).load()
        chat.calls = Calls()
        chat.chat([ChatRequest("c")], GREEDY)
        assert chat.calls.usage() == {"calls": 1, "input_tokens": 100, "output_tokens": 7, "cost": None}


ASKER = """
import sys
from pathlib import Path
from sightline.engines.calls import Calls
from sightline.engines.openai_http import OpenAIHTTP
from sightline.engines.roles import ChatRequest, Decoding
chat = OpenAIHTTP(kind="openai_http", model="m", base_url=sys.argv[1], concurrency=4).load()
chat.calls = Calls(Path(sys.argv[2]))
print(len(chat.chat([ChatRequest(f"text {number}") for number in range(100)], Decoding())))
"""


def test_killed_in_the_middle_it_loses_no_more_than_what_was_under_way(tmp_path):
    def start(server):
        command = [sys.executable, "-c", ASKER, server.url, str(tmp_path / "calls.jsonl")]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    with Server(echo, delay_s=0.01) as server:
        first = start(server)
        while sum(server.paid.values()) < 30:
            time.sleep(0.005)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert sum(server.paid.values()) < 100
        second = start(server)
        assert second.communicate(timeout=60)[0] == "100\n"
    assert len(server.paid) == 100 and sum(server.paid.values()) <= 100 + 4  # four were under way


def test_under_a_third_of_faults_every_request_is_answered_once_or_says_why(monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    texts = [f"text {number}" for number in range(200)]
    with Server(echo, seeded(0.3, faults=tuple(fault for fault in FAULTS if fault != "timeout"))) as server:
        replies = ask(section(server, retries=1, concurrency=32, timeout_s=60.0, api_key_env="SERVER_KEY"), *texts)
    answered = [reply for reply in replies if reply.error is None]
    assert [reply.text for reply in answered] == [
        f"You said: {text}" for text, reply in zip(texts, replies, strict=True) if reply.error is None
    ]
    # without the plain request that tells a last row's fault from the server's
    paid = [count for name, count in server.paid.items() if server.texts[name] in texts]
    assert len(answered) == len(paid) < 200 and set(paid) == {1}
    assert server.keys == {f"Bearer {KEY}"} and not any(KEY in f"{reply}" for reply in replies)
