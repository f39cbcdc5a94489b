"""Statistics measured on data once the weights stand: quantizer steps, normalisation, images."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from penstock.backbones.backbone import Backbone, Run, run_exactly
from penstock.backbones.evaluating import evaluating
from penstock.backbones.knob import BITS, FULL, RUN, WIDTH, Setting
from penstock.backbones.normalization import ImageNorm, SettingNorm
from penstock.backbones.precision import LOW_BITS, Convolution, best_step

MIXTURE_EVERY = 6
"""Uniform settings to a random mixture when statistics are measured. With one to one the full
network lost 2 points on CIFAR-10: its statistics were too much those of narrow, coarse inputs."""

SAMPLES = 50_000
"""Activations looked at per layer when its steps are chosen."""


def uniform_settings() -> list[Setting]:
    """Every width and precision, the same in all blocks: {"width": .., "bits": ..}."""
    return [{"width": w, "bits": b} for w in WIDTH.choices for b in BITS.choices]


def random_settings(depth: int, rng: random.Random) -> list[Setting]:
    """One setting a block: any width, any precision."""
    return [
        {"width": rng.choice(WIDTH.choices), "bits": rng.choice(BITS.choices)} for _ in range(depth)
    ]


def with_skips(
    settings: Sequence[Setting], lanes: int, skipping: int, probability: float, rng: torch.Generator
) -> list[Setting]:
    """These settings, some lanes skipping blocks at random: `run` becomes a mask [lanes] a block.

    Lanes that skip and lanes that do not stand in one batch, so that a normalisation sees both and
    its statistics hold for both.

    Args:
        settings: one a block.
        lanes: images in the batch.
        skipping: how many of them, the first ones, skip blocks.
        probability: the mean of their rates, each drawn evenly from 0 to twice this.
        rng: on the CPU.
    """
    rates = torch.rand(lanes, generator=rng) * 2 * probability
    rates[skipping:] = 0
    runs = torch.rand(len(settings), lanes, generator=rng) >= rates
    full, skip = RUN.full, RUN.choices[0]
    return [
        {**s, "run": torch.where(run, full, skip)} for s, run in zip(settings, runs, strict=True)
    ]


@torch.no_grad()
def calibrate_steps(backbone: Backbone, images: Tensor, bit_error_rate: float = 0.0) -> None:
    """Set the activation steps of every convolution to those of least squared error.

    Args:
        backbone: changed in place.
        images: some hundred, floats in [0, 1], [n, C, H, W].
        bit_error_rate: of the memory that the activations are read from.
    """

    def measure(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, Convolution)
        x = inputs[0].flatten()
        x = x[:: max(1, len(x) // SAMPLES)]
        how = layer.signed, bit_error_rate, layer.protected
        layer.steps.copy_(torch.stack([best_step(x, bits, *how) for bits in LOW_BITS]))

    layers = [layer for layer in backbone.modules() if isinstance(layer, Convolution)]
    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    try:
        with evaluating(backbone):
            backbone.answers(images, FULL)
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def clip_weights(backbone: Backbone, most: float) -> None:
    """Clip the weights of every convolution at so many root mean squares of their output channel.

    Args:
        backbone: changed in place.
        most: above 1.
    """
    for layer in backbone.modules():
        if isinstance(layer, Convolution):
            mean_square = layer.weight.square().mean(dim=(1, 2, 3), keepdim=True)
            limit = most * mean_square.sqrt()
            layer.weight.clamp_(-limit, limit)


@torch.no_grad()
def recalibrate_norms(
    backbone: Backbone,
    batches: Sequence[Tensor],
    *,
    skip_share: float,
    skip_probability: float,
    seed: int,
    mixed: bool = True,
    settings: Sequence[Setting] | None = None,
    progress: Callable[[], object] = lambda: None,
    run: Run = run_exactly,
) -> None:
    """Measure the statistics of every setting anew, as averages over these batches.

    Each batch is run once under every uniform setting, and now and then under a random mixture, so
    that a setting's statistics hold for a network that stands at it everywhere, and still for one
    in which a policy chose something else before it. Part of each batch skips blocks.

    Args:
        backbone: changed in place.
        batches: floats in [0, 1], [n, C, H, W] each; ten of 256 are plenty.
        skip_share: of each batch, the images that skip blocks.
        skip_probability: mean of a block of theirs.
        seed: of mixtures and skips.
        mixed: whether there are mixtures. Where only the full network has learned, what narrow
            blocks say is noise, and cost the full one half a point to a point.
        settings: those that are measured, {"width": .., "bits": ..}, instead of all; the statistics
            of others stay.
        progress: called after each batch.
        run: how blocks are run.
    """
    norms = [layer for layer in backbone.modules() if isinstance(layer, SettingNorm)]
    training, momenta = backbone.training, [norm.momentum for norm in norms]
    backbone.train()
    for norm in norms:
        norm.forget()
    rng, skips = random.Random(seed), torch.Generator().manual_seed(seed)

    def pass_through(images: Tensor, settings: Sequence[Setting], stem: Setting) -> None:
        skipping = round(len(images) * skip_share)
        masked = with_skips(settings, len(images), skipping, skip_probability, skips)
        backbone.answers(images, masked, stem=stem, run=run)

    for images in batches:
        for number, setting in enumerate(settings or uniform_settings()):
            pass_through(images, [setting] * backbone.depth, setting)
            if mixed and number % MIXTURE_EVERY == 0:
                mixture = random_settings(backbone.depth, rng)
                pass_through(images, mixture, {"bits": rng.choice(BITS.choices)})
        progress()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    backbone.train(training)


def measure_images(backbone: Backbone, pixels: Tensor) -> None:
    """Give the network the mean and deviation of the training images.

    Args:
        backbone: changed in place.
        pixels: uint8, [n, C, H, W].
    """
    values = pixels.float() / 255
    for layer in backbone.modules():
        if isinstance(layer, ImageNorm):
            layer.mean.copy_(values.mean(dim=(0, 2, 3)).view(-1, 1, 1))
            layer.deviation.copy_(values.std(dim=(0, 2, 3)).clamp(min=1e-3).view(-1, 1, 1))
