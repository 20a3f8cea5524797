"""The pictures that stood for election: each prompt's candidates by guidance scale, and how often each scale won."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sightline.report.evidence import Evidence, spread
from sightline.report.pictures import Pictures, Shown
from sightline.report.wording import number
from sightline.rows import Candidate, RankedImage


@dataclass(frozen=True)
class Cell:
    """One candidate picture."""

    picture: Shown | None
    label: str
    score: float
    is_winner: bool


@dataclass(frozen=True)
class GridRow:
    """A prompt and its candidates, lowest guidance first."""

    id: str
    prompt: str
    topic: str
    cells: list[Cell]


@dataclass(frozen=True)
class Wins:
    """A guidance scale's wins; `expected` is the share of wins if the scale made no difference."""

    label: str
    wins: int
    entered: int
    expected: float
    mean_score: float

    @property
    def percent(self) -> float:
        return 100 * self.wins / self.entered


@dataclass(frozen=True)
class Gallery:
    """The picture grid; `columns` is empty where prompts were painted at different scales."""

    rows: list[GridRow]
    columns: list[str]
    wins: list[Wins]
    num_prompts: int
    scorer: str


def gallery(evidence: Evidence, pictures: Pictures, num_prompts: int) -> Gallery | None:
    ranked: list[RankedImage] = evidence.rows("ranking")
    if not ranked:
        return None
    chosen = spread(sorted(ranked, key=lambda row: row.id), num_prompts, by=lambda row: row.topic)
    rows = [_row(row, pictures) for row in chosen]
    labels = {tuple(cell.label for cell in row.cells) for row in rows}
    columns = list(labels.pop()) if len(labels) == 1 else []
    return Gallery(rows, columns, wins_by_guidance(ranked), len(ranked), ranked[0].origin.engine)


def _row(row: RankedImage, pictures: Pictures) -> GridRow:
    ordered = sorted(row.candidates, key=lambda candidate: (candidate.guidance is None, candidate.guidance or 0.0))
    cells = [
        Cell(pictures.show(candidate.picture), _label(candidate), candidate.score, candidate.image_id == row.image_id)
        for candidate in ordered
    ]
    return GridRow(row.id, row.prompt, row.topic, cells)


def _label(candidate: Candidate) -> str:
    return "as given" if candidate.guidance is None else f"guidance {candidate.guidance:g}"


def wins_by_guidance(ranked: list[RankedImage]) -> list[Wins]:
    """Only prompts with a choice between scales count."""
    wins: dict[float, int] = defaultdict(int)
    scores: dict[float, list[float]] = defaultdict(list)
    chances: dict[float, list[float]] = defaultdict(list)
    for row in ranked:
        scales = [candidate.guidance for candidate in row.candidates if candidate.guidance is not None]
        if len(set(scales)) < 2:
            continue
        for candidate in row.candidates:
            if candidate.guidance is not None:
                wins[candidate.guidance] += candidate.image_id == row.image_id
                scores[candidate.guidance].append(candidate.score)
        for scale in set(scales):
            chances[scale].append(scales.count(scale) / len(row.candidates))
    return [
        Wins(f"{scale:g}", wins[scale], len(chances[scale]), 100 * _mean(chances[scale]), _mean(scores[scale]))
        for scale in sorted(chances)
    ]


def wins_sentence(wins: list[Wins]) -> str:
    """Which scale won most, and how that compares with chance."""
    best = max(wins, key=lambda entry: entry.percent)
    odds = f"{number(best.percent, 0)} %, by chance {number(best.expected, 0)} %"
    return f"Guidance {best.label} won most often: {best.wins:,} of {best.entered:,} prompts ({odds})."


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
