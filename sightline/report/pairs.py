"""Preference pairs side by side, and answers that stand alone, with what each annotator thought of them."""

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
    """One or two answers to an instruction about a picture. `against` names the image-blind annotators that prefer the second."""

    id: str
    pictures: list[Shown | None]
    instruction: str
    topic: str
    sides: list[Side]
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
    """The pairs to show, and what all pairs have in common. A row may hold a chosen or a rejected answer alone."""

    shown: list[SideBySide]
    count: int
    num_both: int
    rules: str
    topics: list[str]
    models: list[ModelCount]
    num_chosen_longer: int
    chosen_words: float | None
    rejected_words: float | None

    @property
    def title(self) -> str:
        if self.num_both == self.count:
            return "Preference pairs"
        return "Rows to learn" if self.rejected_words is None else "Pairs and single answers"

    @property
    def noun(self) -> str:
        return "pair" if self.num_both == self.count else "row"


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
    lengths = [{side: len(text.split()) for side, text in row.answers.items()} for row in rows]
    both = [words for words in lengths if len(words) == 2]
    return Pairs(
        shown=shown,
        count=len(rows),
        rules=", ".join(sorted({row.rule for row in rows})),
        topics=sorted({pair.topic for pair in shown if pair.topic}),
        models=_by_model(rows),
        num_both=len(both),
        num_chosen_longer=sum(words["chosen"] > words["rejected"] for words in both),
        chosen_words=_mean([words["chosen"] for words in lengths if "chosen" in words]),
        rejected_words=_mean([words["rejected"] for words in lengths if "rejected" in words]),
    )


def _mean(numbers: list[int]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def _side_by_side(row: Pair, opinions: Opinions, pictures: Pictures) -> SideBySide:
    sides = []
    if row.chosen is not None:
        label = Label("Chosen" if row.rejected is not None else "Learned", "good", row.chosen_model, row.chosen_score)
        sides.append(opinions.side(label, row.chosen, row.chosen_id))
    if row.rejected is not None:
        sides.append(
            opinions.side(Label("Rejected", "bad", row.rejected_model, row.rejected_score), row.rejected, row.rejected_id)
        )
    shown = [pictures.show(name) for name in row.pictures]
    return SideBySide(row.id, shown, row.instruction, row.topic or "", sides, _against(*sides) if len(sides) == 2 else [])


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
