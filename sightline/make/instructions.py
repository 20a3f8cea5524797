"""What models are asked about a picture: where that comes from, and what templates make of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from sightline.execute import Step, Task, Use
from sightline.make.slots import slots
from sightline.plugin import Table
from sightline.rows import Dropped, Instruction, Prompt, RankedImage
from sightline.store.address import digest, seed_from

INSTRUCTIONS = Table(
    "instructions",
    {
        "templates": "sightline.make.instructions:Instructions",
        "written": "sightline.make.written_instructions:WrittenInstructions",
        "file": "sightline.make.instruction_file:InstructionFile",
    },
    default="templates",
)


class InstructionSource(Step):
    """Where instructions come from."""

    def tasks(self, folder: Path | None) -> list[Task]:
        """The steps that make them, the last one `instructions`. Files are read from `folder`; without one they are not."""
        return [Task("instructions", self, ("ranking",))]

    def foreseen(self, prompts: list[Prompt], folder: Path) -> str:
        """What a check says of instructions for these prompts; a DataError where none of them will have one."""
        return ""


class Instructions(InstructionSource):
    """Ask about each picture with one of the templates, chosen by the run's seed."""

    templates: list[Annotated[str, slots("prompt", "topic")]] = Field(min_length=1)
    """Texts in which {prompt} is what the picture was asked to show, and {topic} its topic."""
    all: bool = False
    """Ask with every template instead of one."""

    def make(self, use: Use, pictures: list[RankedImage]) -> Iterator[Instruction | Dropped]:  # type: ignore[override]
        for ranked in pictures:
            for template in chosen(self.templates, self.all, use.seed, ranked.prompt_id):
                yield instruction(ranked, template.format(prompt=ranked.prompt, topic=ranked.topic))


def chosen(texts: list[str], every: bool, seed: int, about: str) -> list[str]:
    """One of the texts, by the seed and what it is `about`; or each once."""
    if every:
        return list(dict.fromkeys(texts))
    return [texts[seed_from(seed, about, "template") % len(texts)]]


def instruction(ranked: RankedImage, text: str) -> Instruction:
    """The text as an instruction about the picture."""
    return Instruction(
        id=digest("instruction", ranked.id, text),
        key=ranked.key,
        text=text,
        pictures=[ranked.picture],
        prompt=ranked.prompt,
        topic=ranked.topic,
        image_id=ranked.image_id,
    )
