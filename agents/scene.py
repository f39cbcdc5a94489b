"""Everything that a policy is judged on: network, machine, images and rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from penstock.agents.play import check_length
from penstock.backbones import Backbone, Data, Images
from penstock.envs import Budget, Lanes, Live, Stream
from penstock.hardware import Machine
from penstock.hardware.parts import at_part


@dataclass(frozen=True, slots=True)
class Scene:
    """A network on a machine, with the images it meets and the rules of a stream."""

    backbone: Backbone
    machine: Machine
    data: Data
    stream: Stream
    hidden: Sequence[int] = (64, 64)
    """Hidden layers of a learned policy, whose work is paid for."""
    joint: bool = False
    """Whether it has an output for every combination of choices, as DQN's has."""
    memory: int = 0
    """Units of its LSTM, 0 without one."""

    def images(self, split: str) -> Images:
        """The images of a split: "train", "validation" or "test"."""
        splits = {
            "train": self.data.train,
            "validation": self.data.validation,
            "test": self.data.test,
        }
        return splits[split]

    def lanes(
        self,
        split: Literal["train", "validation", "test"],
        *,
        learned: bool,
        lanes: int = 500,
        seed: int = 0,
    ) -> Lanes:
        """An engine over a split, of images and of traces of links.

        `learned` says whether decisions cost a policy's work.
        """
        return Lanes(
            Live(self.backbone, at_part(self.machine, split), self.images(split)),
            self.stream,
            lanes=lanes,
            controller=self.hidden if learned else None,
            memory=self.memory,
            joint=self.joint,
            seed=seed,
        )

    def check(self, budget: Budget, *, learned: bool) -> None:
        """Find out whether a policy, or the baselines alone, can be judged at a budget.

        Raises:
            InputError: if the budget is below the cheapest way to an answer, a stream is longer
                than there are images, or whatever else an engine refuses.
        """
        scene = self.under(budget) if budget.kind == "hard" else self
        length = self.stream.inputs_per_episode
        for split in ("validation", "test"):
            check_length(len(self.images(split)), length)
        lanes = scene.lanes("test", learned=learned, lanes=1)
        lanes.prices.limit(budget, length)

    def under(self, budget: Budget) -> "Scene":
        """The same under a hard budget, beside those of the stream or in place of one like it.

        A policy sees what is left of it only if it saw that while it learned.
        """

        def like(other: Budget) -> bool:
            return (other.resource, other.per) == (budget.resource, budget.per)

        # In its place: a policy that sees what is left of several knows them by their order.
        budgets = [
            replace(budget, observed=b.observed) if like(b) else b for b in self.stream.budgets
        ]
        if not any(like(b) for b in self.stream.budgets):
            budgets.append(replace(budget, observed=False))
        return replace(self, stream=replace(self.stream, budgets=tuple(budgets)))

    def with_validation(self, images: Images) -> "Scene":
        """The same with other validation images."""
        return replace(self, data=replace(self.data, validation=images))
