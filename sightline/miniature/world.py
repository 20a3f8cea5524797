"""The miniature world: 24x24 pictures of small things in a place, whose truth is known.

A scene is one to three things on a 3x3 grid, each a hand-drawn 8x8 sprite of one of 12 kinds in one of 6 colours, in one of ten
places (one for each of PDS-DPO's ten topics). The grid's cells are the vision towers' patches. The world has statistics, as the
real one does: places have things that belong there, things have usual colours, and some things usually come with a companion. A
model that learns from careless captions learns to name the companion without looking; that is the habit which alignment has to
break.

Needs numpy and Pillow only.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

CELL = 8
GRID = 3
SIZE = CELL * GRID

COLOURS = {
    "red": (222, 44, 44),
    "yellow": (250, 208, 36),
    "green": (38, 164, 72),
    "blue": (44, 108, 240),
    "purple": (134, 62, 190),
    "pink": (255, 138, 190),
}

_INK = {"k": (34, 30, 40), "w": (252, 250, 244), "b": (122, 78, 44), "g": (58, 130, 48), "o": (244, 140, 40)}

# x: the thing's colour, l and d: its light and dark shade, the other letters: fixed inks, a dot: the background
SPRITES = {
    "apple": "...bgg.. ..xbxx.. .xlxxxx. xllxxxxd xlxxxxxd xxxxxxdd .xxxxdd. ..xx.d..",
    "bird": "..xxx... .xxkx... oxxxx... ..xxxxxx ..xllxxd ..xxxxd. ...xxd.. ...o.o..",
    "boat": "...k.... ...kww.. ...kwww. ...kwwww ...k.... xxxxxxxx .xlxxxd. ..xxxd..",
    "book": ".xxxxxx. xxxxxxxw xxllllxw xxxxxxxw xxlllxxw xxxxxxxw xwwwwwww .ddddddd",
    "car": "........ ..xxxx.. .xwwkwx. xxwwkwxx xlxxxxxo xxxxxxdd .kk..kk. .kk..kk.",
    "cat": "x......x xx....xx xxxxxxxx xkxxxxkx xxxwwxxx .xwkkwx. .xxwwxd. ..dddd..",
    "cup": "........ lllllld. xlxxxdxx xlxxxd.x xlxxxd.x xlxxxdxx .xxxxd.. .dddd...",
    "gift": ".ww..ww. ..wwww.. xxxwwxxx xlxwwxxd wwwwwwww xlxwwxxd xlxwwxxd xxxwwxdd",
    "house": "...xx... ..xxxx.. .xxllxx. xxxxxxxx .wwwwww. .wkwbbw. .wwwbbw. .wwwbbw.",
    "lamp": "..xxxx.. ..xlxx.. .xxlxxd. .xllxxd. xxxxxxxd ...kk... ...kk... ..kkkk..",
    "tree": "...xx... ..xlxx.. .xllxxd. xllxxxxd xxxxxxdd .xxxxdd. ...bb... ...bb...",
    "umbrella": "...kk... ..xxxx.. .xlxxxd. xllxxxxd x.xkkx.d ...kk... .k.kk... .kkk....",
}
KINDS = tuple(SPRITES)

USUAL_COLOUR = {
    "apple": "red", "bird": "blue", "boat": "blue", "book": "purple", "car": "red", "cat": "yellow",
    "cup": "blue", "gift": "pink", "house": "red", "lamp": "yellow", "tree": "green", "umbrella": "purple",
}  # fmt: skip

# What people expect beside a thing. In half of the scenes with the first, the second is really there.
COMPANIONS = {"apple": "cup", "bird": "tree", "book": "cup", "house": "tree", "lamp": "cat", "umbrella": "car"}


@dataclass(frozen=True)
class Place:
    """A topic's setting: its noun, the colours of its upper and lower part, and the things that belong there."""

    noun: str
    upper: tuple[int, int, int]
    lower: tuple[int, int, int]
    kinds: tuple[str, ...]


TOPICS = {
    "art": Place("studio", (240, 231, 214), (214, 196, 172), ("book", "lamp", "cup", "cat", "apple")),
    "culinary": Place("kitchen", (214, 236, 234), (188, 206, 204), ("apple", "cup", "cat", "lamp", "book")),
    "daily activities": Place("room", (246, 226, 206), (206, 174, 148), ("cat", "lamp", "cup", "book", "umbrella")),
    "holidays": Place("party", (92, 78, 112), (72, 60, 92), ("gift", "tree", "cup", "lamp", "cat")),
    "industrial": Place("factory", (186, 190, 196), (140, 144, 150), ("car", "boat", "lamp", "cup", "house")),
    "nature": Place("park", (202, 230, 250), (178, 212, 154), ("tree", "bird", "cat", "house", "apple")),
    "school": Place("school", (84, 112, 100), (150, 124, 98), ("book", "apple", "cup", "bird", "lamp")),
    "transportation": Place("road", (206, 220, 232), (112, 114, 120), ("car", "boat", "umbrella", "tree", "house")),
    "urban": Place("street", (226, 214, 226), (164, 158, 166), ("house", "car", "tree", "umbrella", "bird")),
    "weather": Place("storm", (112, 128, 152), (88, 102, 124), ("umbrella", "boat", "bird", "car", "house")),
}
PLACES = tuple(place.noun for place in TOPICS.values())

DESCRIBE = "Describe the picture."
"""The instruction that the benchmarks use; it says nothing about the picture."""

ASKED = (
    "This picture was asked to show {prompt}. Describe what it shows.",
    "Somebody ordered a picture of {prompt}. What does the picture show?",
)
"""Instructions that say what was asked for, as PDS-DPO's do. What was asked may not be what is there."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene; `cell` counts the grid's cells in reading order, 0 to 8."""

    kind: str
    colour: str
    cell: int

    @property
    def phrase(self) -> str:
        return f"a {self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """Things in reading order, and where they are."""

    things: tuple[Thing, ...]
    topic: str

    @property
    def place(self) -> str:
        return TOPICS[self.topic].noun

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(thing.kind for thing in self.things)

    @property
    def held_out(self) -> bool:
        """True for one scene in ten, by its content: such scenes are never trained on."""
        digest = hashlib.blake2b(repr((sorted(map(repr, self.things)), self.topic)).encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % 10 == 0


def sample(rng: np.random.Generator, topic: str | None = None, held_out: bool = False, num_things: int | None = None) -> Scene:
    """Draw a scene from the world's statistics, on the asked side of the held-out split."""
    while True:
        scene = _sample(rng, topic or str(rng.choice(list(TOPICS))), num_things)
        if scene.held_out == held_out:
            return scene


def _sample(rng: np.random.Generator, topic: str, num_things: int | None) -> Scene:
    count = num_things or int(rng.choice([1, 2, 3], p=[0.15, 0.45, 0.4]))
    weights = np.array([4.0 if kind in TOPICS[topic].kinds else 1.0 for kind in KINDS])
    kinds: list[str] = []
    while len(kinds) < count:
        kind = str(rng.choice(KINDS, p=weights / weights.sum()))
        if kind in kinds:
            continue
        kinds.append(kind)
        companion = COMPANIONS.get(kind)
        if companion and companion not in kinds and len(kinds) < count and rng.random() < 0.5:
            kinds.append(companion)
    cells = sorted(int(cell) for cell in rng.choice(GRID * GRID, size=count, replace=False))
    order = rng.permutation(count)
    return Scene(tuple(Thing(kinds[i], _colour(rng, kinds[i]), cell) for i, cell in zip(order, cells, strict=True)), topic)


def _colour(rng: np.random.Generator, kind: str) -> str:
    return USUAL_COLOUR[kind] if rng.random() < 0.4 else str(rng.choice(list(COLOURS)))


def enumerate_phrases(phrases: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def prompt(scene: Scene) -> str:
    """The text-to-image prompt that asks for this scene."""
    return f"{enumerate_phrases([thing.phrase for thing in scene.things])} in the {scene.place}"


def describe(scene: Scene) -> str:
    """The full true description."""
    return f"The picture shows {prompt(scene)}."


def with_article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


_PROMPT = re.compile(r"^(?P<things>.+) in the (?P<place>\w+)$")


def parse_prompt(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Read a prompt of this world back: ((colour, kind), ...) and the place. ValueError where it is none."""
    match = _PROMPT.match(text.strip())
    if match is None or match["place"] not in PLACES:
        raise ValueError(f"not a prompt of the miniature world: {text!r}")
    things = []
    for phrase in re.split(r", | and ", match["things"]):
        article, _, rest = phrase.partition(" ")
        colour, _, kind = rest.partition(" ")
        if article != "a" or colour not in COLOURS or kind not in SPRITES:
            raise ValueError(f"not a thing of the miniature world: {phrase!r}")
        things.append((colour, kind))
    return tuple(things), match["place"]


def _shade(colour: tuple[int, int, int], towards: int, share: float) -> np.ndarray:
    return np.array(colour) * (1 - share) + towards * share


def sprite(kind: str, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (8, 8, 3), 0 to 255, and where they cover the background (8, 8)."""
    main = COLOURS[colour]
    inks = {**_INK, "x": main, "l": _shade(main, 255, 0.45), "d": _shade(main, 0, 0.3)}
    letters = [list(row) for row in SPRITES[kind].split()]
    covered = np.array([[letter != "." for letter in row] for row in letters])
    pixels = np.array([[inks.get(letter, (0, 0, 0)) for letter in row] for row in letters], dtype=np.float64)
    return pixels, covered


def backdrop(topic: str, rng: np.random.Generator) -> np.ndarray:
    """The place without things: (24, 24, 3), 0 to 255. Upper part, horizon, lower part, a grain, each picture a little other."""
    place = TOPICS[topic]
    horizon = 14 + int(rng.integers(-1, 2))
    rows = np.where((np.arange(SIZE) < horizon)[:, None], np.array(place.upper), np.array(place.lower)).astype(np.float64)
    tint = rng.normal(0, 4, size=3)
    grain = rng.normal(0, 3, size=(SIZE, SIZE, 1))
    return np.clip(rows[:, None, :] + tint + grain, 0, 255)


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Paint the scene, 24x24 RGB. The generator moves the backdrop's grain only."""
    canvas = backdrop(scene.topic, rng)
    for thing in scene.things:
        pixels, covered = sprite(thing.kind, thing.colour)
        row, column = divmod(thing.cell, GRID)
        cell = canvas[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        cell[covered] = np.clip(pixels + rng.normal(0, 2, size=(1, 1, 3)), 0, 255)[covered]
    return Image.fromarray(canvas.round().astype(np.uint8))


# Reading a picture back: templates only, nothing learned, so that it can judge what learned models painted.

SMUDGE_RMS = 36.0
"""A cell that differs from emptiness and from every sprite by more than this (root mean square, of 255) shows no one thing."""

_TEMPLATES = tuple((kind, colour) for kind in KINDS for colour in COLOURS)
_SPLITS = (5, 6, 7, 8)  # rows of a cell above the horizon; 8: the horizon does not cross it


@dataclass(frozen=True)
class Reading:
    """What a picture shows: its things in reading order, and the cells where there is something but no clear thing."""

    things: tuple[Thing, ...]
    smudges: tuple[int, ...]


@cache
def _templates() -> tuple[np.ndarray, np.ndarray]:
    """Sprites (T, P, 3) and which pixels they cover (T, P); the last template is emptiness and covers nothing."""
    drawn = [sprite(kind, colour) for kind, colour in _TEMPLATES]
    pixels = np.stack([pixels.reshape(-1, 3) for pixels, _ in drawn] + [np.zeros((CELL * CELL, 3))])
    covered = np.stack([covered.reshape(-1) for _, covered in drawn] + [np.zeros(CELL * CELL, dtype=bool)])
    return pixels, covered.astype(np.float64)


def _misfits(cells: np.ndarray) -> np.ndarray:
    """Root mean square difference (C, T) of each cell (C, P, 3) from each template on the plain background that suits it best."""
    pixels, covered = _templates()
    masked = pixels * covered[:, :, None]
    squares = (cells**2).sum(-1)  # (C, P)
    on_sprite = squares @ covered.T - 2 * np.tensordot(cells, masked, ([1, 2], [1, 2])) + (masked**2).sum((1, 2))
    rows = np.arange(CELL * CELL) // CELL
    around = []
    for split in _SPLITS:
        spread = np.zeros_like(on_sprite)
        for part in (rows < split, rows >= split):
            free = (1 - covered) * part  # (T, P)
            total = np.tensordot(cells, free, ([1], [1]))  # (C, 3, T)
            spread += squares @ free.T - (total**2).sum(1) / np.maximum(free.sum(-1), 1)
        around.append(spread)
    squared = on_sprite + np.min(around, axis=0)
    return np.sqrt(np.maximum(squared, 0) / (3 * CELL * CELL))


def read_cells(image: Image.Image) -> Reading:
    """Match every cell against every sprite and against emptiness; the nearest wins."""
    canvas = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float64)
    cells = canvas.reshape(GRID, CELL, GRID, CELL, 3).swapaxes(1, 2).reshape(GRID * GRID, CELL * CELL, 3)
    misfits = _misfits(cells)
    things, smudges = [], []
    for cell, best in enumerate(misfits.argmin(axis=1)):
        if misfits[cell, best] > SMUDGE_RMS:
            smudges.append(cell)
        elif best < len(_TEMPLATES):
            kind, colour = _TEMPLATES[best]
            things.append(Thing(kind, colour, cell))
    return Reading(tuple(things), tuple(smudges))


def read(image: Image.Image) -> tuple[Thing, ...]:
    """The things that a picture shows, in reading order; what is no clear thing is left out."""
    return read_cells(image).things


def matches(image: Image.Image, prompt: str) -> bool:
    """True where the picture shows exactly the prompt's things in their colours, in whatever cells, and nothing else."""
    reading = read_cells(image)
    asked, _ = parse_prompt(prompt)
    return not reading.smudges and sorted(asked) == sorted((thing.colour, thing.kind) for thing in reading.things)
