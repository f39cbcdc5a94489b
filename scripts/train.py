"""`penstock train`: fit a backbone if need be, learn a policy, judge it."""

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tyro.conf import Positional

from penstock.agents.sb3 import train
from penstock.agents.scene import Scene
from penstock.backbones import Backbone, Call, Data, InputError, build, load, save, shipped
from penstock.backbones.backbone import RunAt, exactly_at
from penstock.backbones.training import check_fit, fit
from penstock.hardware import build_machine, check_machine
from penstock.hardware.bound import is_bound
from penstock.scripts.experiment import Experiment, read_experiment
from penstock.scripts.judge import judge
from penstock.scripts.run import Run, check_seed, make_run
from penstock.scripts.streams import learn


@dataclass(frozen=True)
class Arguments:
    """Fit a backbone if need be, learn a policy, judge it among its baselines."""

    experiment: Positional[str]
    """A shipped name (see `penstock list`) or a .toml file."""
    data: str | None = None
    """Images to use instead: "digits", a parquet file or folder, an image folder, a hub name."""
    machine: str | None = None
    """Machine to use instead: a preset, a .toml file, or "module:Name"."""
    recording: str | None = None
    """Folder that `penstock record` wrote, to learn on instead of running the network."""
    steps: int | None = None
    """Decisions to learn from, instead of the experiment's."""
    seed: int = 0
    """Of everything."""
    out: Path | None = None
    """The run folder; runs/EXPERIMENT-SEED if not given."""
    resume: bool = False
    """Go on with the run in that folder."""


def run(arguments: Arguments) -> None:
    """Load, fit, learn, judge."""
    check_seed(arguments.seed)
    experiment = override(read_experiment(arguments.experiment), arguments)
    folder = arguments.out or Path("runs") / f"{Path(arguments.experiment).stem}-{arguments.seed}"
    torch.manual_seed(arguments.seed)
    if experiment.recording is not None:
        learn(experiment, folder, arguments.seed, resume=arguments.resume)
        return
    data = experiment.load(arguments.seed)
    machine = build_machine(experiment.machine)
    fresh = network(experiment, data)
    check_machine(machine, backbone=fresh if is_bound(machine) else None)
    # Everything is checked before anything is written.
    learner, budget = experiment.learner, experiment.budget
    rehearse = Scene(
        fresh,
        machine,
        data,
        experiment.stream,
        learner.hidden,
        learner.joint,
        learner.remembers,
    )
    rehearse.lanes(experiment.learn_on, learned=True, lanes=1)
    rehearse.check(budget, learned=True)
    if experiment.backbone.weights is None:
        check_fit(fresh, data, experiment.fitting)
        if experiment.exposure is not None:
            experiment.exposure.run_at(machine, fresh)

    here = make_run(folder, experiment, arguments.seed, resume=arguments.resume)
    print(f"run folder: {here.folder}", file=sys.stderr)
    if not here.weights.exists():
        put_backbone(here, fresh, data, resume=arguments.resume)
    scene = here.scene(data)
    lanes = scene.lanes(
        experiment.learn_on, learned=True, lanes=experiment.learner.lanes, seed=arguments.seed
    )
    policy = train(
        lanes,
        experiment.learner,
        here.folder,
        seed=arguments.seed,
        resume=arguments.resume,
        about={**flat(experiment.table()), "seed": arguments.seed},
    )
    judge(policy, scene, here)


def override(experiment: Experiment, arguments: Arguments) -> Experiment:
    """The experiment with what was said on the command line."""
    if arguments.data is not None:
        experiment = replace(experiment, data=replace(experiment.data, name=arguments.data))
    if arguments.machine is not None:
        experiment = replace(experiment, machine=arguments.machine)
    if arguments.recording is not None:
        experiment = replace(experiment, recording=arguments.recording)
    if arguments.steps is not None:
        experiment = replace(experiment, learner=replace(experiment.learner, steps=arguments.steps))
    return experiment


def network(experiment: Experiment, data: Data) -> Backbone:
    """The experiment's backbone: fitted, or fresh for its images."""
    chosen = experiment.backbone
    if chosen.weights is not None:
        path = Path(chosen.weights)
        if path.suffix == ".safetensors":
            trusted = chosen.builder.partition(":")[0]
            backbone = load(path, trusted=("penstock.backbones", trusted))
        else:
            backbone = shipped(chosen.weights)
    else:
        arguments = {"classes": len(data.train.classes), **chosen.arguments}
        backbone = build(Call(chosen.builder, arguments))
    if backbone.classes != len(data.train.classes):
        raise InputError(
            f"the network knows {backbone.classes} classes, the data has "
            f"{len(data.train.classes)}; choose weights or a builder for this data"
        )
    return backbone


def put_backbone(here: Run, backbone: Backbone, data: Data, *, resume: bool) -> None:
    """Leave fitted weights in the run folder."""
    if here.experiment.backbone.weights is not None:
        save(backbone, here.weights)
        return
    folder, exposure = here.folder / "fit", here.experiment.exposure
    run_at: RunAt = exactly_at
    about = ""
    if exposure is not None:
        machine = build_machine(here.experiment.machine)
        run_at = exposure.run_at(machine, backbone)
        about = f"{exposure} on {machine}"  # as it is now: its file may change before a resumption
    fit(
        backbone,
        data,
        here.experiment.fitting,
        folder,
        seed=here.seed,
        resume=resume,
        run_at=run_at,
        about=about,
    )
    shutil.move(folder / "backbone.safetensors", here.weights)


def flat(table: object, prefix: str = "") -> dict[str, object]:
    """Nested entries under dotted names."""
    if not isinstance(table, dict):
        return {prefix: table}
    entries: dict[str, object] = {}
    for name, value in table.items():
        entries |= flat(value, f"{prefix}.{name}".lstrip("."))
    return entries
