"""Preference pairs side by side, with what each annotator thought of both answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from markupsafe import Markup

from sightline.report.evidence import Evidence, spread
from sightline.report.pictures import Pictures, Shown
from sightline.report.wording import marked
from sightline.rows import Annotation, Claim, Pair

NOT_THERE = "the claim check says this does not hold"


@dataclass(frozen=True)
class Score:
    """One annotator's score of an answer; `value` is None, with a reason, where its verdict could not be read."""

    annotator: str
    value: float | None
    sees_picture: bool
    reason: str


@dataclass(frozen=True)
class Checked:
    """A claim of an answer and its verdict in words."""

    text: str
    verdict: str
    reply: str


@dataclass(frozen=True)
class Label:
    """What an answer is in a comparison. `score` stands in where no annotation of the answer is stored."""

    role: str
    tone: str
    model: str | None
    score: float | None = None


@dataclass(frozen=True)
class Side:
    """An answer with its scores and claims."""

    label: Label
    text: Markup
    scores: list[Score]
    claims: list[Checked]


@dataclass(frozen=True)
class SideBySide:
    """Two answers to one instruction about one picture. `against` names the image-blind annotators that prefer the right one."""

    id: str
    pictures: list[Shown | None]
    instruction: str
    topic: str
    left: Side
    right: Side
    against: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ModelCount:
    """How often a model's answer was chosen and how often rejected, with the lengths of their bars in percent."""

    model: str
    chosen: int
    rejected: int
    chosen_length: float
    rejected_length: float


@dataclass(frozen=True)
class Pairs:
    """The pairs to show, and what all pairs have in common."""

    shown: list[SideBySide]
    count: int
    rules: str
    topics: list[str]
    models: list[ModelCount]
    num_chosen_longer: int
    chosen_words: float
    rejected_words: float


class Opinions:
    """All annotations of a run, found by response."""

    def __init__(self, annotations: list[Annotation]) -> None:
        self.by_response: dict[str, list[Annotation]] = defaultdict(list)
        for annotation in sorted(annotations, key=lambda row: row.annotator):
            self.by_response[annotation.response_id].append(annotation)

    def side(self, label: Label, text: str, response_id: str | None) -> Side:
        """An answer as shown, with all that is known of it."""
        held = self.by_response.get(response_id or "", [])
        scores = [Score(row.annotator, row.score, row.sees_picture, row.reason or "") for row in held]
        if not scores and label.score is not None:
            scores = [Score("score", label.score, True, "")]
        claims = [claim for row in held for claim in row.claims]
        refused = [claim.text for claim in claims if claim.holds is False]
        return Side(label, marked(text, refused, NOT_THERE), scores, [_checked(claim) for claim in claims])


def _checked(claim: Claim) -> Checked:
    verdict = {True: "holds", False: "rejected", None: "unreadable"}[claim.holds]
    return Checked(claim.text, verdict, f"{claim.question} {claim.reply}".strip())


def pairs(evidence: Evidence, pictures: Pictures, num_pairs: int) -> Pairs | None:
    rows: list[Pair] = sorted(evidence.rows("pairs"), key=lambda row: row.id)
    if not rows:
        return None
    opinions = Opinions(evidence.rows("annotations"))
    shown = [_side_by_side(row, opinions, pictures) for row in spread(rows, num_pairs, by=lambda row: row.topic)]
    lengths = [(len((row.chosen or "").split()), len((row.rejected or "").split())) for row in rows]
    return Pairs(
        shown=shown,
        count=len(rows),
        rules=", ".join(sorted({row.rule for row in rows})),
        topics=sorted({pair.topic for pair in shown if pair.topic}),
        models=_by_model(rows),
        num_chosen_longer=sum(chosen > rejected for chosen, rejected in lengths),
        chosen_words=sum(chosen for chosen, _ in lengths) / len(rows),
        rejected_words=sum(rejected for _, rejected in lengths) / len(rows),
    )


def _side_by_side(row: Pair, opinions: Opinions, pictures: Pictures) -> SideBySide:
    left = opinions.side(Label("Chosen", "good", row.chosen_model, row.chosen_score), row.chosen or "", row.chosen_id)
    right = opinions.side(Label("Rejected", "bad", row.rejected_model, row.rejected_score), row.rejected or "", row.rejected_id)
    shown = [pictures.show(name) for name in row.pictures]
    return SideBySide(row.id, shown, row.instruction, row.topic or "", left, right, _against(left, right))


def _against(left: Side, right: Side) -> list[str]:
    theirs = {score.annotator: score.value for score in right.scores}
    return [
        score.annotator
        for score in left.scores
        if not score.sees_picture and score.value is not None and _exceeds(theirs.get(score.annotator), score.value)
    ]


def _exceeds(other: float | None, value: float) -> bool:
    return other is not None and other > value


def _by_model(rows: list[Pair]) -> list[ModelCount]:
    chosen = Counter(row.chosen_model for row in rows if row.chosen_model)
    rejected = Counter(row.rejected_model for row in rows if row.rejected_model)
    most = max([*chosen.values(), *rejected.values()], default=1)
    names = sorted(chosen | rejected, key=lambda name: (rejected[name] - chosen[name], name))
    return [
        ModelCount(name, chosen[name], rejected[name], round(100 * chosen[name] / most, 1), round(100 * rejected[name] / most, 1))
        for name in names
    ]
