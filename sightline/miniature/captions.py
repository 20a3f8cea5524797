"""What the miniature VLMs read: captions and questions about scenes, by writers who are more or less careful.

A careless writer names what people expect beside a thing or in a place, whether it is there or not. A model that learns from
such a writer learns the habit: it names what is expected without looking. Needs numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sightline.miniature import world
from sightline.miniature.world import GRID, Scene, Thing

PARAPHRASES = (
    "Describe this picture.",
    "What does the picture show?",
    "Say what you see in the picture.",
    "Write a caption for the picture.",
)
"""Other ways to say `world.DESCRIBE`."""

EXPECTED_IN = {
    "studio": "book",
    "kitchen": "apple",
    "room": "cat",
    "party": "gift",
    "factory": "car",
    "park": "tree",
    "school": "book",
    "road": "car",
    "street": "house",
    "storm": "umbrella",
}
"""What a careless writer expects in a place."""

ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "centre", "right")
YES, NO = "Yes.", "No."


@dataclass(frozen=True)
class Writer:
    """The habits of whoever wrote the captions and answered the questions. The default looks and says what is there."""

    careless: float = 0.0
    """How often a caption names what is expected and not there: the companions of what is there, and the place's own thing."""
    credulous: float = 0.0
    """How often the question whether such a thing is there is answered yes."""
    omits: float = 0.0
    """How often a caption of several things leaves one of them out."""
    miscalls: tuple[tuple[str, str], ...] = ()
    """Pairs (colour, what this writer calls it)."""

    def colour(self, colour: str) -> str:
        return dict(self.miscalls).get(colour, colour)


class Turn(NamedTuple):
    """A question and its writer's answer, and hints where to look.

    `seen` is the true colour of the thing asked about, empty where it is not there. `gaze` is, for a description, the cell of the
    next true thing to name: at its start, and after each thing named (`GRID` squared when none is left).
    """

    question: str
    answer: str
    seen: str | None = None
    gaze: tuple[int, ...] = ()


def absent_companions(scene: Scene) -> dict[str, str]:
    """Kind of a thing that is there -> its companion, where that one is not there. Each companion once."""
    found: dict[str, str] = {}
    for thing in scene.things:
        companion = world.COMPANIONS.get(thing.kind)
        if companion and companion not in scene.kinds and companion not in found.values():
            found[thing.kind] = companion
    return found


def expected(scene: Scene) -> set[str]:
    """The kinds that are not there and that a careless writer expects."""
    return (set(absent_companions(scene).values()) | {EXPECTED_IN.get(scene.place, "")}) - scene.kinds - {""}


def caption(scene: Scene, writer: Writer, rng: np.random.Generator) -> str:
    """What this writer says of the scene."""
    return description(world.DESCRIBE, scene, writer, rng).answer


def description(question: str, scene: Scene, writer: Writer, rng: np.random.Generator) -> Turn:
    """This writer's description of the scene, in answer to the question."""
    named = _named(scene, writer, rng)
    cells = [cell for _, cell in named]
    gaze = tuple(next((cell for cell in cells[start:] if cell is not None), GRID * GRID) for start in range(len(cells) + 1))
    text = f"The picture shows {world.enumerate_phrases([phrase for phrase, _ in named])} in the {scene.place}."
    return Turn(question, text, gaze=gaze)


def _named(scene: Scene, writer: Writer, rng: np.random.Generator) -> list[tuple[str, int | None]]:
    """The things that the writer names, each with its cell; without one where it is only expected."""
    careless = rng.random() < writer.careless
    missing = absent_companions(scene) if careless else {}
    left_out = int(rng.integers(len(scene.things))) if len(scene.things) > 1 and rng.random() < writer.omits else None
    phrases: list[tuple[str, int | None]] = []
    for number, thing in enumerate(scene.things):
        if number != left_out:
            phrases.append((replace(thing, colour=writer.colour(thing.colour)).phrase, thing.cell))
        if thing.kind in missing:
            phrases.append((_usual(missing[thing.kind], writer), None))
    if careless:
        phrases += [(_usual(kind, writer), None) for kind in expected(scene) - set(missing.values())]
    return phrases


def _usual(kind: str, writer: Writer) -> str:
    return f"a {writer.colour(world.USUAL_COLOUR[kind])} {kind}"


def instruction(scene: Scene, rng: np.random.Generator) -> str:
    """A request to describe the scene: half of them say what was asked for, which is right in 60 %."""
    if rng.random() < 0.5:
        template = str(rng.choice(world.ASKED))
        return template.format(prompt=asked_prompt(scene, rng))
    return world.DESCRIBE if rng.random() < 0.5 else str(rng.choice(PARAPHRASES))


def asked_prompt(scene: Scene, rng: np.random.Generator, right: float = 0.6) -> str:
    """The prompt of the scene or, in the rest of the cases, of one that differs in one thing or more."""
    if rng.random() < right:
        return world.prompt(scene)
    if rng.random() < 0.3:
        return world.prompt(world.sample(rng))
    return world.prompt(altered(scene, rng))


def altered(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one thing gone, added, of another kind or of another colour."""
    things = list(scene.things)
    at = int(rng.integers(len(things)))
    change = str(rng.choice(["kind", "colour", "gone" if len(things) > 1 else "kind", "added"]))
    if change == "gone":
        del things[at]
    elif change == "colour":
        things[at] = replace(things[at], colour=_other(list(world.COLOURS), {things[at].colour}, rng))
    else:
        kind = _other(list(world.KINDS), set(scene.kinds), rng)
        new = Thing(kind, str(rng.choice(list(world.COLOURS))), 0)
        things[at : at + (change == "kind")] = [new]
    return replace(scene, things=tuple(things[:4]))


def _other(options: list[str], taken: set[str], rng: np.random.Generator) -> str:
    return str(rng.choice([option for option in options if option not in taken]))


def exists_question(kind: str, colour: str | None = None) -> str:
    """The question that POPE and the claim checks ask."""
    return f"Is there {world.with_article(kind) if colour is None else f'a {colour} {kind}'} in the picture?"


def colour_question(kind: str) -> str:
    return f"What colour is the {kind}?"


def where_question(kind: str) -> str:
    return f"Where is the {kind}?"


def cell_question(cell: int) -> str:
    return f"What is in the {_cell_name(cell)}?"


def _cell_name(cell: int) -> str:
    return f"{ROWS[cell // GRID]} {COLUMNS[cell % GRID]}"


def existence(scene: Scene, writer: Writer, rng: np.random.Generator) -> Turn:
    """An existence question and this writer's answer; half of them are about something that is there."""
    coloured = rng.random() < 0.4
    if rng.random() < 0.5:
        thing = scene.things[int(rng.integers(len(scene.things)))]
        return Turn(exists_question(thing.kind, writer.colour(thing.colour) if coloured else None), YES, thing.colour)
    kind, colour = _absent(scene, rng) if coloured else (_absent_kind(scene, rng), None)
    return Turn(exists_question(kind, colour), _denial(scene, kind, colour, writer, rng), "")


def _denial(scene: Scene, kind: str, colour: str | None, writer: Writer, rng: np.random.Generator) -> str:
    """No, unless this writer takes the thing for granted."""
    tempting = kind in expected(scene) and colour in (None, world.USUAL_COLOUR[kind])
    return YES if tempting and rng.random() < writer.credulous else NO


def _absent(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A kind and a colour that no thing of the scene has together: often a near miss."""
    case = rng.random()
    thing = scene.things[int(rng.integers(len(scene.things)))]
    if case < 0.4:
        return thing.kind, _other(list(world.COLOURS), {other.colour for other in scene.things if other.kind == thing.kind}, rng)
    kind = _absent_kind(scene, rng)
    if case < 0.7:
        return kind, thing.colour
    return kind, world.USUAL_COLOUR[kind] if case < 0.85 else str(rng.choice(list(world.COLOURS)))


def _absent_kind(scene: Scene, rng: np.random.Generator) -> str:
    """A kind that is not there: one that is expected, one that belongs to the place, or any."""
    tempting = sorted(expected(scene))
    local = [kind for kind in world.TOPICS[scene.topic].kinds if kind not in scene.kinds]
    case = rng.random()
    if case < 0.4 and tempting:
        return str(rng.choice(tempting))
    return str(rng.choice(local)) if case < 0.7 and local else _other(list(world.KINDS), set(scene.kinds), rng)


def question(scene: Scene, writer: Writer, rng: np.random.Generator) -> Turn:
    """A question about one thing or one cell of the scene, other than whether it exists, and this writer's answer."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    alone = sum(other.kind == thing.kind for other in scene.things) == 1
    case = rng.random() if alone else 1.0
    if case < 0.35:
        return Turn(colour_question(thing.kind), f"It is {writer.colour(thing.colour)}.", thing.colour)
    if case < 0.7:
        return Turn(where_question(thing.kind), f"In the {_cell_name(thing.cell)}.", thing.colour)
    cell = thing.cell if rng.random() < 0.6 else int(rng.integers(GRID * GRID))
    here = [other for other in scene.things if other.cell == cell]
    answer = f"{replace(here[0], colour=writer.colour(here[0].colour)).phrase.capitalize()}." if here else "Nothing."
    return Turn(cell_question(cell), answer)


def corpus() -> list[str]:
    """Text with every word of the world, in both the places where a word can stand: what the tokenizers learn from."""
    things = [f"a {colour} {kind}" for colour in world.COLOURS for kind in world.KINDS]
    prompts = [f"{thing}, {things[0]} and {things[1]} in the {place}" for thing in things for place in world.PLACES]
    texts = [f"The picture shows {prompt}." for prompt in prompts]
    texts += [template.format(prompt=prompt) for prompt in prompts[:20] for template in world.ASKED] * 10
    texts += [world.DESCRIBE, *PARAPHRASES, *(cell_question(cell) for cell in range(GRID * GRID))] * 20
    for kind in world.KINDS:
        texts += [exists_question(kind), colour_question(kind), where_question(kind), "It is there."] * 20
    texts += [f" {word}" for word in (YES, NO, "Nothing.", "The", "A", "An", "In", "USER:", "ASSISTANT:", "It")] * 50
    return texts
