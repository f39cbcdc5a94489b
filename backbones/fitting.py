"""The recipe by which a backbone is fitted, and what it says at each moment."""

import math
from dataclasses import dataclass

from penstock.backbones.errors import InputError


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a backbone is fitted."""

    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 0.2
    """Peak of the one-cycle schedule of SGD with Nesterov momentum 0.9."""
    weight_decay: float = 5e-4
    """On everything but normalisation."""
    warm_up: float = 0.25
    """Share of the steps in which the learning rate rises."""
    label_smoothing: float = 0.1
    """Of the full network's labels."""
    exit_weight: float = 0.3
    """Weight of each early exit's loss, half label and half distillation."""
    full_share: float = 0.3
    """Share of the epochs, at the start, in which only the full network and its exits learn."""
    skip_share: float = 0.5
    """Share of each batch that skips blocks, once parts learn too."""
    skip_probability: float = 0.3
    """Stochastic depth: mean probability with which such an image skips a block."""
    part_share: float = 0.5
    """Share of the rest on which each of the two partial networks of the sandwich learns."""
    shift: int = 4
    """Pixels by which images are moved at most."""
    flip: bool = True
    """Whether images are mirrored."""
    start_size: float = 1.0
    """Resolution of the first epoch, as a share of the images'."""
    full_size_from: float = 0.6
    """Share of the epochs after which the resolution has grown to the images' own."""
    size_step: int = 8
    """Resolutions are multiples of this many pixels."""
    bit_error_rate: float = 0.0
    """At which the steps of activations err least: the more bits flip, the shorter they are."""
    weight_clip: float | None = None
    """Largest magnitude of a weight, in root mean squares of its output channel; None: any. Weights
    that fill their range stand above bit errors, as in Stutz et al., Bit Error Robustness for
    Energy-Efficient DNN Accelerators (MLSys 2021), where all have one limit."""
    bfloat16: bool | None = None
    """Autocast; None: only where the processor has instructions for it."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.size_step) < 1 or self.shift < 0:
            raise InputError(
                "epochs, batch_size and size_step are at least 1 and shift at least 0, got "
                f"{self.epochs}, {self.batch_size}, {self.size_step} and {self.shift}; raise them"
            )
        for name, most in (
            ("learning_rate", math.inf),
            ("weight_decay", math.inf),
            ("exit_weight", math.inf),
            ("warm_up", 1.0),
            ("label_smoothing", 1.0),
            ("full_share", 1.0),
            ("skip_share", 0.9),
            ("skip_probability", 0.5),
            ("part_share", 1.0),
            ("start_size", 1.0),
            ("full_size_from", 1.0),
            ("bit_error_rate", 0.5),
        ):
            if not (math.isfinite(getattr(self, name)) and 0 <= getattr(self, name) <= most):
                raise InputError(
                    f"{name} of a fitting lies from 0 to {most:g}, got {getattr(self, name)}; "
                    "choose one in between"
                )
        if self.weight_clip is not None and not 1 < self.weight_clip < math.inf:
            raise InputError(
                "weights are clipped at more than 1 root mean square of their channel, got "
                f"weight_clip = {self.weight_clip}; raise it, or leave it out to clip none"
            )
        whole = self.batch_size - round(self.batch_size * self.skip_share)
        if whole < 2:
            raise InputError(
                "two images or more of a batch should skip no block, got batch_size = "
                f"{self.batch_size} and skip_share = {self.skip_share}; "
                "raise one or lower the other"
            )


def one_cycle(progress: float, fitting: Fitting) -> float:
    """The learning rate after a share of all steps: up in a line, down in a cosine to 0.

    >>> one_cycle(0.25, Fitting(learning_rate=0.2, warm_up=0.25))
    0.2
    """
    if progress < fitting.warm_up:
        return fitting.learning_rate * max(progress / fitting.warm_up, 0.01)
    done = (progress - fitting.warm_up) / max(1 - fitting.warm_up, 1e-9)
    return fitting.learning_rate * (1 + math.cos(math.pi * done)) / 2


def side(full: int, fitting: Fitting, epoch: int) -> int:
    """Height and width in pixels at which an epoch learns from images of `full` pixels.

    >>> recipe = Fitting(epochs=10, start_size=0.5, full_size_from=0.6)
    >>> [side(32, recipe, epoch) for epoch in range(8)]
    [16, 16, 24, 24, 24, 32, 32, 32]
    """
    grown = min(1.0, epoch / max(1, fitting.full_size_from * fitting.epochs))
    share = fitting.start_size + (1 - fitting.start_size) * grown
    grid = round(full * share / fitting.size_step) * fitting.size_step
    return full if share >= 1 else min(full, max(fitting.size_step, grid))
