"""What models are asked about a picture, from templates."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from sightline.execute import Step, Use
from sightline.rows import Instruction, RankedImage
from sightline.store.address import digest, seed_from

SLOTS = ("prompt", "topic")


def _known_slots(template: str) -> str:
    try:
        slots = [slot for _, slot, _, _ in Formatter().parse(template) if slot is not None]
    except ValueError as error:
        raise PydanticCustomError(
            "bad_template", "{why}", {"why": str(error), "fix": "write a literal brace twice: {{ or }}"}
        ) from error
    for slot in slots:
        if slot not in SLOTS:
            fix = f"known: {', '.join('{' + known + '}' for known in SLOTS)}; write a literal brace twice"
            raise PydanticCustomError("unknown_slot", "the template has an unknown slot '{slot}'", {"slot": slot, "fix": fix})
    return template


class Instructions(Step):
    """Ask about each picture with one of the templates, chosen by the run's seed."""

    templates: list[Annotated[str, AfterValidator(_known_slots)]] = Field(min_length=1)
    """Texts in which {prompt} is what the picture was asked to show, and {topic} its topic."""
    all: bool = False
    """Ask with every template instead of one."""

    def make(self, use: Use, pictures: list[RankedImage]) -> Iterator[Instruction]:  # type: ignore[override]
        for ranked in pictures:
            for template in self._chosen(use.seed, ranked):
                text = template.format(prompt=ranked.prompt, topic=ranked.topic)
                yield Instruction(
                    id=digest("instruction", ranked.id, text),
                    key=ranked.key,
                    text=text,
                    pictures=[ranked.picture],
                    prompt=ranked.prompt,
                    topic=ranked.topic,
                    image_id=ranked.image_id,
                )

    def _chosen(self, seed: int, ranked: RankedImage) -> list[str]:
        if self.all:
            return list(dict.fromkeys(self.templates))
        return [self.templates[seed_from(seed, ranked.prompt_id, "template") % len(self.templates)]]
