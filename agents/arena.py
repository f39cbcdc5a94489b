"""Everything that a policy learns and is judged on where outcomes were recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor

from penstock.agents.play import check_length
from penstock.agents.recordings import PARTS, open_recordings
from penstock.envs import Budget, Lanes, Recording, Stream
from penstock.hardware import Machine

LEARN_SHARE: Final = 0.8
"""Of validation inputs, where a policy learns on some of them and its prices are chosen on the
others."""

Part = Literal["learn", "choose", "judge"]
"""What inputs are for."""


@dataclass(frozen=True, slots=True)
class Arena:
    """Recorded inputs to learn on, to choose on and to judge on, and the rules of a stream."""

    learn: Recording
    choose: Recording
    judge: Recording
    stream: Stream
    hidden: Sequence[int] = (64, 64)
    """Hidden layers of a learned policy, whose work is paid for."""
    joint: bool = False
    """Whether it has an output for every combination of choices, as DQN's has."""
    memory: int = 0
    """Units of its LSTM, 0 without one."""

    def recording(self, part: Part) -> Recording:
        """The inputs for a purpose."""
        return {"learn": self.learn, "choose": self.choose, "judge": self.judge}[part]

    def lanes(self, part: Part, *, learned: bool, lanes: int, seed: int = 0) -> Lanes:
        """An engine; `learned` says whether decisions cost a policy's work.

        Raises:
            InputError: whatever an engine refuses, or if a stream has more inputs than there are.
        """
        recording = self.recording(part)
        check_length(recording.inputs, self.stream.inputs_per_episode)
        return Lanes(
            recording,
            self.stream,
            lanes=lanes,
            controller=self.hidden if learned else None,
            memory=self.memory,
            joint=self.joint,
            seed=seed,
        )

    def streams(self, part: Part, count: int, seed: int) -> Tensor:
        """Numbers of inputs of streams, [count, L], none twice in one."""
        rng = torch.Generator().manual_seed(seed)
        inputs, length = self.recording(part).inputs, self.stream.inputs_per_episode
        check_length(inputs, length)
        drawn = [torch.randperm(inputs, generator=rng)[:length] for _ in range(count)]
        return torch.stack(drawn)

    def under(self, least: float, most: float) -> "Arena":
        """The same where streams have an average budget between two, for an input, in its unit.

        In place of the stream's own, which a policy goes on seeing if it learned with it.
        """
        average = [budget for budget in self.stream.budgets if budget.kind == "average"]
        unseen = Budget(self.stream.resource, least, most=most, observed=False)
        fresh = [replace(b, limit=least, most=most, relative=False) for b in average] or [unseen]
        hard = tuple(budget for budget in self.stream.budgets if budget.kind == "hard")
        return replace(self, stream=replace(self.stream, budgets=(*hard, *fresh)))


def open_arena(
    folder: Path | str,
    stream: Stream,
    learn_on: Literal["train", "validation"],
    machine: Machine | None = None,
) -> Arena:
    """What `penstock record` left in a folder, as an arena.

    Args:
        folder: that it wrote.
        stream: the rules.
        learn_on: "train", and prices are chosen on validation inputs; or "validation", of which
            one part is learned on and prices are chosen on the rest, where the network knows its
            training images by heart.
        machine: as for `open_recordings`.

    Raises:
        InputError: if a split is missing, or whatever `open_recordings` refuses.
    """
    wanted = PARTS[1:] if learn_on == "validation" else PARTS
    found = open_recordings(folder, machine, wanted)
    learn, choose = found.at(learn_on), found.validation
    if learn_on == "validation":
        order = torch.randperm(choose.inputs, generator=torch.Generator().manual_seed(0))
        cut = round(LEARN_SHARE * choose.inputs)
        learn, choose = choose.take(order[:cut]), choose.take(order[cut:])
    return Arena(learn, choose, found.test, stream)
