"""The interface that every hardware model has."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from penstock.backbones import Backbone, Block, Knob, Setting
from penstock.hardware.cost import Cost, Job
from penstock.hardware.fields import check_fields

State = Mapping[str, Tensor]
"""What the machine is like now, per lane: {"log10_bps": [n]}. Keys never change."""

Condition = Mapping[str, float]
"""Something of a state, the same for all lanes: {"warmth": 0.0}."""


class Machine(ABC):
    """Runs blocks and says what that cost.

    Implementations are final frozen dataclasses. One that changes another a little wraps it: it
    alters the job on the way in, or output, cost and state on the way out.
    """

    def __post_init__(self) -> None:
        """Refuse fields of another type than is declared; called by those that check more."""
        if is_dataclass(self):
            check_fields(self)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What can be turned on the machine itself, for each job; wrappers add to the inner's."""
        return ()

    @abstractmethod
    def reset(self, n: int, rng: torch.Generator) -> State:
        """Draw the conditions of n lanes that start a stream; empty if there are none."""

    @abstractmethod
    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run a job for all of its lanes at once.

        Args:
            job: x is [n, C, H, W].
            state: of these n lanes.
            rng: the only source of randomness.

        Returns:
            The output [n, ...], what it cost, and the next state of the lanes.
        """

    @abstractmethod
    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """The most that running this block could cost one lane, in numbers, before it runs.

        Hard budgets rest on it: `run` never costs more. A machine whose cost varies answers with
        its worst case.
        """

    def later(self, state: State, seconds: Tensor) -> State:
        """The state of n lanes after so many seconds [n] in which nothing runs.

        By default what the machine wraps, and has the same state, answers.
        """
        for inner in wrapped(self):
            state = inner.later(state, seconds)
        return state

    def next_input(self, state: State) -> State:
        """The state of n lanes as their next inputs begin, before the stem of each is run.

        What results and costs of a machine that drifts hang on is settled here, and holds for the
        whole input. `run` does the same itself at a stem. By default nothing happens.
        """
        return state

    def bill(self, cost: Cost, state: State) -> tuple[Cost, State]:
        """What work costs now that was recorded under `conditions`, and the next state.

        `run` bills likewise. Parts of a cost add up to the bill of the whole, and lanes that
        spend nothing stay as they are. By default work costs the same whatever the state.

        Args:
            cost: of n lanes, as recorded.
            state: of these lanes.
        """
        return cost, state

    def conditions(self) -> Sequence[Condition]:
        """The states under which every input is recorded, each with the same names.

        One that drifts names of its state what results or recorded costs hang on, and answers for
        what it wraps. Where it has several, results differ between them. By default nothing drifts.
        """
        return ({},)

    def condition(self, state: State) -> Tensor:
        """Which of `conditions` lanes meet, [n] int64, from one `next_input` to the next."""
        n = len(next(iter(state.values())))
        return torch.zeros(n, dtype=torch.int64)

    @property
    def bounded_by(self) -> str:
        """What its prices rest on beside the work, in words; empty if on nothing.

        What a machine wraps answers for itself.
        """
        return ""

    def held(self, setting: Mapping[str, float]) -> dict[str, float]:
        """What of a setting of numbers still holds behind the first block of a decision.

        A knob that does something once, as handing over does, goes back to full. By default what
        the machine wraps answers.
        """
        for inner in wrapped(self):
            setting = inner.held(setting)
        return dict(setting)

    @property
    def bound(self) -> bool:
        """Whether it knows one network only: its layers, times or weights.

        What a machine wraps answers for itself; `is_bound` asks all.
        """
        return False

    def fits(self, backbone: Backbone) -> None:  # noqa: B027  # most fit every network
        """Refuse a network that it was not made for, where it is bound.

        What a machine wraps answers for itself; `check_network` asks all.

        Raises:
            InputError: if it was made for another.
        """

    def ideal(self) -> "Machine":
        """The machine without its faults, which gives exactly what the block gives by itself.

        One that changes no result is its own ideal; a wrapper wraps the ideal of what it wraps.
        """
        return self


def wrapped(machine: Machine) -> Iterator[Machine]:
    """The machines that one holds, not those inside of them."""
    if is_dataclass(machine):
        for field in fields(machine):
            value = getattr(machine, field.name)
            for each in value if isinstance(value, list | tuple) else (value,):
                if isinstance(each, Machine):
                    yield each


def under(state: State, condition: Condition, prefix: str = "") -> State:
    """A state of n lanes, of which a condition says something.

    Args:
        state: of one machine.
        condition: names that do not begin with the prefix are others' business.
        prefix: before the names of that machine.
    """
    own = {k.removeprefix(prefix): v for k, v in condition.items() if k.startswith(prefix)}
    return {**state, **{name: torch.full_like(state[name], value) for name, value in own.items()}}
