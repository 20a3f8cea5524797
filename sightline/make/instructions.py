"""What models are asked about a picture, from templates."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from sightline.errors import RecipeError
from sightline.execute import Step, Use
from sightline.rows import Dropped, Instruction, RankedImage, Sample
from sightline.store.address import digest, seed_from

SLOTS = ("prompt", "topic")


def _slots(template: str) -> list[str]:
    return [slot for _, slot, _, _ in Formatter().parse(template) if slot is not None]


def _known_slots(template: str) -> str:
    try:
        slots = _slots(template)
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
    """Texts in which {prompt} is what the picture was asked to show, and {topic} its topic, where that is known."""
    all: bool = False
    """Ask with every template instead of one."""

    def refuse_prompts(self) -> None:
        """RecipeError where a template says what a picture was asked to show: nobody asked for pictures of one's own."""
        for number, template in enumerate(self.templates):
            if "prompt" in _slots(template):
                problem = f"'{template}' needs a prompt, and pictures of your own have none"
                raise RecipeError(f"make.instructions.templates.{number}", problem, "leave {prompt} out of it")

    def make(self, use: Use, pictures: list[RankedImage | Sample]) -> Iterator[Instruction | Dropped]:  # type: ignore[override]
        for picture in pictures:
            subject = _ranked(picture) if isinstance(picture, RankedImage) else _own(picture)
            for template in self._chosen(seed_from(use.seed, subject.seed_name, "template")):
                if subject.topic is None and "topic" in _slots(template):
                    yield Dropped(key=picture.key, reason="picture has no topic", row_id=picture.id, detail=template)
                else:
                    yield _asked(picture, subject, template.format(prompt=subject.prompt, topic=subject.topic))

    def _chosen(self, lot: int) -> list[str]:
        return list(dict.fromkeys(self.templates)) if self.all else [self.templates[lot % len(self.templates)]]


class _Subject(NamedTuple):
    """What is asked about, painted or the user's own."""

    seed_name: str
    pictures: list[str]
    prompt: str | None
    topic: str | None
    image_id: str


def _ranked(row: RankedImage) -> _Subject:
    return _Subject(row.prompt_id, [row.picture], row.prompt, row.topic, row.image_id)


def _own(row: Sample) -> _Subject:
    return _Subject(row.key, row.pictures, None, row.topic, row.id)


def _asked(row: RankedImage | Sample, subject: _Subject, text: str) -> Instruction:
    return Instruction(
        id=digest("instruction", row.id, text),
        key=row.key,
        text=text,
        pictures=subject.pictures,
        prompt=subject.prompt,
        topic=subject.topic,
        image_id=subject.image_id,
    )
