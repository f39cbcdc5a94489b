"""The unit of decision: a piece of a network that a policy can turn down."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from penstock.backbones.knob import Knob, Setting

STEM: Final = "stem"
"""Name of the block where a new input begins."""

POLICY: Final = "policy"
"""Name of the network that decides, as machines meet it."""


class Block(nn.Module, ABC):
    """A layer or group of layers with knobs; subclasses are final and write `compute`.

    Letters: `n` lanes, `C, H, W` channels, height and width.
    """

    knobs: tuple[Knob, ...] = ()
    """What can be turned here; none for a stem or a head that has no choice."""
    name: str = "block"
    """Where it stands in its network: "stem", "blocks.3" or "exits.3"."""

    @abstractmethod
    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        """Do the work that is left under a setting of numbers: [n, C, H, W] -> [n, C', H', W']."""

    def forward(self, x: Tensor, setting: Setting) -> Tensor:
        """Run under a setting: a number leaves work out, a tensor [n] masks with gradients.

        A tensor holds one value a lane. Between two choices the outputs are mixed linearly, so that
        a value that is a choice gives exactly that choice's output, and the gradient with respect
        to the value is the difference between the neighbouring choices. Everything is computed.
        """
        for name, value in setting.items():
            if isinstance(value, Tensor):
                return self._mix(x, setting, name, value)
        return self.compute(x, setting)  # type: ignore[arg-type]

    def _mix(self, x: Tensor, setting: Setting, name: str, value: Tensor) -> Tensor:
        knob = next((knob for knob in self.knobs if knob.name == name), None)
        if knob is None:
            known = ", ".join(knob.name for knob in self.knobs) or "none"
            raise ValueError(f"this block's knobs are {known}; a mask for {name!r} cannot be used")
        order = sorted(knob.choices)
        each = [self(x, {**setting, name: choice}) for choice in order]
        value, grid = value.to(each[0]), each[0].new_tensor(order)
        below = torch.bucketize(value.detach(), grid, right=True) - 1
        below = below.clamp(0, max(len(grid) - 2, 0))
        above = (below + 1).clamp(max=len(grid) - 1)
        gap = (grid[above] - grid[below]).clamp(min=torch.finfo(value.dtype).tiny)
        share = ((value - grid[below]) / gap).clamp(0, 1)
        share = share.view(-1, *[1] * (each[0].dim() - 1))
        if len(each) == 2:
            return torch.lerp(each[0], each[1], share)
        outputs, lane = torch.stack(each), torch.arange(len(x), device=x.device)
        # Selected, not multiplied by 0, so that a choice is met exactly.
        return torch.lerp(outputs[below, lane], outputs[above, lane], share)
