"""A judge's replies about a model's answers: asked for once, stored as they came, and read afresh by every scoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sightline.engines.roles import Decoding
from sightline.eval.answering import Answering
from sightline.eval.compare import Score
from sightline.eval.results import UNUSABLE
from sightline.execute import Executor, Tally, Task, tally_of
from sightline.rows import Answer, Item
from sightline.store.address import digest

if TYPE_CHECKING:
    from sightline.eval.judged import Judged


class Rating(Answering):
    """The judge's replies. It is asked like a model, but sees no picture."""

    role: ClassVar[str] = "text_chat"


@dataclass(frozen=True)
class Judging:
    """Has a model's answers judged. What the judge is asked are items, and its replies answers to them, stored like a model's."""

    executor: Executor
    shard_size: int
    on_step: Callable[[Tally], None] | None

    def scores(self, benchmark: Judged, place: Path, who: str, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        """What the judge's replies are worth, in the order of the items."""
        prompts = benchmark.prompts(items, [answer.text for answer in answers])
        runs = []
        for number in range(benchmark.num_runs):
            asked = {
                item.id: _question(item, prompt, number)
                for item, prompt in zip(items, prompts, strict=True)
                if prompt is not None
            }
            name = f"{benchmark.title}-{who}" + (f"-{number + 1}" if number else "")
            replies = self._read(benchmark, name, asked)
            replied = [benchmark.replied(answer, replies.get(answer.item_id)) for answer in answers]
            runs.append(benchmark.scores(place, items, replied))
        return averaged(runs)

    def _read(self, benchmark: Judged, name: str, asked: Mapping[str, Item]) -> dict[str, Answer]:
        """The judge's replies; one that cannot be read is asked for again, as often as the benchmark does."""
        replies = self._replies(benchmark, name, asked, benchmark.judging)
        for attempt, warmer in enumerate(benchmark.retries, 1):
            unread = {
                item_id: _put_otherwise(asked[item_id], benchmark.retry_form)
                for item_id, reply in replies.items()
                if reply.finish != "error" and not benchmark.can_read(reply.text)
            }
            if not unread:
                break
            judging = benchmark.judging.model_copy(update={"temperature": benchmark.judging.temperature + warmer})
            replies |= self._replies(benchmark, f"{name}-again-{attempt}", unread, judging)
        return replies

    def _replies(self, benchmark: Judged, name: str, asked: Mapping[str, Item], decoding: Decoding) -> dict[str, Answer]:
        """The judge's reply to each of the questions, which are by the item that they are about."""
        questions = f"to-judge/{name}"
        sources = self.executor.store.source(questions, benchmark.kind, list(asked.values()), [], self.shard_size)
        self._tell(tally_of(self.executor.store, questions, sources))
        step = Rating(engine=benchmark.judge, decoding=decoding)
        # each time is a step of its own: at temperature 0 two equal requests of one step are a single call
        tally = self.executor.run(Task(f"judging/{name}", step, (questions,)), [sources])
        self._tell(tally)
        said = {answer.item_id: answer for shard in tally.shards for answer in self.executor.store.read(shard)}
        return {item_id: said.get(question.id) or _unanswered(question) for item_id, question in asked.items()}

    def _tell(self, tally: Tally) -> None:
        if self.on_step:
            self.on_step(tally)


def averaged(runs: Sequence[Sequence[Score]]) -> list[Score]:
    """Scores of several runs of a judge as one: the mean of each column, and for the spread each run's own ("rating #0").

    What could not be had or read is counted over all runs.
    """
    return list(runs[0]) if len(runs) == 1 else [_averaged(scores) for scores in zip(*runs, strict=True)]


def _averaged(scores: Sequence[Score]) -> Score:
    counts: dict[str, float] = {}
    for number, score in enumerate(scores):
        for column, count in score.counts.items():
            counts[column] = counts.get(column, 0) + count / (1 if column in UNUSABLE else len(scores))
            counts[f"{column} #{number}"] = count
    return Score(scores[0].item_id, scores[0].group, counts, any(score.guessed for score in scores))


def judge_of(benchmark: Judged, executor: Executor) -> dict[str, Any]:
    """Who judges and how it is asked: what two results must share to be compared."""
    engine = executor.use.engines.section(benchmark.judge, Rating.role, f"eval, {benchmark.title}")
    return {
        "model": engine.model,
        "identity": digest(engine.identity())[:16],
        "decoding": benchmark.judging.model_dump(),
        "prompt": benchmark.prompt_digest(),
        "repeats": benchmark.num_runs,
    }


def _question(item: Item, prompt: str, number: int) -> Item:
    return Item(
        id=digest(item.id, prompt, number),
        key=item.key,
        group=item.group,
        question_id=item.question_id,
        question=prompt,
        pictures=[],
        target="null",
    )


def _put_otherwise(question: Item, form: str) -> Item:
    return replace(question, id=digest(question.id, form), question=question.question + form)


def _unanswered(question: Item) -> Answer:
    """Stands for a reply that could not be had; why is stored with the step."""
    return Answer(
        id="",
        key=question.key,
        item_id=question.id,
        group=question.group,
        question=question.question,
        text="",
        finish="error",
        num_tokens=None,
    )
