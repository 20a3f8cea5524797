"""Where tokens stand for rotary embeddings of three axes (Qwen-VL's M-RoPE)."""

from __future__ import annotations

from itertools import groupby, product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.train.examples import Tree

Grid = tuple[int, int, int]
"""Frames, rows and columns of a picture's tokens."""


def on_three_axes(tree: Tree, grids: dict[str, Grid], picture_token: int) -> tuple[list[int], list[int], list[int]]:
    """Time, row and column of each token of the tree, in the order of its segments.

    Text counts all three up together. A picture's tokens share a time and spread over its rows and columns; what follows goes
    on after the longer side (Wang et al., 2024, Qwen2-VL, section 2.1). A branch goes on where its parent ends.
    """
    axes: tuple[list[int], list[int], list[int]] = ([], [], [])
    ends: list[int] = []
    for segment in tree.segments:
        at = 0 if segment.parent is None else ends[segment.parent]
        shown = iter(segment.pictures)
        for is_picture, run in groupby(segment.tokens, key=picture_token.__eq__):
            grid = grids[next(shown)] if is_picture else None
            places = [(at + step,) * 3 for step, _ in enumerate(run)] if grid is None else _places(at, grid)
            at += len(places) if grid is None else max(grid[1:])
            for axis, values in zip(axes, zip(*places, strict=True), strict=True):
                axis.extend(values)
        ends.append(at)
    return axes


def _places(at: int, grid: Grid) -> list[tuple[int, ...]]:
    return [(at + time, at + row, at + column) for time, row, column in product(*map(range, grid))]
