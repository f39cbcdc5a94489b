"""What TensorBoard shows of a policy at work."""

from typing import final

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from penstock.backbones import Knob
from penstock.envs import Lanes, Step
from penstock.hardware import RESOURCES


@final
class Tally:
    """Sums of what happened since it was last read."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.clear()

    def clear(self) -> None:
        """Start anew."""
        depth = self.lanes.prices.stages
        self.answers = self.right = self.over = self.overruled = 0
        self.reward = 0.0
        self.cost = np.zeros(len(RESOURCES))
        self.counts = [np.zeros((depth, len(knob.choices))) for knob in self.lanes.knobs]

    def add(self, step: Step) -> None:
        """Count a step of the engine."""
        self.reward += float(step.reward.sum())
        outcomes = step.outcomes
        self.answers += len(outcomes.lanes)
        self.right += int(outcomes.right.sum())
        self.over += int(outcomes.over.sum())
        self.overruled += int(outcomes.overruled.sum())
        self.cost += outcomes.cost.sum(dim=0).numpy()
        for counts, chosen in zip(self.counts, outcomes.choices.unbind(dim=2), strict=True):
            depth, size = counts.shape
            place = torch.arange(depth) * size + chosen
            counts += np.bincount(
                place[chosen >= 0].numpy().ravel(), minlength=depth * size
            ).reshape(depth, size)

    def scalars(self) -> dict[str, float]:
        """Means per answer."""
        n = max(1, self.answers)
        full = [float(amount) for amount in self.lanes.full.each().values()]
        scalars = {
            "policy/reward": self.reward / n,
            "policy/accuracy": self.right / n,
            "policy/violation_rate": self.over / n,
            "policy/overruled": self.overruled / n,
        }
        for name, spent, whole in zip(RESOURCES, self.cost / n, full, strict=True):
            scalars[f"cost/{name}"] = float(spent)
            if whole > 0:
                scalars[f"cost/{name}_share"] = float(spent) / whole
        return scalars

    def figure(self) -> Figure:
        """The share of each choice of each knob, block by block."""
        return heat_map(self.lanes.knobs, self.counts)


def heat_map(knobs: tuple[Knob, ...], counts: list[NDArray[np.float64]]) -> Figure:
    """Choices of each knob by block: one panel a knob.

    Args:
        knobs: K of them.
        counts: how often each choice was made, [D, choices] a knob.
    """
    depth = len(counts[0])
    figure = Figure(figsize=(1.6 + 1.5 * len(knobs), 0.8 + 0.35 * depth), layout="constrained")
    panels = figure.subplots(1, len(knobs), squeeze=False)[0]
    for panel, knob, count in zip(panels, knobs, counts, strict=True):
        share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
        panel.imshow(share, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        for (block, choice), value in np.ndenumerate(share):
            colour = "white" if value > 0.6 else "black"
            text = f"{100 * value:.0f}"
            panel.text(choice, block, text, ha="center", va="center", color=colour, fontsize=7)
        panel.set_xticks(range(len(knob.choices)), [f"{choice:g}" for choice in knob.choices])
        panel.set_yticks(range(depth))
        panel.set_title(knob.name, fontsize=9)
        panel.tick_params(labelsize=7)
    panels[0].set_ylabel("block")
    figure.suptitle("share of each choice, %", fontsize=9)
    return figure
