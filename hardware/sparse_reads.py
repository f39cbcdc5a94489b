"""How often a convolution or matrix-vector product reads a zero, counted for each input.

How often an activation is read does not depend on its value, so it is found once for all inputs, as
the derivative of the sum of all outputs where all weights are 1; likewise how often it meets a zero
weight. What remains for each input is a sum over its zeros, which costs little beside the product.

Letters: `n` lanes of a job, `I, O` channels in and out, `C` of the I that a group reads, `k`
kernel, `H, W` height and width, `R` registers of the core that hold the channels of a pixel.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from penstock.hardware.sparse_loop import Kernel

Multiply = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x [n, I, H, W] or [n, I], weight [O, C, k, k] or [O, I], None) -> y, linear in x."""


def kernel_of(x: Tensor, weight: Tensor, y: Tensor) -> Kernel:
    """The shape of a product.

    Args:
        x: [n, I, H, W] or [n, I].
        weight: [O, C, k, k] or [O, I].
        y: what comes out, [n, O, H', W'] or [n, O].
    """
    outputs, channels, *taps = weight.shape
    groups = x.shape[1] // channels
    height, width = (1, 1, *taps)[-2:]
    return Kernel(outputs // groups, channels, height, width, y[0, 0].numel(), groups)


@torch.no_grad()
def zero_activations(
    x: Tensor, weight: Tensor, multiply: Multiply, kernel: Kernel, lanes: int
) -> Tensor:
    """Steps in which all lanes of a register of activations are zero: [n], float64.

    Args:
        x: [n, I, H, W] or [n, I]; -0.0 is a zero.
        weight: [O, C, k, k] or [O, I]; only its shape matters.
        multiply: performs the product.
        kernel: its shape.
        lanes: neighbouring channels, of one pixel and group, that share a register; a last register
            is filled up with zeros. Reads of the zero border around an image are among the steps.
    """
    zeros = _zero_registers(x, kernel, lanes).float().sum(1).reshape(len(x), -1)  # [n, H * W or 1]
    reads = _reads_of_a_register(x, weight, multiply, kernel)
    return zeros.double() @ reads + _border(reads, kernel, lanes)


@torch.no_grad()
def zero_weights(
    x: Tensor, weight: Tensor, multiply: Multiply, kernel: Kernel, lanes: int
) -> Tensor:
    """Steps in which all weights of a register are zero and some activation is not: [n], float64.

    Args:
        x: [n, I, H, W] or [n, I].
        weight: [O, C, k, k] or [O, I]; -0.0 is a zero.
        multiply: performs the product.
        kernel: its shape.
        lanes: as for `zero_activations`.
    """
    zero = _registers(weight == 0, lanes)  # [O, R, k, k] or [O, R]
    filters = torch.zeros(weight.shape, device=x.device)
    filters[:, ::lanes] = zero.float()  # the first lane stands for its register
    if kernel.groups == 1:
        filters = filters.sum(0, keepdim=True)  # one output that reads for all
    met = _derivative(multiply, x[:1].shape, filters)  # [I, H, W] or [I]
    met = met.reshape(kernel.groups, kernel.channels, -1)[:, ::lanes].flatten()
    busy = ~_zero_registers(x, kernel, lanes)
    return busy.flatten(1).double() @ met


@torch.no_grad()
def border(x: Tensor, weight: Tensor, multiply: Multiply, kernel: Kernel, lanes: int) -> int:
    """Steps that read the zero border around an image, the same for every input."""
    return _border(_reads_of_a_register(x, weight, multiply, kernel), kernel, lanes)


def _border(reads: Tensor, kernel: Kernel, lanes: int) -> int:
    """What is left of the steps where each register of a pixel is read so often, [H * W or 1]."""
    registers = kernel.groups * -(-kernel.channels // lanes)
    return kernel.steps(lanes) - registers * int(reads.sum())


def _reads_of_a_register(x: Tensor, weight: Tensor, multiply: Multiply, kernel: Kernel) -> Tensor:
    """How often each register of a pixel is read, one number a pixel: [H * W or 1]."""
    if kernel.groups == 1:  # a single channel in and out is read as often by each output
        one = torch.ones(1, 1, *weight.shape[2:], device=x.device)
        return _derivative(multiply, (1, 1, *x.shape[2:]), one).flatten() * kernel.outputs
    reads = _derivative(multiply, x[:1].shape, torch.ones(weight.shape, device=x.device))
    return reads[0].flatten()


def _derivative(multiply: Multiply, shape: tuple[int, ...], filters: Tensor) -> Tensor:
    """Of the sum of all outputs with respect to one input of this shape, [1, I, ...]: [I, ...]."""
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has switched off
        probe = torch.zeros(shape, device=filters.device, requires_grad=True)
        (slope,) = torch.autograd.grad(multiply(probe, filters.clone(), None).sum(), probe)
    return slope[0].double()


def _zero_registers(x: Tensor, kernel: Kernel, lanes: int) -> Tensor:
    """Which registers hold nothing but zeros: [n, groups * R, H, W] or [n, R]."""
    if lanes == 1:
        return x == 0
    apart = (x == 0).reshape(-1, kernel.channels, *x.shape[2:])  # [n * groups, C, ...]
    return _registers(apart, lanes).reshape(len(x), -1, *x.shape[2:])


def _registers(zero: Tensor, lanes: int) -> Tensor:
    """Which registers are zero, of the channels that are: [a, C, ...] -> [a, R, ...]."""
    missing = -zero.shape[1] % lanes
    if missing:
        zero = functional.pad(zero, [0, 0] * (zero.dim() - 2) + [0, missing], value=True)
    return zero.reshape(len(zero), -1, lanes, *zero.shape[2:]).all(2)
