"""What a text claims about a scene, and how much of that is true. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sightline.miniature import world
from sightline.miniature.world import Scene

_COLOURS = "|".join(world.COLOURS)
_THING = re.compile(rf"\b(?:(?P<colour>{_COLOURS}) )?(?P<kind>{'|'.join(world.KINDS)})\b")
_PLACE = re.compile(rf"\b({'|'.join(world.PLACES)})\b")


@dataclass(frozen=True)
class Faults:
    """What is wrong with a text: kinds that are not there, kinds left out, wrong colours, a wrong place, things said twice."""

    invented: int
    left_out: int
    miscoloured: int
    misplaced: int
    repeated: int

    @property
    def total(self) -> int:
        return self.invented + self.left_out + self.miscoloured + self.misplaced + self.repeated


def mentions(text: str) -> list[tuple[str | None, str]]:
    """(colour or None, kind) of each thing that the text names, in its order."""
    return [(match["colour"], match["kind"]) for match in _THING.finditer(text)]


def faults(text: str, scene: Scene) -> Faults:
    """Count the faults of a description of this scene; an unnamed colour or place is none."""
    named = mentions(text)
    kinds = [kind for _, kind in named]
    real = {(thing.colour, thing.kind) for thing in scene.things}
    wrong_colours = {(colour, kind) for colour, kind in named if colour and kind in scene.kinds and (colour, kind) not in real}
    return Faults(
        invented=len(set(kinds) - scene.kinds),
        left_out=len(scene.kinds - set(kinds)),
        miscoloured=len(wrong_colours),
        misplaced=int(any(place != scene.place for place in _PLACE.findall(text))),
        repeated=len(kinds) - len(set(kinds)),
    )
