"""`penstock record`: run every input under every decision once, and keep what became of it."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.recordings import PARTS, Part, errs
from penstock.agents.scene import Scene
from penstock.backbones import Backbone, Data, InputError
from penstock.envs.recording import read_recording
from penstock.hardware import build_machine, check_machine
from penstock.hardware.bound import is_bound
from penstock.scripts.experiment import Experiment, read_experiment
from penstock.scripts.lots import Choice, clear, finished, lots, record, size
from penstock.scripts.run import check_file, check_seed, open_run
from penstock.scripts.train import network


@dataclass(frozen=True)
class Arguments:
    """Run every input under every decision once, and keep what became of it."""

    what: Positional[str]
    """A run folder, or an experiment (shipped name or .toml file) with fitted weights."""
    out: Path
    """Folder for train.safetensors, validation.safetensors and test.safetensors. The same command
    again goes on with what is there."""
    data: str | None = None
    """Images to use instead."""
    machine: str | None = None
    """Machine to use instead."""
    stages: tuple[int, ...] = ()
    """Blocks before which decisions are taken, 0 first, instead of the experiment's."""
    splits: tuple[Part, ...] = PARTS
    """Of the images."""
    images: int | None = None
    """Of each split at most so many, drawn by the seed."""
    draws: int = 1
    """Of a machine that errs: how often each input is run."""
    seed: int = 0
    """Of the images that are drawn, and of a machine that errs."""
    drop_dominated: float | None = None
    """Leave choices out that no configuration needs within so many points of the front of accuracy
    and cost, as validation images have it."""
    most_mib: float = 2048.0
    """Refuse what would take more."""
    dry_run: bool = False
    """Only say what it would take."""


def run(arguments: Arguments) -> None:
    """Open, tell the size, record."""
    check(arguments)
    experiment, backbone, data = open_network(arguments.what, arguments.data)
    stages = arguments.stages or experiment.stream.stages
    experiment = replace(
        experiment,
        machine=arguments.machine or experiment.machine,
        stream=replace(experiment.stream, stages=stages),
    )
    machine = build_machine(experiment.machine)
    check_machine(machine, backbone=backbone if is_bound(machine) else None)
    if arguments.draws > 1 and not errs(machine):
        raise InputError(
            f"draws are for machines that err, got {arguments.draws} of {experiment.machine}, "
            "which gives the same each time; leave --draws out"
        )
    points = arguments.drop_dominated
    choice = Choice(arguments.splits, arguments.images, arguments.draws, arguments.seed, points)
    scene = Scene(backbone, machine, data, experiment.stream)
    found = lots(arguments.what, experiment, scene, choice, arguments.out)
    words, mib = size(found)
    if arguments.dry_run:
        print(words)
        return
    if mib > arguments.most_mib:
        each = mib / sum(len(lot.numbers) for lot in found) * arguments.draws * len(found)
        fewer = int(arguments.most_mib / each)
        images = f"images (--images {fewer}), " if fewer else ""
        raise InputError(
            f"the recording takes {mib:.0f} MiB, at most {arguments.most_mib:g} are allowed; take "
            f"fewer {images}stages or choices, or raise --most-mib"
        )
    done = finished(arguments.out, found)
    check_file(arguments.out / "recording")
    print(words, file=sys.stderr)
    kept: Tensor | None = None
    total = sum(len(lot.numbers) for lot in found if lot.split not in done)
    with tqdm(total=total, desc="record", unit="image") as bar:
        for lot in found:
            if lot.split not in done:
                kept = record(lot, points, kept, bar.update)
            elif points is not None and kept is None:
                kept = read_recording(lot.path, lot.live.machine).table.offered
            clear(lot)
    print(f"recordings: {arguments.out}", file=sys.stderr)


def check(arguments: Arguments) -> None:
    """Refuse options that contradict each other or are out of range.

    Raises:
        InputError: if they are.
    """
    check_seed(arguments.seed)
    images = 1 if arguments.images is None else arguments.images
    if min(images, arguments.draws) < 1 or not arguments.most_mib > 0:
        raise InputError(
            f"images and draws are 1 or more and --most-mib is above 0, got {images}, "
            f"{arguments.draws} and {arguments.most_mib:g}; raise them"
        )
    points = arguments.drop_dominated
    if not arguments.splits or (points is not None and "validation" not in arguments.splits):
        raise InputError(
            "splits are one or more of train, validation and test, and choices are dropped as "
            f"validation images have it, got {' '.join(arguments.splits) or 'none'}; add validation"
        )
    if points is not None and not 0 <= points <= 100:
        raise InputError(
            f"--drop-dominated takes 0 to 100 points of accuracy, got {points}; correct it"
        )


def open_network(what: str, data: str | None) -> tuple[Experiment, Backbone, Data]:
    """A fitted network with its experiment and images.

    Args:
        what: a run folder, or an experiment with fitted weights.
        data: images to use instead.

    Raises:
        InputError: if it is neither, or the weights are yet to be fitted.
    """
    folder, seed = Path(what), 0
    here = open_run(folder) if folder.is_dir() else None
    if here is not None:
        experiment, seed = here.experiment, here.seed
    else:
        experiment = read_experiment(what)
        if experiment.backbone.weights is None:
            raise InputError(
                f"the experiment {what!r} fits its own backbone, so there is none to record yet; "
                f"run penstock train {what} and give its run folder"
            )
    if data is not None:
        experiment = replace(experiment, data=replace(experiment.data, name=data))
    images = experiment.load(seed)
    backbone = network(experiment, images) if here is None else here.backbone()
    return experiment, backbone, images
