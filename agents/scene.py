"""Everything that a policy is judged on: network, machine, images and rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from penstock.backbones import Backbone, Data, Images
from penstock.envs import Budget, Lanes, Stream
from penstock.hardware import Machine


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
        """An engine over a split; `learned` says whether decisions cost a policy's work."""
        return Lanes(
            self.backbone,
            self.machine,
            self.images(split),
            self.stream,
            lanes=lanes,
            controller=self.hidden if learned else None,
            joint=self.joint,
            seed=seed,
        )

    def under(self, budget: Budget) -> "Scene":
        """The same under a hard budget, beside those of the stream or in place of one like it.

        A policy sees what is left of it only if it saw that while it learned.
        """
        like = [
            b for b in self.stream.budgets if (b.resource, b.per) == (budget.resource, budget.per)
        ]
        others = tuple(b for b in self.stream.budgets if b not in like)
        budget = replace(budget, observed=any(b.observed for b in like))
        return replace(self, stream=replace(self.stream, budgets=(*others, budget)))

    def with_validation(self, images: Images) -> "Scene":
        """The same with other validation images."""
        return replace(self, data=replace(self.data, validation=images))
