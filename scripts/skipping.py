"""What a core that skips zeros does with the real activations of a network."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product as every
from typing import Any, Final, get_args

import torch
from torch import Tensor
from torch.nn import functional

from penstock.backbones import Backbone, Block, Perform, Product, Setting, exact
from penstock.hardware import Digital, Job, build_machine
from penstock.hardware.sparse import Sparse
from penstock.hardware.sparse_core import simulate
from penstock.hardware.sparse_loop import Kernel, Loop, Mode, cycles
from penstock.hardware.sparse_programs import convolution
from penstock.hardware.sparse_reads import border, kernel_of, zero_activations, zero_weights

BITS: Final[Setting] = {"bits": 8}
"""Of all blocks: a core of this class multiplies integers."""

FILTERS: Final = 2
"""Of a layer, in each program that is simulated."""


def core(**changes: Any) -> Sparse:
    """The preset with a second a cycle and nothing but cycles on the bill, and changes to it."""
    machine = build_machine("sparse_core")
    assert isinstance(machine, Sparse) and isinstance(machine.inner, Digital)
    return replace(machine, inner=replace(machine.inner, launch_s=0.0), clock_hz=1.0, **changes)


@torch.no_grad()
def spent(
    machine: Sparse, backbone: Backbone, images: Tensor, perform: Perform = exact
) -> tuple[Tensor, Tensor]:
    """Cycles of each image for the whole network with all its exits [n], and its answer [n].

    Args:
        machine: a `core`.
        backbone: in evaluation mode.
        images: floats in [0, 1], [n, C, H, W].
        perform: changes the products before the machine sees them.
    """
    total, rng = torch.zeros(len(images), dtype=torch.float64), torch.Generator()

    def run(block: Block, x: Tensor, setting: Setting) -> Tensor:
        nonlocal total
        y, cost, _ = machine.run(Job(block, x, setting, perform), {}, rng)
        total = total + cost.latency_s
        return y

    answers = backbone.answers(images, BITS, stem=BITS, run=run)
    return total, answers[backbone.depth - 1].argmax(1)


def saved(machine: Sparse, backbone: Backbone, images: Tensor, perform: Perform = exact) -> Tensor:
    """Percent of the cycles of the dense loop on the same core, for each image: [n]."""
    dense, _ = spent(replace(machine, mode="dense"), backbone, images[:1])  # the same for each
    return 100 * (1 - spent(machine, backbone, images, perform)[0] / dense)


@dataclass(frozen=True, slots=True)
class Zeros:
    """Shares of the steps of a scalar loop, and of one with four lanes, that read zeros."""

    x: float
    """The activation is zero."""
    border: float
    """It is one of the zeros around an image."""
    w: float
    """The weight is zero."""
    four: float
    """Four neighbouring channels are zero together."""
    independent: float
    """What that would be if zeros were independent, with the share of each layer."""
    pixels: float
    """Four neighbouring pixels of the output are zero together, for one tap of one channel."""


def zeros(backbone: Backbone, images: Tensor) -> Zeros:
    """The zeros that are read, each product counted by its steps."""
    scalar, simd, rows = 0, 0, []
    for product, kernel in _products(backbone, images):
        given = product.x.values, product.weight.values, product.multiply, kernel
        one, four = kernel.steps(1), kernel.steps(4)
        x = zero_activations(*given, 1).mean().item()
        together = zero_activations(*given, 4).mean().item()
        weights = (product.weight.values == 0).double().mean().item() * one
        pixels = _zero_pixels(product, kernel) * one
        rows.append([x, border(*given, 1), weights, together, (x / one) ** 4 * four, pixels])
        scalar, simd = scalar + one, simd + four
    sums = [sum(column) for column in zip(*rows, strict=True)]
    steps = (scalar, scalar, scalar, simd, simd, scalar)
    return Zeros(*(amount / count for amount, count in zip(sums, steps, strict=True)))


def mismatches(backbone: Backbone, images: Tensor, seed: int) -> list[bool]:
    """Whether the closed form is wrong, for a real window of each product and every loop."""
    return list(_mismatches(backbone, images, random.Random(seed)))


def _mismatches(backbone: Backbone, images: Tensor, rng: random.Random) -> Iterator[bool]:
    for product, kernel in _products(backbone, images):
        windows = _windows(product, kernel)
        lane, pixel = rng.randrange(len(windows)), rng.randrange(kernel.pixels)
        x = windows[lane, ..., pixel].reshape(-1, kernel.height, kernel.width)  # [I, k, k]
        weight = product.weight.values[:FILTERS].reshape(-1, *x.shape)
        one = replace(kernel, outputs=FILTERS, pixels=1)
        given = x[None], weight, functional.conv2d, one
        for mode, lanes, scheduled in every(get_args(Mode), (1, 4), (False, True)):
            loop = Loop(mode, mac_cycles=3, lanes=lanes, scheduled=scheduled)
            program = convolution(x, weight, loop)
            done = simulate(program.instructions, program.memory, mac_cycles=3)
            zero_w = zero_weights(*given, lanes) if mode == "two_entries" else torch.zeros(1)
            yield bool(done.total != cycles(one, loop, zero_activations(*given, lanes), zero_w))


def _products(backbone: Backbone, images: Tensor) -> list[tuple[Product, Kernel]]:
    """Every product that the images meet, and its shape."""
    found = []

    def note(product: Product) -> Tensor:
        z = product.exact()
        found.append((product, kernel_of(product.x.values, product.weight.values, z)))
        return z

    spent(core(mode="dense"), backbone, images, note)
    return found


def _windows(product: Product, kernel: Kernel) -> Tensor:
    """What each output pixel reads: [n, I, taps, pixels]."""
    x = product.x.values
    if x.dim() == 2:
        return x[:, :, None, None]
    where = {name: getattr(product.layer, name) for name in ("stride", "padding")}
    columns = functional.unfold(x, (kernel.height, kernel.width), **where)
    return columns.view(len(x), x.shape[1], -1, kernel.pixels)


def _zero_pixels(product: Product, kernel: Kernel) -> float:
    zero = _windows(product, kernel) == 0
    zero = functional.pad(zero, [0, -kernel.pixels % 4], value=True)
    return zero.reshape(*zero.shape[:3], -1, 4).all(4).double().mean().item()
