"""Which answers are learned, and which is preferred to which: what all policies share, and their table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import Field

from sightline.errors import RecipeError
from sightline.execute import Step, Task, Use
from sightline.make.balance import Balance
from sightline.plugin import Table, suggest
from sightline.rows import Annotation, Dropped, Instruction, Pair, Response
from sightline.store.address import digest, seed_from

PAIRS = Table(
    "pairs",
    {
        "best_worst": "sightline.make.best_worst:BestWorst",
        "margin": "sightline.make.margin:Margin",
        "all_pairs": "sightline.make.all_pairs:AllPairs",
        "best_of_n": "sightline.make.best_of_n:BestOfN",
        "all_perfect": "sightline.make.all_perfect:AllPerfect",
        "steerlm": "sightline.make.steerlm:SteerLM",
    },
)

_REFUSES = re.compile(
    r"\W*(?:(?:unfortunately|sorry),? )?(?:(?:i am|i'm) (?:(?:very |so )?sorry|afraid|unable|not able)|sorry\b(?!-)"
    r"|i (?:cannot|can't|can not|could not|couldn't|apologi[sz]e|refuse|must decline)\b|as an? (?:ai|language model)\b(?!-))",
    re.IGNORECASE,
)
"""How refusals open. A dog that is sorry-looking and an AI-made picture are none."""


@dataclass(frozen=True)
class Standing:
    """An answer that may enter a row: what was measured of it, by measure, and what these come to."""

    response: Response
    scores: dict[str, float]
    score: float

    @property
    def num_words(self) -> int:
        return len(self.response.text.split())


@dataclass
class _Case:
    """An instruction with its answers and what was thought of them."""

    instruction: Instruction
    responses: list[Response] = field(default_factory=list)
    annotations: dict[str, dict[str, Annotation]] = field(default_factory=dict)  # response id -> annotator


class AnswerPolicy(Step):
    """Makes rows to train on out of the answers to an instruction. Refused answers, and instructions without a row, leave with a
    reason."""

    needed: ClassVar[int] = 1
    """Answers that a row takes."""
    too_few: ClassVar[str] = "no row: no answer left"

    min_words: int = Field(1, ge=1)
    """Shorter answers take no part."""
    allow_cut: bool = False
    """Let answers take part that were cut at max_tokens."""
    allow_refusals: bool = True
    """Let answers take part that open like a refusal (I cannot, I am sorry, as an AI). Their words do not tell whether they are
    an excuse or the truth about what cannot be seen; annotators can, so their scores are trusted unless you say otherwise."""

    def measures(self) -> list[str]:
        """What this policy reads of an answer's annotations: an annotator's score by its name (claims), or one of the numbers
        that it gives beside its score by both names (claims.rejected)."""
        raise NotImplementedError

    def standing(self, response: Response, scores: dict[str, float]) -> Standing:
        """An answer that has all measures of this policy."""
        raise NotImplementedError

    def settle(self, instruction: Instruction, standing: list[Standing], seed: int) -> Iterator[Pair | Dropped]:
        """The rows of an instruction, from its distinct answers in the pool's order, of which there are as many as needed; or why
        there are none. What is drawn follows from the seed, which follows from the run's and the instruction."""
        raise NotImplementedError

    def annotators(self) -> list[str]:
        """Annotators whose measures this policy reads."""
        return sorted({measure.partition(".")[0] for measure in self.measures()})

    def tasks(self, after: tuple[str, ...]) -> list[Task]:
        """The steps that make the pairs, the last of which is `pairs`."""
        return [Task("pairs", self, after)]

    def asking(self, levels: Mapping[str, int]) -> str:
        """What is added to a question so that a model which learned these rows answers at these levels; RecipeError where rows
        of this policy teach none."""
        if levels:
            raise RecipeError("eval.asked", f"the rows of {self.kind} teach no attributes", "leave it out, or use kind: steerlm")
        return ""

    def make(self, use: Use, *inputs: list[Any]) -> Iterator[Pair | Dropped]:
        for case in _cases([row for rows in inputs for row in rows]):
            standing: list[Standing] = []
            for response in case.responses:
                refused = self._refusal(case, response, standing)
                if refused is None:
                    standing.append(self.standing(response, self._scores(case.annotations[response.id])))
                else:
                    reason, detail = refused
                    yield Dropped(key=response.key, reason=f"answer {reason}", row_id=response.id, detail=detail)
            if len(standing) < self.needed:
                yield Dropped(key=case.instruction.key, reason=self.too_few, row_id=case.instruction.id)
            else:
                yield from self.settle(case.instruction, standing, seed_from(use.seed, case.instruction.id))

    def _refusal(self, case: _Case, response: Response, earlier: list[Standing]) -> tuple[str, str] | None:
        """Why an answer takes no part, and details; None where it does."""
        same = next((other.response for other in earlier if _plain(other.response.text) == _plain(response.text)), None)
        if not response.text.strip():
            return "is empty", response.model
        if response.finish == "length" and not self.allow_cut:
            return "was cut at max_tokens", f"{response.model}: {response.num_tokens or 'unknown'} tokens"
        if len(response.text.split()) < self.min_words:
            return "is too short", f"{response.model}: {len(response.text.split())} words"
        if _plain(case.instruction.text) in _plain(response.text):
            return "repeats the instruction", response.model
        if not self.allow_refusals and _REFUSES.match(response.text.replace("\u2019", "'")):
            return "is a refusal", response.model
        if same is not None:
            return "equals another", f"{response.model}: as {same.model} {same.index} ({same.id})"
        why = self._unscored(case.annotations.get(response.id, {}))
        return None if why is None else ("has no score", f"{response.model}: {why}")

    def _unscored(self, annotations: dict[str, Annotation]) -> str | None:
        """Which measure an answer lacks, and why; None where it has all."""
        for measure in self.measures():
            name, _, aspect = measure.partition(".")
            annotation = annotations.get(name)
            if annotation is None or annotation.score is None:
                return f"{name}: {annotation.reason if annotation else 'not annotated'}"
            if aspect and aspect not in annotation.aspects:
                return f"{name}: no aspect '{aspect}'; {suggest(aspect, list(annotation.aspects))}"
        return None

    def _scores(self, annotations: dict[str, Annotation]) -> dict[str, float]:
        split = {measure: measure.partition(".") for measure in self.measures()}
        return {
            measure: annotations[name].aspects[aspect] if aspect else annotations[name].score or 0.0
            for measure, (name, _, aspect) in split.items()
        }


class ScoredPolicy(AnswerPolicy):
    """A policy that orders answers by a score."""

    weights: dict[str, float] = Field(min_length=1)
    """Annotators and what each counts; claims.rejected counts a number that `claims` gives beside its score. An answer's score is
    the weighted sum of these as they are: they are not brought to one scale, so weigh annotators of different ranges accordingly.
    An answer that one of them could not score takes no part."""

    def measures(self) -> list[str]:
        return sorted(self.weights)

    def standing(self, response: Response, scores: dict[str, float]) -> Standing:
        return Standing(response, scores, weighted(self.weights, scores))


Found = tuple[Standing, Standing]  # chosen, rejected


class PairPolicy(ScoredPolicy):
    """Makes pairs."""

    version: ClassVar[int] = 2
    needed: ClassVar[int] = 2
    too_few: ClassVar[str] = "no pair: fewer than two answers left"

    min_gap: float = Field(0.0, ge=0)
    """Least difference of scores within a pair. A tie never makes a pair."""
    max_length_ratio: float | None = Field(None, ge=1)
    """No pair whose longer answer has more than this many times the words of the shorter."""
    balance_lengths: bool = False
    """Drop the pairs whose chosen answers are shortest beside their rejected ones, over all instructions, as many as bring the
    mean lengths of chosen and rejected answers closest (RLAIF-V)."""

    def tasks(self, after: tuple[str, ...]) -> list[Task]:
        if not self.balance_lengths:
            return super().tasks(after)
        return [Task("unbalanced", self, after), Task("pairs", Balance(), ("unbalanced",))]

    def pairs(self, standing: list[Standing], seed: int) -> Iterator[Found | str]:
        """Pairs of two or more distinct answers in the pool's order; a reason for each that is not made."""
        raise NotImplementedError

    def settle(self, instruction: Instruction, standing: list[Standing], seed: int) -> Iterator[Pair | Dropped]:
        for found in self.pairs(standing, seed):
            if isinstance(found, str):
                yield Dropped(key=instruction.key, reason=f"no pair: {found}", row_id=instruction.id)
            else:
                yield self._row(instruction, *found)

    def why_not(self, chosen: Standing, rejected: Standing) -> str | None:
        """Why two answers make no pair; None where they do."""
        gap = round(chosen.score - rejected.score, 9)  # rounding errors of weighted sums are ties
        if gap <= 0:
            return "both answers score the same"
        if gap < self.min_gap:
            return "gap below min_gap"
        longer, shorter = sorted((chosen.num_words, rejected.num_words), reverse=True)
        return "lengths too unlike" if self.max_length_ratio is not None and longer > self.max_length_ratio * shorter else None

    def _row(self, instruction: Instruction, chosen: Standing, rejected: Standing) -> Pair:
        return replace(
            row_to_learn(self.kind, instruction, chosen),
            id=digest("pair", self.kind, chosen.response.id, rejected.response.id),
            rejected=rejected.response.text,
            rejected_score=rejected.score,
            rejected_id=rejected.response.id,
            rejected_model=rejected.response.model,
        )


def row_to_learn(rule: str, instruction: Instruction, answer: Standing, suffix: str = "") -> Pair:
    """A row that holds an answer and no other to compare it with; the suffix is added to what is asked."""
    return Pair(
        id=digest("answer", rule, answer.response.id, suffix),
        key=instruction.key,
        instruction=instruction.text + suffix,
        pictures=instruction.pictures,
        chosen=answer.response.text,
        rejected=None,
        chosen_score=answer.score,
        chosen_id=answer.response.id,
        chosen_model=answer.response.model,
        instruction_id=instruction.id,
        topic=instruction.topic,
        rule=rule,
    )


def foremost(standing: list[Standing], tie_break: dict[str, float], sign: int) -> list[Standing]:
    """The best answers (sign 1) or the worst (-1); several where the annotators that break ties leave them equal."""
    ranks = [(sign * one.score, sign * weighted(tie_break, one.scores)) for one in standing]
    return [one for one, rank in zip(standing, ranks, strict=True) if rank == max(ranks)]


def by_lot(pairs: list[Found], seed: int) -> list[Found]:
    """In an order that follows from the seed and the answers, not from the order given."""
    return sorted(pairs, key=lambda pair: digest(seed, pair[0].response.id, pair[1].response.id))


def weighted(weights: dict[str, float], scores: dict[str, float]) -> float:
    """The weighted sum, in the names' order."""
    return float(sum(weights[name] * scores[name] for name in sorted(weights)))


def _plain(text: str) -> str:
    """The text's words and marks without regard to case and spacing."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.casefold()))


def _cases(rows: list[Any]) -> list[_Case]:
    """Rows of all the steps before, by instruction; answers in the pool's order."""
    cases = {row.id: _Case(row) for row in rows if isinstance(row, Instruction)}
    case_of: dict[str, _Case] = {}
    for row in rows:
        if isinstance(row, Response):
            case_of[row.id] = cases[row.instruction_id]
            case_of[row.id].responses.append(row)
    for row in rows:
        if isinstance(row, Annotation):
            case_of[row.response_id].annotations.setdefault(row.response_id, {})[row.annotator] = row
    return list(cases.values())
