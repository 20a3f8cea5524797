"""Several pictures a prompt, each at its own guidance scale and from its own seed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sightline.engines.roles import PaintRequest
from sightline.execute import Step, Use
from sightline.rows import Image, Prompt
from sightline.store.address import digest, seed_from

if TYPE_CHECKING:
    import PIL.Image


class Images(Step):
    """Paint every prompt once at each guidance scale."""

    engine: str
    """Engine that paints; needs the text_to_image role."""
    guidance: list[Annotated[float, Field(ge=0)]] = Field([5.0, 7.0, 9.0, 11.0], min_length=1)
    """Guidance scales, one picture each; a scale may stand several times. At 1 and below the painter is not guided."""

    def engine_roles(self) -> dict[str, str]:
        return {self.engine: "text_to_image"}

    def make(self, use: Use, prompts: list[Prompt]) -> Iterator[Image]:  # type: ignore[override]
        asked = [(prompt, index, guidance) for prompt in prompts for index, guidance in enumerate(self.guidance)]
        seeds = [seed_from(use.seed, prompt.id, index) for prompt, index, _ in asked]
        requests = [PaintRequest(prompt.text, guidance, seed) for (prompt, _, guidance), seed in zip(asked, seeds, strict=True)]
        painted = use.engines.use(self.engine, "text_to_image").paint(requests)
        origin = use.engines.origin(self.engine)
        for (prompt, index, guidance), seed, picture in zip(asked, seeds, painted, strict=True):
            yield Image(
                id=digest("image", prompt.id, guidance, index, seed),
                key=prompt.key,
                prompt_id=prompt.id,
                prompt=prompt.text,
                topic=prompt.topic,
                picture=use.store.put_picture(png(picture)),
                guidance=guidance,
                index=index,
                origin=replace(origin, seed=seed),
            )


def png(picture: PIL.Image.Image) -> bytes:
    """The picture as a file: the same pixels give the same bytes."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()
