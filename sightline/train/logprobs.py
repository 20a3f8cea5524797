"""Log-probabilities of whole trees in one packed forward pass (a torch file).

Axes: B pairs, R rows of packed trees, T packed tokens, S segments, K terms, C completions, N scored tokens, V words,
P distinct pictures, M places of pictures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sightline.train import attention
from sightline.train.examples import Pictures, Segment, Tree
from sightline.train.families import family_of
from sightline.train.features import Features, encode
from sightline.train.objectives import Logprobs, Term
from sightline.train.positions import on_three_axes

LOGITS_AT_ONCE = 1 << 24
"""Tokens times words whose logits may exist together (64 MB in float32); more are made in pieces, and again for gradients."""


def pack(trees: Sequence[Tree], terms: Sequence[Term], pictures: Pictures, pad: int) -> dict[str, Any]:
    """A batch of trees as tensors: what trees share stands once, rows are padded to one length, each picture comes once.

    `places` (B, K) says which completion is a tree's term: pairs of one instruction may share answers, too.
    """
    rows, places = merged(trees, terms)
    columns = [_row(row) for row in rows]
    width = max(len(column[0]) for column in columns)
    tokens, segments, positions = (
        torch.tensor([column + [filler] * (width - len(column)) for column in some])
        for some, filler in zip(zip(*columns, strict=True), (pad, -1, 0), strict=True)
    )
    scored = torch.tensor([place for at, row in enumerate(rows) for place in _scored(at, row)], dtype=torch.long)
    batch: dict[str, Any] = {
        "tokens": tokens,
        "segments": segments,
        "positions": positions,
        "ancestors": _ancestors(rows),
        "scored": scored,
    }
    batch["chains"] = torch.tensor([chain for at, row in enumerate(rows) for chain in attention.chains(at, row)])
    places, further = _further(trees, terms, scored, places)
    counts = [[tree.num_scored(term.name) for term in terms] for tree in trees]
    batch |= {"places": torch.tensor(places), "num_tokens": torch.tensor(counts), **further}
    return {**batch, **_pictures(rows, pictures), **_axes(rows, pictures, width)}


@dataclass
class _Node:
    """A segment that several trees may share; `completion` numbers those that a term counts."""

    segment: Segment
    children: dict[tuple[tuple[int, ...], tuple[str, ...]], _Node] = field(default_factory=dict)
    completion: int | None = None

    def child(self, segment: Segment) -> _Node:
        """The child of these tokens and pictures, made where there is none."""
        return self.children.setdefault((segment.tokens, segment.pictures), _Node(segment))


def merged(trees: Sequence[Tree], terms: Sequence[Term]) -> tuple[list[Tree], list[list[int]]]:
    """Trees with one root each that hold each shared segment once, their terms numbered; and the number (B, K) of each term, -1
    where a tree lacks it."""
    top, count, places = _Node(Segment(())), 0, []
    for tree in trees:
        nodes: list[_Node] = []
        numbers: dict[str, int] = {}
        for segment in tree.segments:
            node = (top if segment.parent is None else nodes[segment.parent]).child(segment)
            nodes.append(node)
            if segment.term is not None:
                if node.completion is None:
                    node.completion, count = count, count + 1
                numbers[segment.term] = node.completion
        places.append([numbers.get(term.name, -1) for term in terms])
    return [Tree("", tuple(_flat(root, None, 0))) for root in top.children.values()], places


def _flat(node: _Node, parent: int | None, at: int) -> list[Segment]:
    """The node's segments from place `at` on, each before its children."""
    term = None if node.completion is None else str(node.completion)
    found = [Segment(node.segment.tokens, parent, term, node.segment.pictures)]
    for child in node.children.values():
        found += _flat(child, at, at + len(found))
    return found


def _row(tree: Tree) -> tuple[list[int], list[int], list[int]]:
    """Tokens of all segments behind each other, their segments, their positions on their own paths."""
    tokens: list[int] = []
    segments: list[int] = []
    positions: list[int] = []
    for index, segment in enumerate(tree.segments):
        start = tree.start(index)
        tokens += segment.tokens
        segments += [index] * len(segment.tokens)
        positions += range(start, start + len(segment.tokens))
    return tokens, segments, positions


def _scored(at: int, tree: Tree) -> Iterator[tuple[int, int, int, int]]:
    """(row, column that predicts, token, completion) of each token that counts."""
    columns = tree.columns
    for index, segment in enumerate(tree.segments):
        if segment.term is None:
            continue
        parent = segment.parent
        # a branch's first token is predicted by its parent's last, wherever that stands in the row
        predictors = [0 if parent is None else columns[parent + 1] - 1, *range(columns[index], columns[index + 1] - 1)]
        for column, token in zip(predictors, segment.tokens, strict=True):
            yield at, column, token, int(segment.term)


def _further(
    trees: Sequence[Tree], terms: Sequence[Term], scored: Tensor, places: list[list[int]]
) -> tuple[list[list[int]], dict[str, Tensor]]:
    """The places, with a completion of its own for each term that counts other tokens than an answer's; and what these count.

    `changed`: (scored token, completion) of tokens that count once more. `guessed`: (scored token, the same one after the spoilt
    picture, completion) where the token that counts is one that the model itself will name.
    """
    tokens_of: dict[int, list[int]] = defaultdict(list)
    for index, completion in enumerate(scored[:, 3].tolist()):
        tokens_of[completion].append(index)
    first, numbers = len(tokens_of), dict[Any, int]()
    rows, found = [list(row) for row in places], {"changed": list[list[int]](), "guessed": list[list[int]]()}
    for tree, row in zip(trees, rows, strict=True):
        for at, term in enumerate(terms):
            if term.tokens == "all":
                continue
            own = tokens_of[row[at]]
            entries: list[tuple[int, ...]]
            if term.tokens == "changed":
                entries = [(own[place],) for place in tree.completion(term.name).counted or ()]
            else:
                spoilt = row[terms.index(replace(term, picture="negative", tokens="all"))]
                entries = list(zip(own, tokens_of[spoilt], strict=True))
            key = (term.tokens, *entries)
            if key not in numbers:
                numbers[key] = first + len(numbers)
                found[term.tokens] += [[*entry, numbers[key]] for entry in entries]
            row[at] = numbers[key]
    return rows, {kind: torch.tensor(entries) for kind, entries in found.items() if entries}


def _ancestors(trees: Sequence[Tree]) -> Tensor:
    """(R, S, S): whether a token of the first segment may see one of the second."""
    size = max(len(tree.segments) for tree in trees)
    seen = torch.zeros(len(trees), size, size, dtype=torch.bool)
    for at, tree in enumerate(trees):
        for index in range(len(tree.segments)):
            seen[at, index, tree.path(index)] = True
    return seen


def _pictures(trees: Sequence[Tree], pictures: Pictures) -> dict[str, Any]:
    places = [name for tree in trees for segment in tree.segments for name in segment.pictures]
    if not places:
        return {}
    distinct = {name: index for index, name in enumerate(dict.fromkeys(places))}
    inputs = [pictures[name] for name in distinct]
    return {"names": list(distinct), "inputs": inputs, "pictures": torch.tensor([distinct[name] for name in places])}


def _axes(trees: Sequence[Tree], pictures: Pictures, width: int) -> dict[str, Tensor]:
    """Positions (3, R, T) on three axes, for families that count a picture's rows and columns."""
    names = {name for tree in trees for segment in tree.segments for name in segment.pictures}
    grids = {name: grid for name in names if (grid := pictures.grid(name)) is not None}
    if not grids:
        return {}
    rows = [on_three_axes(tree, grids, pictures.token) for tree in trees]
    return {"axes": torch.tensor([[axis + [0] * (width - len(axis)) for axis in row] for row in rows]).transpose(0, 1)}


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on the device; names stay."""
    return send_to_device(batch, device)


class TreeScorer(nn.Module):
    """A model (bare or under PEFT) as a module from packed trees to summed log-probabilities (B, K).

    Everything happens in `forward`, so that wrappers for many devices see each use of each parameter.
    """

    def __init__(self, network: nn.Module, features: Features | None = None) -> None:
        """`features` is for a vision tower that does not train: each picture then goes through it once in all."""
        super().__init__()
        self.network = network
        self.features = features
        self.family = family_of(network)

    @property
    def base(self) -> Any:
        """The Hugging Face model itself; adapters are inside its layers."""
        network: Any = self.network
        return network.get_base_model() if hasattr(network, "get_base_model") else network

    @cached_property
    def _recomputed(self) -> bool:
        """Whether layers are computed again in the backward pass, which is settled before the first forward."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.base.modules())

    def forward(self, batch: dict[str, Any]) -> Tensor:
        base = self.base
        made = base.model(
            input_ids=batch["tokens"],
            position_ids=batch.get("axes", batch["positions"]),
            mm_encoder_outputs=self._encoded(batch),
            use_cache=False,
            **self._sight(batch),
        )
        return self._sums(made.last_hidden_state, batch)

    def _sums(self, hidden: Tensor, batch: dict[str, Any]) -> Tensor:
        """(B, K) from the hidden states (R, T, H)."""
        scored, head = batch["scored"], self.base.lm_head
        if "guessed" in batch:
            scored = torch.cat([scored, _guessed(head, hidden, scored, batch["guessed"])])
        row, column, token, completion = scored.unbind(1)
        scores_N = token_logprobs(head, hidden[row, column], token)
        # one place more than there are completions: it stays 0, and -1, which is what a pair lacks, finds it
        sums_C = scores_N.new_zeros(int(batch["places"].max()) + 2).index_add(0, completion, scores_N)
        if "changed" in batch:
            again, completion = batch["changed"].unbind(1)
            sums_C = sums_C.index_add(0, completion, scores_N[again])
        return sums_C[batch["places"]]

    def _sight(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What says which tokens see which: chains for long rows, masks for short ones and where a window slides."""
        text = self.base.config.get_text_config()
        window = getattr(text, "sliding_window", None)
        slides = window is not None and int(batch["positions"].max()) >= window
        if attention.is_split(self.base) and batch["tokens"].shape[1] >= attention.SPLIT_FROM and not slides:
            return {"attention_mask": None, "chains": batch["chains"], "recomputed": self._recomputed}
        shown = batch["tokens"] == self.base.config.image_token_id if self.family.whole_pictures else None
        # only 4-D masks are taken as they are: a 2-D one, or none, reads restarting positions as other documents
        everything = tree_mask(batch["segments"], batch["positions"], batch["ancestors"], shown)[:, None]
        near = everything if window is None else everything & within(batch["positions"], window)[:, None]
        if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
            return {"attention_mask": {"full_attention": everything, "sliding_attention": near}}
        return {"attention_mask": near}

    def _encoded(self, batch: dict[str, Any]) -> dict[str, Any] | None:
        """Features of each distinct picture, made once, laid out in the order of the places that show them."""
        if "inputs" not in batch:
            return None
        model, dtype = self.base.model, self.base.dtype
        inputs = [
            {name: value.to(dtype) if value.is_floating_point() else value for name, value in one.items()}
            for one in batch["inputs"]
        ]
        made = encode(model, inputs) if self.features is None else self.features.of(model, self.family, batch["names"], inputs)
        pooled, *deeper = zip(*(made[index] for index in batch["pictures"].tolist()), strict=True)
        entering = torch.cat(pooled) if self.family.joined else pooled
        return {"image": SimpleNamespace(pooler_output=entering, deepstack_features=deeper)}


def as_logprobs(
    sums: Tensor, num_tokens: Tensor, terms: Sequence[Term], tokens_per_pair: Sequence[float] | None = None
) -> Logprobs:
    """(B, K) tensors by the terms' names; `tokens_per_pair` is each term's mean over the whole step."""
    names = [term.name for term in terms]
    return Logprobs(
        dict(zip(names, sums.unbind(1), strict=True)),
        dict(zip(names, num_tokens.unbind(1), strict=True)),
        None if tokens_per_pair is None else dict(zip(names, tokens_per_pair, strict=True)),
    )


def tree_mask(segments: Tensor, positions: Tensor, ancestors: Tensor, shown: Tensor | None = None) -> Tensor:
    """(R, T, T): which tokens (second axis) see which (third): those before them on their own path.

    `shown` (R, T) marks the tokens of pictures where those of one picture, which stand behind each other, all see each other.
    """
    real = segments >= 0
    at = segments.clamp(min=0)
    rows = torch.arange(len(segments), device=segments.device)[:, None, None]
    seen = ancestors[rows, at[:, :, None], at[:, None, :]] & (positions[:, None, :] <= positions[:, :, None])
    if shown is not None:
        starts = shown & ~nn.functional.pad(shown, (1, 0))[:, :-1]
        picture = starts.cumsum(1).masked_fill(~shown, -1)
        seen |= (picture[:, :, None] == picture[:, None, :]) & shown[:, :, None]
    seen &= real[:, :, None] & real[:, None, :]
    # padding sees itself: a row of the mask without a True makes NaN
    return seen | torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)


def within(positions: Tensor, window: int) -> Tensor:
    """(R, T, T): which tokens are less than a window behind, or ahead. Distance counts on the token's own path."""
    return (positions[:, :, None] - positions[:, None, :]) < window


def _guessed(head: Callable[[Tensor], Tensor], hidden: Tensor, scored: Tensor, guessed: Tensor) -> Tensor:
    """More of `scored`, (row, column, token, completion): the tokens likeliest after the spoilt picture, scored after the own."""
    own, spoilt, completion = guessed.unbind(1)
    row, column = scored[spoilt, :2].unbind(1)
    with torch.no_grad():
        size = _at_once(head, LOGITS_AT_ONCE)
        token = torch.cat([head(some).argmax(-1) for some in hidden[row, column].split(size)])
    return torch.stack([*scored[own, :2].unbind(1), token, completion], dim=1)


def token_logprobs(head: Callable[[Tensor], Tensor], hidden: Tensor, tokens: Tensor, at_once: int = LOGITS_AT_ONCE) -> Tensor:
    """(N,): log-probability of each token under the head's words, of hidden states (N, H)."""
    size = _at_once(head, at_once)
    if len(tokens) <= size:
        return _score(head, hidden, tokens)
    pieces = zip(hidden.split(size), tokens.split(size), strict=True)
    return torch.cat([checkpoint(_score, head, some, wanted, use_reentrant=False) for some, wanted in pieces])


def _at_once(head: Callable[[Tensor], Tensor], num_logits: int) -> int:
    """How many tokens have so many logits."""
    words = getattr(head, "out_features", None) or head.weight.shape[0]  # type: ignore[attr-defined]
    return max(1, num_logits // words)


def _score(head: Callable[[Tensor], Tensor], hidden: Tensor, tokens: Tensor) -> Tensor:
    logits = head(hidden)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1)
