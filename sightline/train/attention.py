"""Attention over packed prefix trees without a mask of tokens by tokens (a torch file).

A tree's tokens stand in chains: runs of columns in which each token sees those before it, and all of the columns on the way from
the root that the run continues. So a chain is one causal attention, over its own tokens and a prefix.
Axes: B trees, H heads, T packed tokens, D numbers a head, C chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from sightline.train.examples import Tree

NAME = "sightline_tree"
SPLIT_FROM = 384
"""Packed tokens from which on chains are faster than one masked call; below, the calls' number costs more than the mask."""


def split(network: Any) -> None:
    """Let the model's language part attend by chains where it is given some.

    No mask function is registered for this attention, so a model that is prepared like this masks no padding of ordinary rows:
    it is for trees only.
    """
    AttentionInterface.register(NAME, tree_attention)
    network.config.get_text_config()._attn_implementation = NAME


def is_split(network: Any) -> bool:
    """Whether `split` has prepared this model."""
    return network.config.get_text_config()._attn_implementation == NAME


def chains(row: int, tree: Tree) -> Iterator[tuple[int, int, int, int, int]]:
    """(row, first column, column past the last, the chain it branches from or -1, the column where it branches).

    A chain goes on through children that stand right after their parents. Chains are numbered in the order of their columns,
    within the row.
    """
    columns = tree.columns
    chain_of: list[int] = []
    starts: list[int] = []  # the first segment of each chain
    for index, segment in enumerate(tree.segments):
        if index == 0 or segment.parent != index - 1:
            starts.append(index)
        chain_of.append(len(starts) - 1)
    for at, first in enumerate(starts):
        end = starts[at + 1] if at + 1 < len(starts) else len(tree.segments)
        parent = tree.segments[first].parent
        origin = (-1, 0) if parent is None else (chain_of[parent], columns[parent + 1])
        yield (row, columns[first], columns[end], *origin)


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    chains: Tensor | None = None,
    recomputed: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention in transformers' form: (B, H, T, D) in, (B, T, H, D) out. Without chains it is the library's own.

    `recomputed` says that the layers forget what they computed, and will do it again for gradients.
    """
    if chains is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    groups = getattr(module, "num_key_value_groups", 1)
    tensors = zip(query.unbind(), repeat_kv(key, groups).unbind(), repeat_kv(value, groups).unbind(), strict=True)
    rows = [_row(*some, found, scaling, recomputed) for some, found in zip(tensors, _by_row(chains, len(query)), strict=True)]
    return torch.stack(rows), None


Chain = tuple[int, int, int, int]


def _by_row(chains: Tensor, num_rows: int) -> list[list[Chain]]:
    found: list[list[Chain]] = [[] for _ in range(num_rows)]
    for row, start, end, origin, cut in chains.tolist():
        found[row].append((start, end, origin, cut))
    return found


def _row(query: Tensor, key: Tensor, value: Tensor, chains: list[Chain], scaling: float | None, recomputed: bool) -> Tensor:
    """(T, H, D) of one tree, from (H, T, D); columns after its last token stay zero."""
    queries, keys, values = (_Columns(tensor, chains) for tensor in (query, key, value))
    made = []
    for start, end, origin, cut in chains:
        seen = [*_prefix(chains, origin, cut), (start, end)]
        q, k, v = queries[[(start, end)]][None], keys[seen][None], values[seen][None]
        # a token sees the prefix, and its own chain up to itself; on a GPU this is flash attention without a mask
        bias = causal_lower_right(end - start, k.shape[2])
        with nullcontext() if recomputed else _not_kept({k: partial(keys.again, seen), v: partial(values.again, seen)}):
            attended = scaled_dot_product_attention(q, k, v, bias, scale=scaling)
        made.append(attended[0].transpose(0, 1))
    if rest := query.shape[1] - chains[-1][1]:
        made.append(query.new_zeros(rest, query.shape[0], value.shape[-1]))
    return torch.cat(made)


@contextmanager
def _not_kept(made: dict[Tensor, Callable[[], Tensor]]) -> Iterator[None]:
    """Have gradients make these tensors again instead of keeping them: a prefix would be kept once more for each branch."""
    again = {tensor.data_ptr(): make for tensor, make in made.items()}

    def pack(tensor: Tensor) -> Any:
        return again.get(tensor.data_ptr(), tensor)

    with saved_tensors_hooks(pack, lambda kept: kept if isinstance(kept, Tensor) else kept()):
        yield


class _Columns:
    """Runs of a tensor's columns (H, T, D). Cut once, so that the gradient is put together once and not a run at a time."""

    def __init__(self, tensor: Tensor, chains: list[Chain]) -> None:
        self.bounds = sorted({0, tensor.shape[1], *(at for start, end, _, cut in chains for at in (start, end, cut))})
        self.pieces = tensor.split([b - a for a, b in pairwise(self.bounds)], dim=1)

    def again(self, runs: list[tuple[int, int]]) -> Tensor:
        """What attention saw of these runs."""
        return self[runs][None].detach()

    def __getitem__(self, runs: list[tuple[int, int]]) -> Tensor:
        """The columns of these runs, behind each other."""
        found = [piece for a, b in runs for piece in self.pieces[self.bounds.index(a) : self.bounds.index(b)]]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def _prefix(chains: list[Chain], origin: int, cut: int) -> list[tuple[int, int]]:
    """Columns from the root to where a chain branches off."""
    if origin < 0:
        return []
    start, _, earlier, earlier_cut = chains[origin]
    return [*_prefix(chains, earlier, earlier_cut), (start, cut)]
