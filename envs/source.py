"""What lanes run: a network on a machine, for real, or what was recorded of one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from penstock.backbones import Knob, every_setting
from penstock.envs.observation import Observation
from penstock.envs.price_table import PriceTable
from penstock.envs.stream import Stream
from penstock.hardware import Machine


@dataclass(frozen=True, slots=True)
class Outline:
    """What can be decided, and what it costs at most."""

    knobs: tuple[Knob, ...]
    """The action's knobs after `exit`, with the choices offered."""
    fixed: Mapping[str, float]
    """Settings that are not the policy's to choose."""
    first: tuple[int, ...]
    """The first block of each stage."""
    table: PriceTable
    states: tuple[str, ...]
    """The machine's state as far as it is one number a lane, which is observed."""

    def settings(self) -> list[dict[str, float]]:
        """Every combination of choices, the full one last."""
        return [{**self.fixed, **setting} for setting in every_setting(self.knobs)]


class Runner(ABC):
    """Carries the inputs of N lanes from stage to stage, and shows how far they came.

    It fills the columns of the observation that come from the network, and books costs.
    Letters: `N` lanes, `k` some of them, `R` resources.
    """

    @abstractmethod
    def begin(self, rows: Tensor, rng: torch.Generator) -> None:
        """Draw the machine's conditions for lanes [k] that start a stream."""

    @abstractmethod
    def present(self, rows: Tensor, inputs: Tensor, rng: torch.Generator) -> Tensor:
        """Put inputs [k] on lanes [k] and run the stem: what it cost, [k, R]."""

    @abstractmethod
    def run(
        self, running: Tensor, stage: Tensor, combination: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Run lanes through their stage: what that cost, [N, R], 0 for the others.

        Args:
            running: which lanes, [N] bool.
            stage: [N].
            combination: of choices, [N].
            rng: of the machine.
        """

    @abstractmethod
    def answers(self, rows: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Whether what lanes [k] said last of their inputs is right, bool, and its worth, [k]."""

    @abstractmethod
    def wait(self, rows: Tensor, seconds: Tensor) -> None:
        """Let time pass on lanes [k] while nothing runs."""

    @abstractmethod
    def lost(self, rows: Tensor) -> Tensor:
        """Transfers that the streams on lanes [k] have lost; 0 of a machine that counts none."""

    @abstractmethod
    def observe(self, observation: Tensor) -> None:
        """Fill the columns of the machine's state, [N, F]."""


class Source(ABC):
    """Inputs under a network and a machine; one engine draws from it."""

    @property
    @abstractmethod
    def machine(self) -> Machine:
        """What prices decisions, and whose conditions streams meet."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """How many inputs there are."""

    @abstractmethod
    def outline(self, stream: Stream) -> Outline:
        """What can be decided under the rules of a stream.

        Raises:
            InputError: if the rules ask for what there is not.
        """

    @abstractmethod
    def runner(
        self, outline: Outline, stream: Stream, observation: Tensor, layout: Observation
    ) -> Runner:
        """Who carries N lanes, and fills their observation [N, F] in place."""
