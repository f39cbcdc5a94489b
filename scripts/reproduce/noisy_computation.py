"""Noise-injected training and votes after Qin and Vucinic, at 0 dB: MNIST and CIFAR-10.

    python scripts/reproduce/noisy_computation.py mnist --data FOLDER --seeds 0 1 2

FOLDER holds train.parquet and test.parquet. Fits, for every seed, a network without and one with
noise on every matrix-vector product; each takes 10 to 60 minutes on two cores. Killed, it goes on
from the last epoch. `--site`, `--power` and `--width` study what the paper leaves open.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor
from tyro.conf import Positional

from penstock.backbones import Backbone, Data, load, load_data, staged_resnet
from penstock.backbones.training import Fitting, fit
from penstock.hardware import Analog, Exposure, Machine, build_machine, through, vote
from penstock.hardware.analog import Site
from penstock.scripts.guard import guarded
from penstock.scripts.results import Claim, write_claims
from penstock.scripts.run import write_json

VOTES = 11
"""Passes that vote; the paper does not say how many."""

RAMP = Exposure("snr_db", start=20.0, stop=0.0, until=0.4)
"""The schedule of the noise: [estimate], the paper does not give one."""

Task = Literal["mnist", "cifar10"]

FITTINGS = {
    "mnist": Fitting(
        epochs=16,
        learning_rate=0.1,
        full_share=1.0,
        skip_share=0.0,
        label_smoothing=0.0,
        flip=False,
        shift=2,
    ),
    "cifar10": Fitting(
        epochs=30,
        learning_rate=0.1,
        full_share=1.0,
        skip_share=0.0,
        label_smoothing=0.0,
        start_size=0.5,
        full_size_from=0.4,
    ),
}
"""Only the full network learns: no knob of the blocks is turned here."""


@dataclass(frozen=True)
class Arguments:
    """Fit without and with noise, judge both under noise."""

    task: Positional[Task]
    """Which images."""
    data: str
    """Folder with train.parquet and test.parquet, or the data set's name on the hub."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of weights, order and noise."""
    site: Site = "folded"
    """Where the noise enters."""
    power: Literal["ac", "total"] = "ac"
    """What counts as the power of the signal."""
    width: float = 1.0
    """Factor on the channels of every layer."""
    epochs: int | None = None
    """Instead of the recipe's."""
    out: Path = Path("runs/noisy_computation")
    """Where networks and tables are kept."""


def main() -> None:
    """Fit what is missing, judge, write down."""
    arguments = tyro.cli(Arguments)
    data = load_data(arguments.data)
    tables = [judged(arguments, data, seed) for seed in arguments.seeds]
    for table in tables:
        print(json.dumps(table, indent=2))
    if arguments == replace(Arguments(arguments.task, arguments.data), seeds=arguments.seeds):
        write_claims(f"noisy_{arguments.task}", claims(arguments, tables))


def network(task: Task, width: float) -> Backbone:
    """A residual network of few and wide layers: width is what noise averages out over."""
    if task == "mnist":
        channels = [round(count * width) for count in (64, 128)]
        return staged_resnet(channels, (1, 1), (2, 2), pool=True, in_channels=1, size=28)
    channels = [round(count * width) for count in (64, 128, 256)]
    return staged_resnet(channels, (1, 1, 1), (1, 2, 2), pool=True)


def judged(arguments: Arguments, data: Data, seed: int) -> dict[str, float]:
    """Accuracies of the two networks of a seed, in percent, from a file if they are known."""
    about = f"{arguments.task}-{arguments.site}-{arguments.power}-{arguments.width:g}"
    folder = arguments.out / (about + (f"-{arguments.epochs}" if arguments.epochs else ""))
    path = folder / f"table-{seed}.json"
    if path.exists():
        known: dict[str, float] = json.loads(path.read_text())
        return known
    machine = Analog(
        build_machine("edge"), site=arguments.site, power=arguments.power, reference="batch"
    )
    table: dict[str, float] = {}
    for trained in ("clean", "noisy"):
        backbone = fitted(arguments, data, seed, trained, machine, folder / f"{trained}-{seed}")
        table |= {
            f"{trained}, {k}": v for k, v in accuracies(backbone, machine, data, seed).items()
        }
    write_json(path, table)
    return table


def fitted(
    arguments: Arguments, data: Data, seed: int, trained: str, machine: Analog, folder: Path
) -> Backbone:
    """The network of a seed, trained without or with noise."""
    if (folder / "backbone.safetensors").exists():
        return load(folder / "backbone.safetensors")
    torch.manual_seed(seed)
    backbone, recipe = network(arguments.task, arguments.width), FITTINGS[arguments.task]
    if arguments.epochs:
        recipe = replace(recipe, epochs=arguments.epochs)
    if trained == "clean":
        return fit(backbone, data, recipe, folder, seed=seed, resume=True)
    run_at, about = RAMP.run_at(machine), f"{RAMP} on {machine}"
    return fit(backbone, data, recipe, folder, seed=seed, resume=True, run_at=run_at, about=about)


def accuracies(backbone: Backbone, machine: Analog, data: Data, seed: int) -> dict[str, float]:
    """On test images; P is each input's own, so that inputs do not depend on their batch."""
    own = replace(machine, reference="input")
    reads = replace(own, votes=(VOTES,))
    return {
        "no noise": right(backbone, own.ideal(), data, seed, 1),
        "0 dB": right(backbone, own, data, seed, 1),
        "0 dB, soft votes": right(backbone, own, data, seed, VOTES),
        "0 dB, hard votes": right(backbone, own, data, seed, VOTES, "hard"),
        "0 dB, mean of reads": right(backbone, reads, data, seed, 1),
    }


def right(
    backbone: Backbone,
    machine: Machine,
    data: Data,
    seed: int,
    votes: int,
    kind: Literal["soft", "hard"] = "soft",
) -> float:
    """Percent of the test images."""
    run = through(machine, torch.Generator().manual_seed(seed), {"snr_db": 0.0})
    hits: list[Tensor] = []
    for start in range(0, len(data.test), 500):
        x = data.test.pixels[start : start + 500].float() / 255
        said = vote(backbone, x.contiguous(memory_format=torch.channels_last), run, votes, kind)
        hits.append(said.argmax(dim=1) == data.test.labels[start : start + 500])
    return 100 * torch.cat(hits).float().mean().item()


def claims(arguments: Arguments, tables: list[dict[str, float]]) -> list[Claim]:
    """Means over seeds against the targets."""

    def mean(name: str) -> float:
        return sum(table[name] for table in tables) / len(tables)

    def claim(text: str, figure: float, target: float, control: str, less: bool = False) -> Claim:
        comparison: Literal[">=", "<="] = "<=" if less else ">="
        where = "Analog, folded, ac power per layer and input"
        return Claim(text, figure, target, comparison, control, arguments.seeds, where)

    lost, voted = mean("clean, 0 dB"), mean("noisy, 0 dB, soft votes")
    recovered = (voted - lost) / (mean("clean, no noise") - lost)
    single = mean("noisy, 0 dB")
    found = [
        claim("% right at 0 dB, trained without noise, one pass", lost, 35, "", less=True),
        claim(
            f"share of what noise costs won back by training and {VOTES} votes",
            recovered,
            0.7,
            "trained without noise",
        ),
        claim(f"points that {VOTES} votes win", voted - single, 1, "one pass of the same network"),
    ]
    if arguments.task == "mnist":
        found.append(claim(f"% right at 0 dB, trained with noise, {VOTES} votes", voted, 99.0, ""))
    return found


if __name__ == "__main__":
    sys.exit(guarded(main))
