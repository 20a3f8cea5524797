"""Claim checks: a judge that sees the picture is asked about each claim of an answer (after RLAIF-V; Yu et al., 2024).

RLAIF-V compares the probabilities of yes and no as the judge's first word. Here its words are read: served judges will do, and
where one says neither there is no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from sightline.engines.roles import ChatReply, ChatRequest, Decoding
from sightline.engines.weights import locate_data
from sightline.execute import Task, Use
from sightline.make.annotators import Annotator, Asking, Reading
from sightline.make.annotators.lexicon import Lexicon
from sightline.make.annotators.splitting import Split, read_split
from sightline.rows import Annotation, Claim, Dropped, Judgement, Reply, Response
from sightline.store.address import digest

SLOT = "{claim}"


def _one_slot(question: str) -> str:
    if question.count(SLOT) != 1:
        raise PydanticCustomError(
            "no_slot", "the question must hold {slot} once", {"slot": SLOT, "fix": f"for example: Is there {SLOT}?"}
        )
    return question


Question = Annotated[str, AfterValidator(_one_slot)]


class Claims(Annotator):
    """Ask a judge, which sees the picture, whether each claim of an answer is true. Score: minus the rejected claims, as RLAIF-V
    counts, and `credit` for each that holds.

    The claims are the objects that an answer names, by word lists, or those that a model finds in the answer (`split`). An answer
    without a claim that could be checked gets no score, rather than the best one.
    """

    sees_picture: ClassVar[bool] = True

    judge: str
    """Engine that is asked; needs the vision_chat role."""
    objects: str | None = None
    """Word list: a line an object, its synonyms separated by commas, the name first. A path, or miniature/objects."""
    attributes: str | None = None
    """Word list of the same format for what may stand before an object and belongs to the claim. A path, or miniature/colours."""
    split: Split | None = None
    """A model that splits answers into claims, in place of word lists."""
    question: Question = f"Is there {SLOT} in the picture?"
    """What the judge is asked about an object; a model that splits writes the questions, too."""
    max_tokens: int = Field(16, ge=1)
    """Longest reply; it must start with, or hold, a yes or a no."""
    credit: float = Field(0.0, ge=0)
    """What a claim that holds adds to the score. At 0, RLAIF-V's rule, the safest answer says least; at 1 an answer that leaves a
    thing out loses as much as one that invents one."""

    @model_validator(mode="after")
    def _one_source_of_claims(self) -> Claims:
        if (self.objects is None) == (self.split is None):
            fix = "set objects: <word list>, or split: {engine: <one that writes>}"
            raise PydanticCustomError("one_source", "claims come from word lists, or from a model that splits", {"fix": fix})
        for name in ("attributes", "question"):
            if self.split and getattr(self, name) != type(self).model_fields[name].default:
                context = {"name": name, "fix": "leave it out"}
                raise PydanticCustomError("unused", "'{name}' goes with word lists, not with split", context)
        return self

    def engine_roles(self) -> dict[str, str]:
        return {self.judge: "vision_chat"}

    def tasks(self, name: str, folder: Path | None, answers: tuple[str, ...]) -> list[Task]:
        if self.split is None:
            return super().tasks(name, folder, answers)
        splits, asked = f"splits/{name}", f"judgements/{name}"
        return [
            Task(splits, self.split.step(), answers),
            Task(asked, SplitAsking(name=name, judge=self.judge, max_tokens=self.max_tokens), (*answers, splits)),
            Task(f"annotations/{name}", SplitReading(name=name, credit=self.credit), (*answers, splits, asked)),
        ]

    def asking(self, name: str, folder: Path | None) -> Asking:
        lexicon = Lexicon(objects={"": ""}) if folder is None else self.lexicon(folder)
        return LexiconAsking(name=name, judge=self.judge, question=self.question, max_tokens=self.max_tokens, lexicon=lexicon)

    def reading(self, name: str, folder: Path | None = None) -> Reading:
        return ClaimReading(name=name, question=self.question, credit=self.credit)

    def lexicon(self, folder: Path) -> Lexicon:
        """The word lists that the fields name."""
        assert self.objects is not None
        attributes = locate_data(self.attributes, folder) if self.attributes is not None else None
        return Lexicon.read(locate_data(self.objects, folder), attributes)


class ClaimAsking(Asking):
    """One judgement a claim. Claims about the same pictures that several answers make are asked once.

    A claim whose reply could not be had is dropped with its reason, and has a judgement with an empty reply, too: read without
    it, the answer would look better than it is.
    """

    judge: str
    max_tokens: int

    def engine_roles(self) -> dict[str, str]:
        return {self.judge: "vision_chat"}

    def judge_all(self, use: Use, asked: list[tuple[Response, str]]) -> Iterator[Judgement | Dropped]:
        """What the judge says to each question about an answer's pictures."""
        origin = use.engines.origin(self.judge)
        replies = self._replies(use, {(tuple(response.pictures), question) for response, question in asked})
        for response, question in asked:
            reply = replies[tuple(response.pictures), question]
            if reply.error is not None:
                yield reply.dropped(response)
            yield Judgement(
                id=digest("judgement", self.name, response.id, question),
                key=response.key,
                response_id=response.id,
                annotator=self.name,
                question=question,
                reply=reply.text,
                origin=origin,
            )

    def _replies(self, use: Use, asked: set[tuple[tuple[str, ...], str]]) -> dict[tuple[tuple[str, ...], str], ChatReply]:
        ordered = sorted(asked)
        pictures = {name: use.picture(name) for name in sorted({name for names, _ in ordered for name in names})}
        requests = [ChatRequest(question, tuple(pictures[name] for name in names)) for names, question in ordered]
        replies = use.engines.use(self.judge, "vision_chat").chat(requests, Decoding(max_tokens=self.max_tokens))
        return dict(zip(ordered, replies, strict=True))


class LexiconAsking(ClaimAsking):
    """Asks about the objects that answers name."""

    question: str
    lexicon: Lexicon
    """The words themselves, so that they and not their file's place decide the address."""

    def ask(self, use: Use, responses: list[Response]) -> Iterator[Judgement | Dropped]:
        asked = [(response, question) for response in responses for question in self.questions(response.text)]
        return self.judge_all(use, asked)

    def questions(self, text: str) -> list[str]:
        """A question for each claim that the text makes."""
        return [self.question.replace(SLOT, claim) for claim in self.lexicon.claims(text)]


class SplitAsking(ClaimAsking):
    """Asks the questions of the splits. Raise its `version` for another reading of these: the splitter is not asked again."""

    version: ClassVar[int] = 1

    def make(self, use: Use, *inputs: list[Any]) -> Iterator[Judgement | Dropped]:
        *answers, splits = inputs
        about = {split.about_id: split for split in splits}
        responses = [response for rows in answers for response in rows]
        claims = [(response, read_split(response, about.get(response.id))) for response in responses]
        return self.judge_all(use, [(response, question) for response, read in claims for question in read.by_question])


class ClaimReading(Reading):
    """Counts rejected claims and those that hold; a verdict that cannot be read leaves the answer without a score."""

    version: ClassVar[int] = 1

    question: str
    credit: float = 0.0

    def read(self, response: Response, judgements: list[Judgement]) -> Annotation:
        before, _, after = self.question.partition(SLOT)
        claims = [
            Claim(
                text=judgement.question.removeprefix(before).removesuffix(after),
                question=judgement.question,
                reply=judgement.reply,
                holds=verdict(judgement.reply),
            )
            for judgement in judgements
        ]
        return _annotation(self.name, response, claims, _count(claims, self.credit))


class SplitReading(Reading):
    """The same for the claims of a split. One that cannot be read leaves the answer without a score."""

    version: ClassVar[int] = 1

    credit: float

    def make(self, use: Use, *inputs: list[Any]) -> Iterator[Annotation]:
        *answers, splits, judgements = inputs
        about: dict[str, Reply] = {split.about_id: split for split in splits}
        said = {(judgement.response_id, judgement.question): judgement.reply for judgement in judgements}
        for response in (response for rows in answers for response in rows):
            read = read_split(response, about.get(response.id))
            asked = [(text, question, said.get((response.id, question), "")) for question, text in read.by_question.items()]
            claims = [Claim(text=text, question=question, reply=reply, holds=verdict(reply)) for text, question, reply in asked]
            outcome = {"score": None, "reason": read.reason} if read.reason else _count(claims, self.credit)
            yield _annotation(self.name, response, claims, outcome)


def _annotation(name: str, response: Response, claims: list[Claim], outcome: dict[str, Any]) -> Annotation:
    return Annotation(
        id=digest("annotation", name, response.id),
        key=response.key,
        response_id=response.id,
        annotator=name,
        claims=claims,
        sees_picture=Claims.sees_picture,
        **outcome,
    )


def verdict(reply: str) -> bool | None:
    """Yes or no in the reply's first sentence; None where it says neither, or both."""
    said = set(re.findall(r"\w+", re.split(r"[.!?\n]", reply.strip().casefold())[0]))
    yes, no = "yes" in said, bool(said & {"no", "not"})
    return None if yes == no else yes


def _count(claims: list[Claim], credit: float) -> dict[str, Any]:
    """Score, reason and aspects of an answer with these claims."""
    rejected = sum(claim.holds is False for claim in claims)
    unread = sum(claim.holds is None for claim in claims)
    aspects = {"claims": float(len(claims)), "rejected": float(rejected), "unread": float(unread)}
    if not claims:
        return {"score": None, "reason": "no claim to check", "aspects": aspects}
    if unread:
        return {"score": None, "reason": f"unreadable verdict on {unread} of {len(claims)} claims", "aspects": aspects}
    return {"score": credit * (len(claims) - rejected) - rejected, "aspects": aspects}
