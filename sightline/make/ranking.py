"""The picture of each prompt that an image reward model prefers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import Field

from sightline.errors import RunError
from sightline.execute import Step, Use
from sightline.rows import Candidate, Dropped, Image, Origin, RankedImage
from sightline.store.address import digest


class Ranking(Step):
    """Keep the picture that fits its prompt best. Candidates that are the same picture count as one."""

    scorer: str
    """Engine that scores pictures; needs the image_scorer role."""
    min_gap: float = Field(0.0, ge=0)
    """Drop a prompt whose two best pictures score closer than this."""

    def engine_roles(self) -> dict[str, str]:
        return {self.scorer: "image_scorer"}

    def make(self, use: Use, images: list[Image]) -> Iterator[RankedImage | Dropped]:  # type: ignore[override]
        distinct = _distinct(images)
        scorer = use.engines.use(self.scorer, "image_scorer")
        scores = scorer.score([image.prompt for image in distinct], [use.picture(image.picture) for image in distinct])
        if not all(math.isfinite(score) for score in scores):
            raise RunError("ranking", f"'{self.scorer}' scored a picture with NaN", "try dtype: float32 for this engine")
        standing: dict[str, list[tuple[float, Image]]] = {}
        for score, image in zip(scores, distinct, strict=True):
            standing.setdefault(image.key, []).append((score, image))
        origin = use.engines.origin(self.scorer)
        for candidates in standing.values():
            yield self._elect(candidates, origin)

    def _elect(self, candidates: list[tuple[float, Image]], origin: Origin) -> RankedImage | Dropped:
        (score, best), *others = sorted(candidates, key=lambda scored: -scored[0])
        gap = score - others[0][0] if others else math.inf
        if gap == 0 or gap < self.min_gap:
            return Dropped(key=best.key, reason="no clear best picture", row_id=best.prompt_id, detail=f"gap {gap:.4g}")
        return RankedImage(
            id=digest("ranked", best.id),
            key=best.key,
            prompt_id=best.prompt_id,
            prompt=best.prompt,
            topic=best.topic,
            image_id=best.id,
            picture=best.picture,
            score=score,
            candidates=[_candidate(score, image) for score, image in candidates],
            origin=origin,
        )


def _candidate(score: float, image: Image) -> Candidate:
    return Candidate(image_id=image.id, picture=image.picture, guidance=image.guidance, score=score)


def _distinct(images: list[Image]) -> list[Image]:
    """The first image of each different picture of a prompt."""
    first: dict[tuple[str, str], Image] = {}
    for image in images:
        first.setdefault((image.key, image.picture), image)
    return list(first.values())
