"""Fit the CIFAR-10 backbone that ships with Penstock: one set of weights, four knobs.

    python scripts/reproduce/fit_cifar10.py --data FOLDER

Takes about 150 minutes on two cores. Killed, it goes on from its last epoch when started again.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from penstock.backbones import load_data, save, staged_resnet
from penstock.backbones.training import Fitting, fit
from penstock.scripts.guard import guarded

CYCLES = (
    Fitting(
        epochs=54,
        learning_rate=0.15,
        warm_up=0.2,
        exit_weight=0.2,
        full_share=0.72,
        skip_share=0.3,
        part_share=0.4,
        start_size=0.5,
        full_size_from=0.6,
    ),
    Fitting(
        epochs=20,
        learning_rate=0.08,
        warm_up=0.05,
        exit_weight=0.07,
        full_share=0.75,
        skip_share=0.2,
        part_share=0.25,
    ),
)
"""The second cycle is for the full network: exits and parts weigh less in it, and learn last."""


@dataclass(frozen=True)
class Arguments:
    """Fit the CIFAR-10 backbone that ships with Penstock."""

    data: str
    """Folder with train.parquet and test.parquet, or the data set's name on the hub."""
    out: Path = Path("runs/fit_cifar10")
    """Where checkpoints, TensorBoard events and the weights go."""
    weights: Path = Path("backbones/weights/cifar10.safetensors")
    """Where the weights are put as float16."""
    seed: int = 0
    """Of everything."""
    device: str = "cpu"
    """Where to train."""


def main() -> None:
    """Load, fit, keep."""
    arguments = tyro.cli(Arguments)
    torch.manual_seed(arguments.seed)
    data = load_data(arguments.data)
    backbone = staged_resnet(
        channels=(32, 64, 96, 112),
        blocks=(1, 2, 3, 1),
        strides=(1, 2, 1, 2),
        exits=(1, 2, 3, 4, 5),
        pool=True,
    )
    for number, fitting in enumerate(CYCLES, start=1):
        fit(
            backbone,
            data,
            fitting,
            arguments.out / f"cycle-{number}",
            seed=arguments.seed,
            device=arguments.device,
            resume=True,
        )
    save(backbone, arguments.weights, half=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
