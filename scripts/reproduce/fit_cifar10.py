"""Fit the CIFAR-10 backbone that ships with Penstock: one set of weights, four knobs.

    python scripts/reproduce/fit_cifar10.py --data FOLDER

Takes about 90 minutes on two cores. Killed, it goes on from its last epoch when started again.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from penstock.backbones import load_data, resnet, save
from penstock.backbones.training import Fitting, fit


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
    backbone = resnet(depth=14, channels=(48, 96, 128), pool=True)
    fitting = Fitting(
        epochs=30,
        learning_rate=0.15,
        shift=3,
        full_share=0.35,
        start_size=0.5,
        full_size_from=0.65,
    )
    fit(
        backbone,
        data,
        fitting,
        arguments.out,
        seed=arguments.seed,
        device=arguments.device,
        resume=True,
    )
    save(backbone, arguments.weights, half=True)


if __name__ == "__main__":
    main()
