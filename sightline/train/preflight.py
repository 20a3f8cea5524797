"""What training would see of its pairs, before anything is trained: lengths, rows left out, the loss mask, parts, memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from heapq import heappush, heappushpop
from itertools import groupby
from typing import TYPE_CHECKING

from sightline.engines import Engines
from sightline.engines.local import quiet
from sightline.execute import Use, Watch
from sightline.rows import Dropped, Negative, Pair
from sightline.store.address import digest
from sightline.store.shards import Shard, Store, bucket_of, num_buckets

if TYPE_CHECKING:
    from sightline.train import Train
    from sightline.train.examples import Encoder, Segment, Tree
    from sightline.train.memory import Memory, Part, Step

DRAWN, LONGEST = 500, 100
"""Pairs that are looked at where there are more: so many drawn by their ids, and those with the longest texts."""

TOO_LONG = "too long"
"""The encoder's reason for pairs that do not fit."""

Held = tuple[Pair, Negative | Dropped | None]


@dataclass(frozen=True)
class Source:
    """Stored pairs. `shard_size` is given where training will store them anew, in shards of about so many keys."""

    store: Store
    shards: Sequence[Shard]
    shard_size: int | None = None

    def __iter__(self) -> Iterator[Pair]:
        """One shard in memory at a time."""
        return (pair for shard in self.shards for pair in self.store.read(shard))

    @property
    def num_pairs(self) -> int:
        return sum(int(self.store.counts(shard)["rows"]) for shard in self.shards)

    def as_trained(self) -> Iterator[list[Pair]]:
        """The pairs in training's shards, in which negatives are drawn."""
        if self.shard_size is None:
            yield from map(self.store.read, self.shards)
            return
        buckets = num_buckets(len({pair.key for pair in self}), self.shard_size)
        for shard in self.shards:
            split: dict[int, list[Pair]] = {}
            for pair in self.store.read(shard):
                split.setdefault(bucket_of(pair.key, buckets), []).append(pair)
            yield from split.values()


@dataclass(frozen=True)
class Lengths:
    """Tokens of a pair that training takes."""

    picture: int
    """Of the pictures, in front of the chosen answer."""
    prompt: int
    """Of the text before the answers."""
    chosen: int
    rejected: int
    """0 where the objective reads none."""
    path: int
    """Of the longest prompt with an answer: what max_length and the context bound."""
    packed: int
    """Of the whole tree: what goes through the model."""


@dataclass(frozen=True)
class Sample:
    """A pair as the model reads it: each prompt, decoded, with the answers whose tokens count in the loss after it."""

    which: str
    key: str
    length: int
    prompts: list[tuple[str, list[tuple[str, str, int]]]]
    """(prompt, its answers: (term, text, tokens))."""


@dataclass(frozen=True)
class Seen:
    """What the look came to. Where there are many pairs, some were drawn, and those with the longest texts looked at, too."""

    num_pairs: int
    num_drawn: int
    num_looked: int
    limit: int
    """Longest path in tokens that training takes."""
    context: int
    """Longest that the model takes."""
    precision: str
    lengths: list[Lengths]
    """Of the drawn pairs that training takes."""
    largest: Lengths | None
    """The largest of each number over all that were looked at; None where no pair is left."""
    dropped: list[Dropped]
    samples: list[Sample]
    parts: dict[str, Part]
    step: Step | None
    """The largest that can come."""
    memory: Memory | None
    room: int
    """Bytes that this machine's GPU has, or without one its memory."""

    def spread(self, name: str) -> tuple[int, int, int, int]:
        """Smallest, median and 95th percentile (nearest ranks) of the drawn pairs, and the largest of all looked at."""
        ordered = sorted(getattr(some, name) for some in self.lengths)
        low, middle, high = (ordered[max(0, -(-share * len(ordered) // 100) - 1)] for share in (0, 50, 95))
        return low, middle, high, getattr(self.largest, name)


Row = tuple[Pair, "Tree", Lengths]


def look(section: Train, source: Source, watch: Watch) -> Seen:
    """Encode the pairs as training would, knowing the model's shapes only; UserError where it cannot train on any."""
    from sightline.train.memory import Blueprint, Sizes, room

    base = Blueprint(section.model, section.revision, section.precision)
    encoder = base.encoder(section.max_length, Use(Engines({}), source.store, 0).picture)
    drawn, longest = _drawn(section, source)
    watch.begin("look at pairs", len(drawn) + len(longest), "pairs")
    with quiet():
        rows, dropped = _encoded(section, encoder, drawn, watch)
        more_rows, more_dropped = _encoded(section, encoder, longest, watch)
    watch.end("look at pairs", f"{len(drawn) + len(longest):,} of {source.num_pairs:,} pairs")
    lengths, all_rows = [found for _, _, found in rows], rows + more_rows
    largest = _largest([found for _, _, found in all_rows])
    sizes = Sizes(base.network, section)
    step = _step(section, all_rows, encoder.picture_token)
    return Seen(
        num_pairs=source.num_pairs,
        num_drawn=len(drawn),
        num_looked=len(drawn) + len(longest),
        limit=encoder.limit,
        context=base.context,
        precision=str(base.precision()[1]).removeprefix("torch."),
        lengths=lengths or [found for _, _, found in more_rows],
        largest=largest,
        dropped=sorted(dropped + more_dropped, key=lambda row: (row.reason != TOO_LONG, row.reason, row.key)),
        samples=_samples(encoder, all_rows),
        parts=sizes.parts,
        step=step,
        memory=sizes.memory(step) if step else None,
        room=room(),
    )


def _drawn(section: Train, source: Source) -> tuple[list[Held], list[Held]]:
    """Pairs drawn by their ids (all, where they are few), and others that have the longest texts. One pass over the pairs."""
    by_id: list[tuple[int, int, Held]] = []
    by_length: list[tuple[int, int, Held]] = []
    for at, held in enumerate(_held(section, source)):
        _keep(by_id, (-int(digest(held[0].id), 16), at, held), DRAWN)
        _keep(by_length, (_num_letters(held[0]), at, held), LONGEST)
    known = {at for _, at, _ in by_id}
    return [held for *_, held in sorted(by_id)], [held for _, at, held in sorted(by_length) if at not in known]


def _keep(best: list[tuple[int, int, Held]], entry: tuple[int, int, Held], size: int) -> None:
    """Hold the entries of the largest numbers."""
    if len(best) < size:
        heappush(best, entry)
    else:
        heappushpop(best, entry)


def _num_letters(pair: Pair) -> int:
    return len(pair.instruction) + max(map(len, pair.answers.values()), default=0)


def _held(section: Train, source: Source) -> Iterator[Held]:
    """Pairs with their negatives, where the objective asks for some."""
    step = section.negative_step()
    if step is None:
        yield from ((pair, None) for pair in source)
        return
    for pairs in source.as_trained():
        made = step.make(Use(Engines({}), source.store, 0), pairs)
        found = {row.row_id if isinstance(row, Dropped) else row.pair_id: row for row in made}
        yield from ((pair, found[pair.id]) for pair in pairs)


def _encoded(section: Train, encoder: Encoder, some: list[Held], watch: Watch) -> tuple[list[Row], list[Dropped]]:
    """The pairs as trees, and why others are left out."""
    rows: list[Row] = []
    dropped: list[Dropped] = []
    for pair, negative in some:
        made = negative if isinstance(negative, Dropped) else encoder.tree(pair, section.objective.needed_terms(), negative)
        if isinstance(made, Dropped):
            dropped.append(made)
        else:
            rows.append((pair, made, lengths_of(made, encoder.picture_token)))
        watch.advance("look at pairs", 1)
    return rows, dropped


def lengths_of(tree: Tree, picture_token: int) -> Lengths:
    """A tree's numbers of tokens."""
    ends = [at for at, segment in enumerate(tree.segments) if segment.term is not None]
    before = [token for at in tree.path(ends[0])[1:] for token in tree.segments[at].tokens]
    answers = {str(tree.segments[at].term).partition("/")[0]: len(tree.segments[at].tokens) for at in reversed(ends)}
    return Lengths(
        picture=before.count(picture_token),
        prompt=len(before) - before.count(picture_token),
        chosen=answers.get("chosen", 0),
        rejected=answers.get("rejected", 0),
        path=max(tree.start(at) + len(tree.segments[at].tokens) for at in ends),
        packed=sum(row.num_tokens for row in _as_packed(tree)),
    )


def _largest(lengths: list[Lengths]) -> Lengths | None:
    if not lengths:
        return None
    return Lengths(**{entry.name: max(getattr(some, entry.name) for some in lengths) for entry in fields(Lengths)})


def _step(section: Train, rows: list[Row], picture_token: int) -> Step | None:
    """The largest step: as many pairs as go through the model together, each as long as the longest."""
    from sightline.train.memory import Step

    if not rows:
        return None
    packed = [_as_packed(tree) for _, tree, _ in rows]
    return Step(
        pairs=section.batch_size // section.accumulation,
        packed=max(sum(row.num_tokens for row in rows) for rows in packed),
        picture=max(sum(segment.tokens.count(picture_token) for row in rows for segment in row.segments) for rows in packed),
        scored=max(sum(len(one.tokens) for row in rows for one in row.segments if one.term is not None) for rows in packed),
    )


def _as_packed(tree: Tree) -> list[Tree]:
    """The rows that go through the model: what several terms read stands once."""
    from sightline.train.logprobs import merged

    return merged([tree], ())[0]


def _samples(encoder: Encoder, rows: list[Row]) -> list[Sample]:
    """The shortest pair, one in the middle, the longest; the same for the same pairs."""
    ordered = sorted(rows, key=lambda row: (row[2].path, row[0].id))
    places = {"median": (len(ordered) - 1) // 2, "longest": len(ordered) - 1, "shortest": 0} if ordered else {}
    which = {at: name for name, at in places.items()}  # a few pairs are several of these: each comes once
    return [
        Sample(which[at], ordered[at][0].key, ordered[at][2].path, list(_prompts(encoder, ordered[at][1])))
        for at in sorted(which)
    ]


def _prompts(encoder: Encoder, tree: Tree) -> Iterator[tuple[str, list[tuple[str, str, int]]]]:
    """Each prompt of the tree, decoded, with its answers."""
    answers: dict[int, list[Segment]] = {}
    for segment in tree.segments:
        if segment.term is not None and segment.parent is not None:
            answers.setdefault(segment.parent, []).append(segment)
    for parent, found in answers.items():
        prompt = [token for at in reversed(tree.path(parent)) for token in tree.segments[at].tokens]
        counted = [(str(one.term), decoded(encoder, one.tokens), len(one.tokens)) for one in found]
        yield decoded(encoder, prompt), counted


def decoded(encoder: Encoder, tokens: Sequence[int]) -> str:
    """Tokens as text, special ones included, with each run of picture tokens folded: `[<image> x 576]`."""
    pieces = []
    for of_picture, run in groupby(tokens, key=lambda token: token == encoder.picture_token):
        held = list(run)
        text = encoder.tokenizer.decode(held[:1] if of_picture else held, clean_up_tokenization_spaces=False)
        pieces.append(f"[{text} x {len(held)}]" if of_picture else text)
    return "".join(pieces)
