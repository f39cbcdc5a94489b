"""A programmed chip: the conductances that stand for the weights of a network.

Letters: `O, I` outputs and inputs of a layer, `k` kernel.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final
from zlib import crc32

import torch
from torch import Tensor

from penstock.backbones import Backbone, InputError, Product, perform_network
from penstock.backbones.saving import read_tensors, write_tensors
from penstock.hardware.changed import changed_ns
from penstock.hardware.nvm import Device

DRAWS: Final = 128
"""Layers whose draws are remembered."""

PARTS: Final = ("target", "programmed_us", "exponent", "unit")
"""Of a layer, in the file of a chip."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Two cells a weight, in the units of weights."""

    weight: Tensor  # [O, I, k, k] or [O, I]: what the conductances amount to
    read_variance: Tensor  # the same shape: of one read of both cells


@dataclass(frozen=True, slots=True)
class _Pair:
    """What was programmed, each the shape of the layer's whole weight with a 2 in front."""

    target: Tensor  # shares of the largest conductance
    programmed_us: Tensor
    exponent: Tensor  # of the drift
    unit: Tensor  # [O, 1, ...]: the weight that a cell at its largest conductance stands for


def cells(
    product: Product,
    device: Device,
    chip: int | str,
    *,
    time_s: float,
    spread: float,
    compensated: bool,
) -> Cells:
    """What a chip holds for the used part of a layer's weights, so long after programming.

    Args:
        product: of the layer.
        device: the kind of cell.
        chip: a seed, or the file of a programmed chip.
        time_s: since programming.
        spread: factor on the programming error.
        compensated: whether the total conductance is brought back to what was programmed, as by a
            reference read and one digital factor (global drift compensation, IBM/aihwkit).
    """
    if isinstance(chip, int):
        pair = _program(product.stored.float(), product.name, device, chip, spread)
    else:
        pair = _saved(product, chip, device)
    now = device.age(pair.programmed_us, pair.exponent, time_s)
    scale = pair.unit / device.g_max_us
    if compensated:
        scale = scale * (pair.programmed_us.sum() / now.sum().clamp(min=1e-12))
    rustle = device.read_us(pair.programmed_us / device.g_max_us, now, time_s)
    weight = (now[0] - now[1]) * scale
    variance = rustle.square().sum(dim=0) * scale.square()
    used = tuple(slice(0, size) for size in product.weight.values.shape)
    kind = product.weight.values.dtype
    return Cells(weight[used].to(kind), variance[used].to(kind))


@torch.no_grad()
def save_chip(
    path: Path | str, backbone: Backbone, device: Device, *, chip: int = 0, spread: float = 1.0
) -> None:
    """Write the conductances of a chip that is programmed with a network.

    Args:
        path: the file, safetensors.
        backbone: of which every layer is programmed.
        device: the kind of cell.
        chip: its seed.
        spread: factor on the programming error.

    Raises:
        InputError: if the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}

    def note(product: Product) -> Tensor:
        pair = _program(product.stored.float(), product.name, device, chip, spread)
        for part, tensor in zip(PARTS, _parts(pair), strict=True):
            tensors[f"{product.name}.{part}"] = tensor
        return product.exact()

    perform_network(backbone, note)
    about = {"cell": repr(device), "chip": str(chip), "spread": str(spread)}
    write_tensors(path, tensors, about)


def _parts(pair: _Pair) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return pair.target, pair.programmed_us, pair.exponent, pair.unit


@torch.no_grad()
def _program(weight: Tensor, name: str, device: Device, chip: int, spread: float) -> _Pair:
    """Program a layer: w = (g+ - g-) * unit, the unit being the largest weight of an output."""
    unit = weight.abs().flatten(1).amax(dim=1).clamp(min=1e-12)
    unit = unit.view(-1, *[1] * (weight.dim() - 1))
    share = weight / unit
    target = torch.stack([share.clamp(min=0), (-share).clamp(min=0)])
    errors, drifts = _draws(chip, name, tuple(weight.shape))
    errors, drifts = errors.to(weight.device), drifts.to(weight.device)
    return _Pair(
        target,
        device.program(target, errors, spread),
        device.drift(target, drifts),
        unit,
    )


@lru_cache(DRAWS)
def _draws(chip: int, name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Of a chip's programming errors and drifts: the same cell always draws the same."""
    rng = torch.Generator().manual_seed(crc32(f"{chip} {name}".encode()))
    return torch.randn(2, *shape, generator=rng), torch.randn(2, *shape, generator=rng)


@lru_cache(8)
def _chip(path: str, changed_ns: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    return read_tensors(path)


def _saved(product: Product, path: str, device: Device) -> _Pair:
    name = product.name
    tensors, about = _chip(path, changed_ns(path))
    whole = (2, *product.stored.shape)
    if any(f"{name}.{part}" not in tensors for part in PARTS):
        held = "none"
    elif (got := tuple(tensors[f"{name}.target"].shape)) != whole:
        held = f"cells for {got[1:]}"
    elif about.get("cell") != repr(device):
        held = f"cells of the kind {about.get('cell')}"
    else:
        there = product.stored.device
        return _Pair(*(tensors[f"{name}.{part}"].to(there) for part in PARTS))
    raise InputError(
        f"{path} should hold {device} cells for the layer {name!r} of {whole[1:]}, got {held}; "
        "program the chip with the network that is run on it (save_chip)"
    )
