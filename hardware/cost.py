"""What was spent on a lane, and what a machine is asked to run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from penstock.backbones import Block, Perform, Product, Setting, exact

RESOURCES: Final = ("energy_j", "latency_s", "macs", "sent_bytes")
"""What can be spent, and so budgeted."""

UNITS: Final = {"energy_j": "J", "latency_s": "s", "macs": "MACs", "sent_bytes": "B"}
"""Of each resource."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent, per lane: numbers where all lanes of a group spent the same, else [n].

    >>> (Cost(energy_j=1.0) + Cost(energy_j=2.0, macs=5)).energy_j
    3.0
    """

    energy_j: Tensor | float = 0.0
    latency_s: Tensor | float = 0.0
    macs: Tensor | float = 0.0
    sent_bytes: Tensor | float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """The sum, resource by resource."""
        return Cost(
            self.energy_j + other.energy_j,
            self.latency_s + other.latency_s,
            self.macs + other.macs,
            self.sent_bytes + other.sent_bytes,
        )

    def rows(self) -> Tensor:
        """All resources side by side in float64, in the order of `RESOURCES`: [n, R], or [R]."""
        if not any(isinstance(amount, Tensor) for amount in self.each().values()):
            return torch.tensor(list(self.each().values()), dtype=torch.float64)
        amounts = [torch.as_tensor(a, dtype=torch.float64) for a in self.each().values()]
        whole = sum(amounts[1:], start=amounts[0])
        return torch.stack([amount.expand_as(whole) for amount in amounts], dim=-1)

    def each(self) -> dict[str, Tensor | float]:
        """Resource name -> amount, in the order of `RESOURCES`."""
        return {name: getattr(self, name) for name in RESOURCES}


Fetch = Callable[[Product], Product]
"""Hands the numbers of a product over from where they lie."""


def as_stored(product: Product) -> Product:
    """From a memory without faults."""
    return product


@dataclass(frozen=True, slots=True)
class Job:
    """Run this block on these lanes with this setting, its matrix products perhaps disturbed."""

    block: Block
    x: Tensor  # [n, C, H, W]
    setting: Setting
    """Knobs of the block and of the machine."""
    perform: Perform = exact
    """Who performs the matrix products of the block; a machine with faults puts itself in front."""
    fetch: Fetch = as_stored
    """Who hands over their numbers, before anyone performs them: the stage of memories that err."""

    @property
    def by(self) -> Perform:
        """Who fetches and performs a product: what the innermost machine runs the block by."""
        if self.perform is exact and self.fetch is as_stored:
            return exact  # which `run_block` knows: nothing stands between products and torch
        return self._product

    def _product(self, product: Product) -> Tensor:
        return self.perform(self.fetch(product))
