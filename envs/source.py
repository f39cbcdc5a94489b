"""What lanes run: a network on a machine, for real, or what was recorded of one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from penstock.backbones import Block, Knob, every_setting
from penstock.envs.activations import Rows
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

    def idle(self, block: Block, machine: Machine) -> dict[str, float]:
        """Knobs that neither a block nor the machine has, at full: as which they are priced."""
        names = {knob.name for knob in (*block.knobs, *machine.knobs)}
        return {knob.name: knob.full for knob in self.knobs if knob.name not in names}


class Runner(ABC):
    """Carries the inputs of N lanes from stage to stage, and shows how far they came.

    It fills the columns of the observation that come from the network, and says what was spent.
    Letters: `N` lanes, `k` some of them, `R` resources. A mask is [N] bool.
    """

    @abstractmethod
    def begin(self, rows: Tensor, rng: torch.Generator) -> None:
        """Draw the machine's conditions for lanes [k] that start a stream."""

    @abstractmethod
    def present(self, mask: Tensor, inputs: Tensor, rng: torch.Generator) -> Tensor:
        """Put inputs on the lanes of a mask and run the stem: what it cost, [R, N].

        Columns of other lanes mean nothing. `inputs` [N] says of them, too, what they carry.
        """

    @abstractmethod
    def run(self, mask: Tensor, stage: Tensor, combination: Tensor, rng: torch.Generator) -> Tensor:
        """Run the lanes of a mask through their stage: what that cost, [R, N], 0 for the others.

        Args:
            mask: which lanes.
            stage: [N].
            combination: of choices, [N].
            rng: of the machine.
        """

    @abstractmethod
    def answers(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Of what lanes said last of inputs [N]: whether it is right, [N] bool, and its worth, [N].

        Rows of lanes that have not said anything mean nothing.
        """

    @abstractmethod
    def wait(self, seconds: Tensor) -> None:
        """Let time [N] pass while nothing runs."""

    @abstractmethod
    def lost(self) -> Tensor | None:
        """Transfers that streams have lost, [N]; None, always, of a machine that counts none."""

    @abstractmethod
    def observe(self, rows: Rows, seen: Tensor) -> list[Tensor]:
        """Fill in what is seen of network and block, [n, f]; give the machine's numbers, [n] each.

        Args:
            rows: n lanes.
            seen: to be filled; where its rows begin is not where the row before ends.
        """


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
    def runner(self, outline: Outline, stream: Stream, lanes: int, layout: Observation) -> Runner:
        """Who carries N lanes, and fills their observation."""
