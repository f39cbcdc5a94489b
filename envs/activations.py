"""Where the activations of all lanes stand between two blocks."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

Rows = Tensor | slice
"""Which lanes: indices, or a slice of everything, for which nothing needs to be copied."""


def rows_or_all(rows: Tensor, n: int) -> Rows:
    """Indices [k] of lanes, as a slice if they are all n lanes in order.

    >>> rows_or_all(torch.tensor([0, 1]), 2)
    slice(None, None, None)
    """
    everyone = len(rows) == n and bool((rows == torch.arange(n)).all())
    return slice(None) if everyone else rows


def together(groups: Sequence[Rows]) -> Rows:
    """The lanes of one or more groups; a slice of everything stands alone.

    >>> together([torch.tensor([4, 1]), torch.tensor([2])])
    tensor([4, 1, 2])
    """
    if len(groups) == 1:
        return groups[0]
    return torch.cat([rows for rows in groups if isinstance(rows, Tensor)])


@final
class Activations:
    """One row a lane for every shape that activations have on their way through the network.

    Lanes at different depths share the tensor of one shape, each using its own row. What all lanes
    put together is kept by reference; it is copied before a single row of it is written, since it
    may belong to someone else: a machine that remembers it, or a constant that was expanded.
    """

    def __init__(self, lanes: int, device: torch.device) -> None:
        self._lanes, self._device = lanes, device
        self._rows: dict[tuple[int, ...], Tensor] = {}
        self._borrowed: set[tuple[int, ...]] = set()

    def take(self, shape: tuple[int, ...], rows: Rows) -> Tensor:
        """The activations [n, C, H, W] of some lanes, of shape (C, H, W)."""
        everyone = self._rows[shape]
        if isinstance(rows, slice):
            return everyone
        # With channels last in memory a lane is one stretch, and copied as such.
        rows = rows.to(everyone.device)
        return everyone.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)

    def put(self, shape: tuple[int, ...], rows: Rows, x: Tensor) -> None:
        """Let some lanes stand at x, [n, C, H, W]."""
        if isinstance(rows, slice):
            self._rows[shape] = x
            self._borrowed.add(shape)
            return
        if shape not in self._rows:
            empty = torch.empty(self._lanes, *shape, device=self._device)
            self._rows[shape] = empty.contiguous(memory_format=torch.channels_last)
        elif shape in self._borrowed:
            self._rows[shape] = self._rows[shape].clone()
            self._borrowed.remove(shape)
        self._rows[shape][rows] = x
