"""Text-to-image prompts that a model writes, topic by topic (after PDS-DPO, which had GPT-4 write them)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from sightline.engines import Engine
from sightline.engines.roles import Decoding
from sightline.execute import Executor, Tally, Task
from sightline.make.near_duplicates import Texts
from sightline.make.prompts import PromptSource, prompt_key
from sightline.make.slots import slots
from sightline.make.writing import SHOWN, Writing, json_in, list_of, object_of, plain_text
from sightline.rows import Dropped, Prompt, Reply, Request
from sightline.store.address import digest

TOPICS = [
    *("art", "culinary", "daily activities", "holidays", "industrial"),
    *("nature", "school", "transportation", "urban", "weather"),
]
WORDING = """\
Write {number} prompts for a model that paints pictures from text. All are on this topic: {topic}.
Each is one sentence of 10 to 30 words about what is to be seen: who or what and how many, doing what, in which colours, where.
All show other scenes, things and places, and no two are worded alike.
Leave out artists, cameras, and words to be read in the picture."""
FORM = 'Reply with JSON and nothing else: {"prompts": ["...", "..."]}'

Call = tuple[Request, Reply]
Topic = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class WrittenPrompts(PromptSource):
    """Have a model write the prompts, evenly over topics.

    Equal prompts, near-duplicates and those with words that the painter does not know are dropped. What topics lack is asked for
    again, in a bounded number of rounds; what is missing then is counted, a drop each. Replies are stored as they came and read
    anew each time, so that another reading of them asks at most for what topics lack by it.
    """

    engine: str
    """Engine that writes; needs the text_chat role."""
    count: int = Field(ge=1)
    """Prompts in all; the first topics have one more where it cannot be divided."""
    topics: list[Topic] = Field(TOPICS, min_length=1)
    """What the prompts are about; PDS-DPO's ten."""
    per_call: int = Field(20, ge=1)
    """Most prompts that a call asks for."""
    rounds: int = Field(5, ge=1)
    """How often to ask: once, and again for what topics lack."""
    near_duplicate: float = Field(0.5, gt=0, le=1)
    """Drop a prompt that shares this much of its word shingles with an earlier one (Broder's resemblance). At 1 only those that
    differ in case and punctuation, or in the order of repeated words."""
    shingle_words: int = Field(3, ge=1)
    """Words of a shingle."""
    wording: Annotated[str, slots("number", "topic", needed=("number", "topic"))] = WORDING
    """What is asked, with its {number} and {topic}; the form of the reply is added."""
    decoding: Decoding = Decoding(temperature=1.0, max_tokens=4096)
    """How the model picks its words."""

    @model_validator(mode="after")
    def _calls_differ(self) -> WrittenPrompts:
        twice = [topic for topic, count in Counter(self.topics).items() if count > 1]
        if twice:
            raise PydanticCustomError(
                "same_topic", "the topic '{topic}' stands twice", {"topic": twice[0], "fix": "name it once"}
            )
        if self.decoding.temperature == 0 and (self.rounds > 1 or self.count > self.per_call * len(self.topics)):
            fix = "set decoding.temperature: 1.0, or rounds: 1 and per_call to all that a topic needs"
            raise PydanticCustomError("same_replies", "greedy decoding writes the same whenever it is asked", {"fix": fix})
        return self

    def engine_roles(self) -> dict[str, str]:
        return {self.engine: "text_chat"}

    def foreseen(self, folder: Path, painter: Engine | None) -> tuple[list[Prompt] | None, str]:
        return None, f"prompts: {self.count} over {len(self.topics)} topics, which '{self.engine}' writes when the run begins"

    def obtain(
        self, hands: Executor, folder: Path, painter: Engine | None, on_step: Callable[[Tally], None]
    ) -> tuple[list[Prompt], list[Dropped]]:
        calls: list[Call] = []
        for number in range(1, self.rounds + 1):
            prompts, dropped = self.gather(calls, painter)
            wanted = list(self._requests(number, self._lacking(prompts), painter))
            if not wanted:
                return prompts, dropped
            calls += self._asked(hands, number, wanted, on_step)
        prompts, dropped = self.gather(calls, painter)
        return prompts, [*dropped, *self._never_written(self._lacking(prompts))]

    def gather(self, calls: list[Call], painter: Engine | None) -> tuple[list[Prompt], list[Dropped]]:
        """The prompts in these replies that are taken, and the others with the reason; a pure reading of what is stored."""
        read = [(request, found) for request, reply in calls for found in read_prompts(reply, request.topic)]
        prompts, dropped = [], []
        taken: dict[str, int] = dict.fromkeys(self.topics, 0)
        keys: set[str] = set()
        texts = Texts(self.shingle_words, self.near_duplicate)
        unknown = painter.unknown_words([found.text for _, found in read if isinstance(found, Prompt)]) if painter else {}
        quota = self._quota()
        for request, found in read:
            if isinstance(found, Dropped):
                dropped.append(found)
            elif found.text in unknown:
                dropped.append(_refused(found, "words that the painter does not know", ", ".join(unknown[found.text])))
            elif found.key in keys:
                dropped.append(_refused(found, "duplicate prompt", found.text))
            elif taken[request.topic] == quota[request.topic]:
                dropped.append(_refused(found, "more than its topic needs", found.text))
            elif (like := texts.add(found.text)) is not None:
                dropped.append(_refused(found, "near-duplicate prompt", f"{found.text} | {like}"))
            else:
                prompts.append(found)
                keys.add(found.key)
                taken[request.topic] += 1
        return prompts, dropped

    def _quota(self) -> dict[str, int]:
        """How many prompts each topic shall have."""
        each, more = divmod(self.count, len(self.topics))
        return {topic: each + (place < more) for place, topic in enumerate(self.topics)}

    def _lacking(self, prompts: list[Prompt]) -> dict[str, int]:
        """Topics that lack prompts, and how many."""
        there = Counter(prompt.topic for prompt in prompts)
        return {topic: need - there[topic] for topic, need in self._quota().items() if need > there[topic]}

    def _requests(self, number: int, lacking: dict[str, int], painter: Engine | None) -> Iterator[Request]:
        """What a round asks for."""
        for topic, missing in lacking.items():
            for call, done in enumerate(range(0, missing, self.per_call)):
                wanted = min(self.per_call, missing - done)
                name = digest("request", "prompts", topic, number, call)
                yield Request(id=name, key=name, text=self._text(topic, wanted, painter), topic=topic, number=wanted)

    def _text(self, topic: str, wanted: int, painter: Engine | None) -> str:
        known = painter.vocabulary() if painter else None
        words = [f"Use no words but these: {', '.join(sorted(filter(str.isalnum, known)))}."] if known is not None else []
        return "\n".join([self.wording.format(number=wanted, topic=topic), *words, FORM])

    def _asked(self, hands: Executor, number: int, wanted: list[Request], on_step: Callable[[Tally], None]) -> list[Call]:
        """The round's requests with their replies, in the order of the requests; those without one are drops of its step."""
        writing = PromptWriting(engine=self.engine, decoding=self.decoding)
        asking = Task(f"replies/prompts-{number}", writing, (f"requests/prompts-{number}",))
        requests = hands.store.source(asking.after[0], "requests", wanted, [], hands.execution.shard_size)
        tally = hands.run(asking, [requests])
        on_step(tally)
        replies = {reply.about_id: reply for shard in tally.shards for reply in hands.store.read(shard)}
        return [(request, replies[request.id]) for request in wanted if request.id in replies]

    def _never_written(self, lacking: dict[str, int]) -> Iterator[Dropped]:
        for topic, missing in lacking.items():
            for place in range(missing):
                yield Dropped(
                    key=digest("topic", topic, place), reason=f"not written in {self.rounds} rounds", detail=f"topic {topic}"
                )


class PromptWriting(Writing):
    """Sends the requests."""

    def request(self, row: Request) -> str:
        return row.text

    def reply_schema(self) -> dict[str, Any]:
        return object_of(prompts=list_of({"type": "string"}))


def read_prompts(reply: Reply, topic: str) -> Iterator[Prompt | Dropped]:
    """Prompts of a reply, by their places in it."""
    tree = json_in(reply.text)
    listed = tree.get("prompts") if isinstance(tree, dict) else tree
    if not isinstance(listed, list):
        yield Dropped(key=reply.key, reason="unreadable reply", row_id=reply.id, detail=reply.text[:SHOWN])
        return
    for place, said in enumerate(listed, start=1):
        text = plain_text(said)
        if text is None:
            yield Dropped(key=reply.key, reason="unreadable prompt", row_id=reply.id, detail=str(said)[:SHOWN])
        elif reply.finish == "length" and place == len(listed):
            yield Dropped(key=reply.key, reason="prompt cut at max_tokens", row_id=reply.id, detail=text)
        else:
            yield Prompt(id=f"{place}@{reply.id}", key=prompt_key(text), text=text, topic=topic)


def _refused(prompt: Prompt, reason: str, detail: str) -> Dropped:
    return Dropped(key=prompt.key, reason=reason, row_id=prompt.id, detail=detail)
