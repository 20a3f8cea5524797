"""An image-blind scorer against one that looks: how often they prefer the same answer, and where they part."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from sightline.report.evidence import Evidence, spread
from sightline.report.pairs import Label, Opinions, SideBySide
from sightline.report.pictures import Pictures
from sightline.rows import Annotation, Response

Scores = dict[str, dict[str, float]]
"""Annotator -> response id -> score; answers without a readable score are absent."""


@dataclass(frozen=True)
class Favourites:
    """What one annotator likes best: for each model, of how many instructions its answer alone was the best."""

    annotator: str
    sees_picture: bool
    by_model: dict[str, int]
    tied: int
    refused_percent: float | None


@dataclass(frozen=True)
class Comparison:
    """Two annotators over the same answers. Counts are of pairs of different answers to the same instruction."""

    first: Favourites
    second: Favourites
    same: int
    opposite: int
    first_tied: int
    second_tied: int
    both_tied: int
    random_refused_percent: float | None
    disagreements: list[SideBySide]

    @property
    def decided(self) -> int:
        return self.same + self.opposite

    @property
    def compared(self) -> int:
        return self.decided + self.first_tied + self.second_tied + self.both_tied

    @property
    def models(self) -> list[str]:
        return sorted({*self.first.by_model, *self.second.by_model})


@dataclass(frozen=True)
class Answers:
    """The answers to one instruction, of one wording each, that both annotators scored."""

    instruction_id: str
    rows: list[Response]

    def best(self, scores: dict[str, float]) -> list[Response]:
        top = max(scores[row.id] for row in self.rows)
        return [row for row in self.rows if scores[row.id] == top]


def comparison(evidence: Evidence, pictures: Pictures, num_disagreements: int) -> Comparison | None:
    """None where the run has fewer than two annotators, or no answers that both could score."""
    annotations: list[Annotation] = evidence.rows("annotations")
    named = _two(annotations)
    if named is None:
        return None
    scores = _scores(annotations)
    asked = list(_answers(evidence.rows("responses"), scores, named))
    if not asked:
        return None
    looks = {row.annotator: row.sees_picture for row in annotations}
    refused = _refused(annotations)
    first, second = (_favourites(name, looks[name], asked, scores[name], refused) for name in named)
    counts = Counter(_compare(one, other, scores, named) for group in asked for one, other in combinations(group.rows, 2))
    apart = _apart(asked, scores, named, num_disagreements)
    opinions = Opinions([row for row in annotations if row.annotator in named])
    return Comparison(
        first=first,
        second=second,
        same=counts["same"],
        opposite=counts["opposite"],
        first_tied=counts["first tied"],
        second_tied=counts["second tied"],
        both_tied=counts["both tied"],
        random_refused_percent=_refused_percent([group.rows for group in asked], refused),
        disagreements=[_shown(one, other, named, opinions, pictures) for one, other in apart],
    )


def _two(annotations: list[Annotation]) -> tuple[str, str] | None:
    """An image-blind annotator and one that looks, where there are such; the first two otherwise."""
    blind = sorted({row.annotator for row in annotations if not row.sees_picture})
    looking = sorted({row.annotator for row in annotations if row.sees_picture})
    if blind and looking:
        return blind[0], looking[0]
    both = blind or looking
    return (both[0], both[1]) if len(both) > 1 else None


def _scores(annotations: list[Annotation]) -> Scores:
    scores: Scores = defaultdict(dict)
    for row in annotations:
        if row.score is not None:
            scores[row.annotator][row.response_id] = row.score
    return scores


def _answers(responses: list[Response], scores: Scores, named: tuple[str, str]) -> Iterator[Answers]:
    asked: dict[str, dict[str, Response]] = defaultdict(dict)
    for row in responses:
        if all(row.id in scores[name] for name in named):
            asked[row.instruction_id].setdefault(row.text, row)  # the same words twice are no choice
    for instruction_id, by_text in sorted(asked.items()):
        if len(by_text) > 1:
            yield Answers(instruction_id, list(by_text.values()))


def _compare(one: Response, other: Response, scores: Scores, named: tuple[str, str]) -> str:
    first, second = (scores[name][one.id] - scores[name][other.id] for name in named)
    if first == 0 or second == 0:
        return "both tied" if first == second else "first tied" if first == 0 else "second tied"
    return "same" if (first > 0) == (second > 0) else "opposite"


def _favourites(name: str, looks: bool, asked: list[Answers], scores: dict[str, float], refused: set[str]) -> Favourites:
    best = [group.best(scores) for group in asked]
    by_model = Counter(rows[0].model for rows in best if len(rows) == 1)
    return Favourites(name, looks, dict(by_model), sum(len(rows) > 1 for rows in best), _refused_percent(best, refused))


def _refused(annotations: list[Annotation]) -> set[str]:
    """Responses with a claim that the check did not accept."""
    return {row.response_id for row in annotations if any(claim.holds is False for claim in row.claims)}


def _apart(asked: list[Answers], scores: Scores, named: tuple[str, str], count: int) -> list[tuple[Response, Response]]:
    """Both favourites, where each annotator thinks its own strictly better; the widest gaps of the second annotator first."""
    found = []
    for group in asked:
        one, other = (group.best(scores[name])[0] for name in named)
        gaps = scores[named[0]][one.id] - scores[named[0]][other.id], scores[named[1]][other.id] - scores[named[1]][one.id]
        if min(gaps) > 0:
            found.append((gaps[1], one, other))
    found.sort(key=lambda entry: (-entry[0], entry[1].id))
    return [(one, other) for _, one, other in spread(found, count, by=lambda entry: entry[1].model)]


def _shown(one: Response, other: Response, named: tuple[str, str], opinions: Opinions, pictures: Pictures) -> SideBySide:
    left = opinions.side(Label(f"{named[0]} prefers", "plain", one.model), one.text, one.id)
    right = opinions.side(Label(f"{named[1]} prefers", "plain", other.model), other.text, other.id)
    return SideBySide(f"{one.id}-{other.id}", [pictures.show(name) for name in one.pictures], one.instruction, "", [left, right])


def _refused_percent(groups: list[list[Response]], refused: set[str]) -> float | None:
    """Share of groups whose answer has a refused claim; answers that are equally good count for a part each."""
    shares = [sum(row.id in refused for row in rows) / len(rows) for rows in groups]
    return 100 * sum(shares) / len(shares) if refused else None
