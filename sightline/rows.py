"""The rows that steps hand to each other, and their Arrow schemas.

Rows of one `key` (a prompt, an imported record) travel together through all steps: a shard holds whole keys. Every row has an
`id` that is derived from what made it, and names the rows it came from; pictures are named by the digest of their bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Who made a row: the recipe's engine name, its model and weights, settings as JSON, the seed."""

    engine: str
    model: str
    revision: str
    settings: str = "{}"
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    id: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Request(Row):
    """What a model is asked to write: `number` prompts on a topic."""

    text: str
    topic: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Reply(Row):
    """One raw reply of a model that writes, before any reading of it; `about_id` is the row it was asked about."""

    about_id: str
    request: str
    text: str
    finish: str
    num_tokens: int | None
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Prompt(Row):
    """What a picture shall show. The id of one that a model wrote is `<place>@<id of the reply>`."""

    text: str
    topic: str


@dataclass(frozen=True, kw_only=True)
class Sample(Row):
    """Pictures of the user's own, what files they were, and what is asked about them and answered, as far as a table says.

    `answers` holds each model's by its name.
    """

    pictures: list[str]
    files: list[str]
    instruction: str | None
    topic: str | None
    answers: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Image(Row):
    """One candidate picture of a prompt; `index` counts the prompt's candidates from 0."""

    prompt_id: str
    prompt: str
    topic: str
    picture: str
    guidance: float | None
    index: int
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A picture that stood for election, with its score."""

    image_id: str
    picture: str
    guidance: float | None
    score: float


@dataclass(frozen=True, kw_only=True)
class RankedImage(Row):
    """The picture of a prompt that the image reward model prefers, and all that it was chosen from."""

    prompt_id: str
    prompt: str
    topic: str
    image_id: str
    picture: str
    score: float
    candidates: list[Candidate]
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Instruction(Row):
    """What a model is asked about the pictures; `prompt` is what the picture was asked to show, where that is known."""

    text: str
    pictures: list[str]
    prompt: str | None = None
    topic: str | None = None
    image_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Response(Row):
    """One model's answer to an instruction; `index` counts that model's samples from 0. A server may not count tokens: None."""

    instruction_id: str
    instruction: str
    pictures: list[str]
    text: str
    model: str
    index: int
    finish: str
    num_tokens: int | None
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Judgement(Row):
    """One raw reply of an annotator about one response, before any reading of it."""

    response_id: str
    annotator: str
    question: str
    reply: str
    numbers: dict[str, float] = field(default_factory=dict)
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement in an answer, the question it was checked by, and the verdict; None is an unreadable verdict."""

    text: str
    question: str
    reply: str
    holds: bool | None


@dataclass(frozen=True, kw_only=True)
class Annotation(Row):
    """What an annotator thinks of a response. `score` is None, with a reason, where its reply could not be read."""

    response_id: str
    annotator: str
    score: float | None
    reason: str | None = None
    aspects: dict[str, float] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    sees_picture: bool


FLIPPED = "-flipped"
"""Ends the id of a pair whose sides were swapped on purpose: it sorts where it stood before."""


@dataclass(frozen=True, kw_only=True)
class Pair(Row):
    """A preference: `chosen` over `rejected` as answers to the instruction about the pictures.

    One of the two may be None: an answer to learn by itself (SFT), or one that was only praised or only blamed (KTO).
    """

    instruction: str
    pictures: list[str]
    chosen: str | None
    rejected: str | None
    chosen_score: float | None = None
    rejected_score: float | None = None
    chosen_id: str | None = None
    rejected_id: str | None = None
    chosen_model: str | None = None
    rejected_model: str | None = None
    instruction_id: str | None = None
    topic: str | None = None
    rule: str
    record: str | None = None  # what it was imported from, as JSON; an export in the same format gives it back

    @property
    def answers(self) -> dict[str, str]:
        """The answers that are there, by side: chosen, then rejected."""
        return {side: text for side, text in (("chosen", self.chosen), ("rejected", self.rejected)) if text is not None}

    @property
    def is_flipped(self) -> bool:
        """Whether its sides were swapped on purpose."""
        return self.id.endswith(FLIPPED)


@dataclass(frozen=True, kw_only=True)
class Reference(Row):
    """A reference model's summed log-probability of one term of a pair, over `num_tokens` completion tokens.

    None where the objective reads no reference.
    """

    pair_id: str
    term: str
    logprob: float | None
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Negative(Row):
    """What a pair is held against besides its rejected answer. A spoilt picture's name is `<picture>|<how>|<seed>`.

    `instruction` and `response` are other rows', None where none is asked for; `source_ids` are the rows that lent a question,
    pictures or an answer.
    """

    pair_id: str
    instruction: str | None
    pictures: list[str]
    seed: int
    source_ids: list[str]
    response: str | None = None


@dataclass(frozen=True, kw_only=True)
class Item(Row):
    """A benchmark's question, under its own name there. `group` is the picture, which intervals resample; `target` is JSON.

    `after` names the question of the same group that is asked before it in one conversation.
    """

    group: str
    question_id: str
    question: str
    pictures: list[str]
    target: str
    after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer(Row):
    """A model's answer to a benchmark's item."""

    item_id: str
    group: str
    question: str
    text: str
    finish: str
    num_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class Scored(Row):
    """What a model's answer to an item added to the benchmark's counts; `guessed` where the rule had nothing to go by."""

    item_id: str
    group: str
    counts: dict[str, float]
    guessed: bool


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A row that a step refused, and why; `detail` holds what the reason counts (a length, a score, a file)."""

    key: str
    reason: str
    row_id: str = ""
    detail: str = ""


ROW_TYPES: dict[str, type[Row]] = {
    "requests": Request,
    "replies": Reply,
    "prompts": Prompt,
    "pictures": Sample,
    "images": Image,
    "ranking": RankedImage,
    "instructions": Instruction,
    "responses": Response,
    "splits": Reply,
    "judgements": Judgement,
    "annotations": Annotation,
    "unbalanced": Pair,
    "pairs": Pair,
    "flipped": Pair,
    "negatives": Negative,
    "reference": Reference,
    "items": Item,
    "answers": Answer,
    "to-judge": Item,
    "judging": Answer,
    "scores": Scored,
}
"""Row type of each step's output, by the step's name up to its first slash."""

_PLACES = {family: place for place, family in enumerate(ROW_TYPES)}


def place_of(step: str) -> int:
    """Where a step stands in a run's order, which is that of the row types; last where it is none of theirs."""
    return _PLACES.get(step.partition("/")[0], len(_PLACES))
