"""Claim checks: a judge that sees the picture is asked about each claim of an answer (after RLAIF-V; Yu et al., 2024)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from sightline.engines.roles import ChatReply, ChatRequest, Decoding
from sightline.engines.weights import locate_data
from sightline.execute import Use
from sightline.make.annotators import Annotator, Asking, Reading
from sightline.make.annotators.lexicon import Lexicon
from sightline.rows import Annotation, Claim, Dropped, Judgement, Response
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
    """Ask a judge, which sees the picture, whether each object that an answer names is there. Score: minus the rejected claims,
    as RLAIF-V counts, and `credit` for each that holds.

    An answer that names no object of the list makes no claim that could be checked: it gets no score, rather than the best one.
    """

    sees_picture: ClassVar[bool] = True

    judge: str
    """Engine that is asked; needs the vision_chat role."""
    objects: str
    """Word list: a line an object, its synonyms separated by commas, the name first. A path, or miniature/objects."""
    attributes: str | None = None
    """Word list of the same format for what may stand before an object and belongs to the claim. A path, or miniature/colours."""
    question: Question = f"Is there {SLOT} in the picture?"
    """What the judge is asked about a claim."""
    max_tokens: int = Field(16, ge=1)
    """Longest reply; it must start with, or hold, a yes or a no."""
    credit: float = Field(0.0, ge=0)
    """What a claim that holds adds to the score. At 0, RLAIF-V's rule, the safest answer says least; at 1 an answer that leaves a
    thing out loses as much as one that invents one."""

    def engine_roles(self) -> dict[str, str]:
        return {self.judge: "vision_chat"}

    def asking(self, name: str, folder: Path | None) -> Asking:
        lexicon = Lexicon(objects={"": ""}) if folder is None else self.lexicon(folder)
        return ClaimAsking(name=name, judge=self.judge, question=self.question, max_tokens=self.max_tokens, lexicon=lexicon)

    def reading(self, name: str, folder: Path | None = None) -> Reading:
        return ClaimReading(name=name, question=self.question, credit=self.credit)

    def lexicon(self, folder: Path) -> Lexicon:
        """The word lists that the fields name."""
        attributes = locate_data(self.attributes, folder) if self.attributes is not None else None
        return Lexicon.read(locate_data(self.objects, folder), attributes)


class ClaimAsking(Asking):
    """One judgement a claim. Claims about the same pictures that several answers make are asked once.

    A claim whose reply could not be had is dropped with its reason, and has a judgement with an empty reply, too: read without
    it, the answer would look better than it is.
    """

    judge: str
    question: str
    max_tokens: int
    lexicon: Lexicon
    """The words themselves, so that they and not their file's place decide the address."""

    def engine_roles(self) -> dict[str, str]:
        return {self.judge: "vision_chat"}

    def ask(self, use: Use, responses: list[Response]) -> Iterator[Judgement | Dropped]:
        origin = use.engines.origin(self.judge)
        asked = [(response, question) for response in responses for question in self.questions(response.text)]
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

    def questions(self, text: str) -> list[str]:
        """A question for each claim that the text makes."""
        return [self.question.replace(SLOT, claim) for claim in self.lexicon.claims(text)]

    def _replies(self, use: Use, asked: set[tuple[tuple[str, ...], str]]) -> dict[tuple[tuple[str, ...], str], ChatReply]:
        ordered = sorted(asked)
        pictures = {name: use.picture(name) for name in sorted({name for names, _ in ordered for name in names})}
        requests = [ChatRequest(question, tuple(pictures[name] for name in names)) for names, question in ordered]
        replies = use.engines.use(self.judge, "vision_chat").chat(requests, Decoding(max_tokens=self.max_tokens))
        return dict(zip(ordered, replies, strict=True))


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
        return Annotation(
            id=digest("annotation", self.name, response.id),
            key=response.key,
            response_id=response.id,
            annotator=self.name,
            claims=claims,
            sees_picture=Claims.sees_picture,
            **_count(claims, self.credit),
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
