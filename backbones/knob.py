"""What a policy may turn, and what it was turned to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor

Setting = Mapping[str, float | Tensor]
"""Knob name -> choice; an unnamed knob stands at full. A number skips work, a tensor [n] masks."""

FULL: Setting = {}
"""Every knob at its last choice: the full network."""


@dataclass(frozen=True, slots=True)
class Knob:
    """Something that can be turned at run time, with the choices it has.

    >>> Knob("width", (0.25, 0.5, 0.75, 1.0)).full
    1.0
    """

    name: str
    choices: tuple[float, ...]
    """Cheapest first; the last is the full network."""

    def __post_init__(self) -> None:
        if not self.choices or len(set(self.choices)) != len(self.choices):
            raise ValueError(
                f"knob {self.name!r} needs one or more different choices, got {self.choices}"
            )

    @property
    def full(self) -> float:
        """The choice that changes nothing."""
        return self.choices[-1]

    def index(self, choice: float) -> int:
        """Where a choice stands among the choices.

        Raises:
            ValueError: if it is none of them.
        """
        if choice not in self.choices:
            raise ValueError(f"knob {self.name!r} can stand at {self.choices}, got {choice}")
        return self.choices.index(choice)


RUN = Knob("run", (0, 1))
"""Skip the block (its identity path remains) or run it."""

WIDTH = Knob("width", (0.25, 0.5, 0.75, 1.0))
"""Share of the hidden channels that is computed, counted from the first."""

BITS = Knob("bits", (4, 8, 32))
"""Bits of the weights and activations of a block; 32 is float32, exact."""

EXIT = Knob("exit", (1, 0))
"""Answer with the head that was just run, or go on."""


def every_setting(knobs: Sequence[Knob]) -> Iterator[dict[str, float]]:
    """Every combination of choices, the last knob turning fastest, the full one last."""
    for choices in product(*(knob.choices for knob in knobs)):
        yield dict(zip((knob.name for knob in knobs), choices, strict=True))


def chosen(knob: Knob, setting: Setting) -> float:
    """Where a knob stands for all lanes of a job; one with a single choice stands at that.

    Values between the choices are allowed: a fit may move a knob little by little.

    Raises:
        ValueError: if it is masked.

    >>> chosen(Knob("votes", (1, 3)), {"votes": 1}), chosen(Knob("votes", (3,)), {"votes": 1})
    (1, 3)
    """
    value = setting.get(knob.name, knob.full) if len(knob.choices) > 1 else knob.full
    if isinstance(value, Tensor):
        raise ValueError(f"{knob.name} is one number for all lanes of a job, got a mask")
    return value


def numbers(setting: Setting) -> dict[str, float]:
    """A setting without its masks, which leave no work out: their knobs stand at full.

    >>> import torch
    >>> numbers({"width": 0.5, "run": torch.ones(2)})
    {'width': 0.5}
    """
    return {name: value for name, value in setting.items() if not isinstance(value, Tensor)}
