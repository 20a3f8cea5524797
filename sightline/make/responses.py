"""Answers of a pool of models, or several samples of one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sightline.engines.roles import ChatRequest, Decoding
from sightline.execute import Step, Task, Use
from sightline.plugin import Section
from sightline.rows import Dropped, Instruction, Response
from sightline.store.address import digest, seed_from


class DecodingChange(Section):
    """Settings that take the place of the pool's."""

    temperature: float | None = Field(None, ge=0)
    """0 is greedy."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Sample from the smallest set of words that holds this share of the probability."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest answer."""

    def over(self, decoding: Decoding) -> Decoding:
        """The decoding with these changes."""
        return decoding.model_copy(update=self.model_dump(exclude_none=True))


class Member(Section):
    """A model of the pool, and how it picks its words. What is left open follows the pool's decoding."""

    engine: str
    """Engine that answers; needs the vision_chat role."""
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What to call its answers, where the engine's name does not tell: the same model may stand twice."""
    samples: int = Field(1, ge=1)
    """Answers to each instruction."""
    decoding: DecodingChange | None = None
    """How this member's decoding differs from the pool's."""

    @property
    def called(self) -> str:
        return self.name or self.engine


class Responses(Section):
    """Ask every model of the pool, or some of them about each instruction."""

    pool: list[Member] = Field(min_length=1)
    """Who answers."""
    draw: int | None = Field(None, ge=1)
    """Members that answer an instruction, drawn by the run's seed, as VLFeedback draws 4 of its 12; all where none is given."""
    decoding: Decoding = Decoding()
    """How they pick their words, where a member does not say otherwise."""

    @model_validator(mode="after")
    def _members_differ(self) -> Responses:
        twice = [name for name, count in Counter(member.called for member in self.pool).items() if count > 1]
        if twice:
            fix = "give one of them another name, for example {engine: " + twice[0] + ", name: " + twice[0] + "-sampled}"
            raise PydanticCustomError("same_name", "two members of the pool are called '{name}'", {"name": twice[0], "fix": fix})
        for member in self.pool:
            if member.samples > 1 and self.decoding_of(member).temperature == 0:
                context = {"name": member.called, "fix": "give it decoding: {temperature: 1.0}, or samples: 1"}
                raise PydanticCustomError(
                    "same_samples", "'{name}' is asked for several samples, which greedy decoding makes equal", context
                )
        if self.draw is not None and self.draw >= len(self.pool):
            number = {"draw": self.draw, "pool": len(self.pool), "fix": "leave out draw, and all of them answer"}
            raise PydanticCustomError("nothing_to_draw", "{draw} of a pool of {pool} leaves nobody out", number)
        return self

    def decoding_of(self, member: Member) -> Decoding:
        return member.decoding.over(self.decoding) if member.decoding else self.decoding

    def tasks(self) -> list[Task]:
        """One task a member, so that another member adds its own answers and nothing else."""
        steps = [Answers(engine=m.engine, name=m.called, samples=m.samples, decoding=self.decoding_of(m)) for m in self.pool]
        if self.draw is not None:
            names = [step.name for step in steps]
            steps = [DrawnAnswers(**step.model_dump(), pool=names, draw=self.draw) for step in steps]
        return [Task(f"responses/{step.name}", step, ("instructions",)) for step in steps]


class Answers(Step):
    """One member's answers. Empty ones and those cut at max_tokens are kept as they are: the pairs say what becomes of them."""

    engine: str
    name: str
    samples: int
    decoding: Decoding

    def engine_roles(self) -> dict[str, str]:
        return {self.engine: "vision_chat"}

    def make(self, use: Use, instructions: list[Instruction]) -> Iterator[Response | Dropped]:  # type: ignore[override]
        asked = [(instruction, index) for instruction in instructions for index in range(self.samples)]
        seeds = [seed_from(use.seed, instruction.id, self.name, index) for instruction, index in asked]
        pictures = {name: use.picture(name) for instruction in instructions for name in instruction.pictures}
        requests = [
            ChatRequest(instruction.text, tuple(pictures[name] for name in instruction.pictures), seed)
            for (instruction, _), seed in zip(asked, seeds, strict=True)
        ]
        replies = use.engines.use(self.engine, "vision_chat").chat(requests, self.decoding)
        settings = json.dumps(self.decoding.model_dump(), sort_keys=True)
        made_by = use.engines.origin(self.engine, settings)
        for (instruction, index), seed, reply in zip(asked, seeds, replies, strict=True):
            if reply.error is not None:
                yield reply.dropped(instruction)
                continue
            origin = replace(made_by, seed=seed) if self.decoding.temperature > 0 else made_by
            yield Response(
                id=digest("response", instruction.id, self.name, index, origin.revision, settings, seed),
                key=instruction.key,
                instruction_id=instruction.id,
                instruction=instruction.text,
                pictures=instruction.pictures,
                text=reply.text,
                model=self.name,
                index=index,
                finish=reply.finish,
                num_tokens=reply.num_tokens,
                origin=origin,
            )


class DrawnAnswers(Answers):
    """A member's answers to the instructions that are its turn; the others are drops, so that the members' counts add up."""

    may_be_empty: ClassVar[bool] = True

    pool: list[str]
    draw: int

    def make(self, use: Use, instructions: list[Instruction]) -> Iterator[Response | Dropped]:  # type: ignore[override]
        own = []
        for instruction in instructions:
            if self.is_drawn(use.seed, instruction):
                own.append(instruction)
            else:
                yield Dropped(key=instruction.key, reason="others of the pool were drawn", row_id=instruction.id)
        if own:  # else the engine need not be loaded
            yield from super().make(use, own)

    def is_drawn(self, seed: int, instruction: Instruction) -> bool:
        """Whether this member is one of those that answer it, which each of them finds out by itself."""
        order = sorted(self.pool, key=lambda name: digest("draw", seed, instruction.id, name))
        return self.name in order[: self.draw]
