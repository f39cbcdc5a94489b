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
            seed=seed,
        )

    def under(self, budget: Budget) -> "Scene":
        """The same with one budget in place of those of the stream."""
        return replace(self, stream=replace(self.stream, budgets=(budget,)))

    def with_validation(self, images: Images) -> "Scene":
        """The same with other validation images."""
        return replace(self, data=replace(self.data, validation=images))
