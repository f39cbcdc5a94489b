"""What an episode is: a stream of inputs, what answers are worth, and what resources cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log
from typing import Literal

import torch
from torch import Tensor

from penstock.backbones import InputError
from penstock.envs.arrivals import Arrivals
from penstock.envs.battery import Battery
from penstock.envs.budget import Budget
from penstock.envs.switching import Switching
from penstock.hardware import RESOURCES


@dataclass(frozen=True, slots=True)
class Stream:
    """The rules of an episode.

    The reward of a step is `worth - price * cost / full cost`: what an answer was worth, when one
    was given, minus what the decision cost at the price of the stream. The stem, which no decision
    changes, is not in it, but in the outcomes and budgets. The price is drawn per stream and stands
    in the observation, so one policy learns for every price; which price meets an average budget is
    found afterwards, on validation data.
    """

    inputs_per_episode: int = 1
    """Inputs that share an episode and, if there is one, a budget per stream."""
    resource: str = "energy_j"
    """What the price is on."""
    price: tuple[float, float] = (0.02, 1.0)
    """Lowest and highest price: the worth that the full network's cost amounts to."""
    price_observed: bool = True
    """Whether a policy sees the price; otherwise that column is 0, and the policy follows the price
    only as far as it learns from its rewards, as published Lagrangian methods have it."""
    worth: Literal["right", "likelihood"] = "right"
    """Of an answer: 1 if it is right, or the probability that it gives to the right class."""
    budgets: tuple[Budget, ...] = ()
    """Hard ones, kept by masks; at most one average one, of the priced resource, which the price
    has to meet (`penstock.agents.prices`)."""
    stages: tuple[int, ...] = ()
    """Blocks before which a decision is taken, 0 first; choices hold until the next, and heads on
    the way are left out. None: before every block."""
    arrivals: Arrivals | None = None
    """When inputs come; None: each as soon as it is wanted."""
    battery: Battery | None = None
    """What feeds the device; None: the mains."""
    switching: tuple[Switching, ...] = ()
    """Knobs that cost to turn."""
    history: int = 0
    """How many earlier inputs a policy sees of rules and machine, beside the present one."""
    choices: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Knob name -> choices offered; unnamed knobs offer all. One choice fixes a knob."""

    def __post_init__(self) -> None:
        if self.inputs_per_episode < 1:
            raise InputError(
                f"an episode has one input or more, got {self.inputs_per_episode}; raise it"
            )
        if self.history < 0:
            raise InputError(
                f"a history goes back over 0 or more inputs, got {self.history}; raise it"
            )
        if self.resource not in RESOURCES:
            raise InputError(
                f"the price is on one of {', '.join(RESOURCES)}, got {self.resource!r}; "
                "name one of them"
            )
        low, high = self.price
        if not 0 < low <= high < inf:
            raise InputError(
                f"the price goes from a positive low to a high, got {self.price}; "
                "for one price give it twice"
            )
        average = [budget for budget in self.budgets if budget.kind == "average"]
        if any(budget.resource != self.resource for budget in average) or len(average) > 1:
            raise InputError(
                "a stream has one average budget at most, of the resource that its price is on, "
                f"{self.resource}, got {', '.join(budget.resource for budget in average)}; "
                "make others hard"
            )
        if self.worth not in ("right", "likelihood"):
            raise InputError(f'an answer is worth "right" or "likelihood", got {self.worth!r}')

    def shown_price(self, prices: Tensor) -> Tensor:
        """Prices [k] as a policy sees them, from 0 to 1; 0 where they are not observed."""
        low, high = self.price
        shown = (prices / low).log() / max(log(high / low), 1e-9)
        return shown.clamp(0, 1) if self.price_observed else torch.zeros_like(shown)

    def value(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What answers are worth: logits [k, classes] and labels [k] -> [k] float64."""
        if self.worth == "right":
            return (logits.argmax(dim=1) == labels).double()
        return logits.double().softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
