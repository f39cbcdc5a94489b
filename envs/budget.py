"""What an input or a stream may spend at most."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Final, Literal

from penstock.backbones import InputError
from penstock.hardware import RESOURCES, Cost

SLACK: Final = 1e-9
"""Relative room for rounding when a budget is compared."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one resource."""

    resource: str
    """One of "energy_j", "latency_s", "macs", "sent_bytes"."""
    limit: float
    """In the unit of the resource; if `relative`, a share of what one input costs at full."""
    relative: bool = False
    """Whether the limit is a share."""
    kind: Literal["hard", "average"] = "average"
    """Hard: no input (or stream) ever exceeds it. Average: the mean over inputs meets it."""
    per: Literal["input", "stream"] = "input"
    """What a hard limit is for."""
    most: float | None = None
    """Each stream draws its limit from `limit` to this, evenly on a logarithmic scale; None: all
    have the same."""
    observed: bool = True
    """Whether a policy sees what is left of a hard limit; one that learned without it must not."""

    def __post_init__(self) -> None:
        if self.resource not in RESOURCES:
            raise InputError(
                f"a budget is on one of {', '.join(RESOURCES)}, got {self.resource!r}; "
                "name one of them"
            )
        if not (self.limit > 0 and isfinite(self.limit)):
            raise InputError(
                f"a budget is a positive, finite number, got {self.limit}; "
                "leave the budget out for no limit"
            )
        if self.most is not None and not self.limit <= self.most < inf:
            raise InputError(
                "the limit of a budget is drawn from `limit` to `most`, which is no less, "
                f"got {self.limit:g} and {self.most:g}; correct them"
            )
        if self.kind not in ("hard", "average") or self.per not in ("input", "stream"):
            raise InputError(
                'a budget\'s kind is "hard" or "average" and it is per "input" or "stream", '
                f"got {self.kind!r} per {self.per!r}; use one of these"
            )
        if self.kind == "average" and self.per == "stream":
            raise InputError(
                "an average budget is on the mean over inputs, got one per stream; "
                'make it per = "input", or kind = "hard"'
            )

    @property
    def drawn(self) -> bool:
        """Whether streams have limits of their own."""
        return self.most is not None

    @property
    def whole(self) -> bool:
        """Whether a stream has one account for all of its inputs."""
        return self.per == "stream" or self.kind == "average"

    def absolute(self, full: Cost) -> float:
        """The limit in the unit of the resource, given what the full network costs an input.

        Raises:
            InputError: if it is a share of nothing.
        """
        if not self.relative:
            return self.limit
        whole = float(full.each()[self.resource])
        if whole == 0:
            raise InputError(
                f"the full network costs no {self.resource}, so a budget cannot be a share of it; "
                "give the limit in its unit"
            )
        return self.limit * whole
