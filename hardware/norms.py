"""A network whose normalisation knows the machine that it runs on."""

from copy import deepcopy

import torch
from torch import Tensor

from penstock.backbones import BITS, WIDTH, Backbone, Setting
from penstock.backbones.calibration import recalibrate_norms
from penstock.hardware.machine import Machine
from penstock.hardware.through import through

BATCH = 256
"""Images at a time."""


def with_own_norms(
    backbone: Backbone, machine: Machine, setting: Setting, images: Tensor, *, seed: int = 0
) -> Backbone:
    """A copy with statistics of normalisation measured on a machine, at the setting of its use.

    Faults shift and widen what a layer says, those of one chip always in the same way. Statistics
    of another error rate or voltage than that in use cost accuracy. Those of other widths and
    precisions stay.

    Args:
        backbone: left as it was.
        machine: with its faults.
        setting: of all blocks, the stem and the machine.
        images: of training, floats in [0, 1], [n, C, H, W]; a thousand are plenty.
        seed: of the machine's draws.
    """
    found = deepcopy(backbone)
    own = {"width": setting.get("width", WIDTH.full), "bits": setting.get("bits", BITS.full)}
    images = images.contiguous(memory_format=torch.channels_last)
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    recalibrate_norms(
        found,
        batches,
        skip_share=0.0,
        skip_probability=0.0,
        seed=seed,
        mixed=False,
        settings=[own],
        run=through(machine, torch.Generator().manual_seed(seed), setting),
    )
    return found.eval()
