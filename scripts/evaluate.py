"""`penstock evaluate`: the table of a policy, or of an experiment's baselines, at a budget."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.evaluation import evaluate, record
from penstock.agents.policy import Policy
from penstock.agents.sb3 import load_policy
from penstock.agents.scene import Scene
from penstock.backbones import InputError
from penstock.envs import Budget
from penstock.hardware import build_machine, check_machine
from penstock.hardware.bound import is_bound
from penstock.scripts.experiment import Experiment, read_experiment
from penstock.scripts.run import open_run, provenance
from penstock.scripts.streams import as_text as streams_text
from penstock.scripts.streams import judged, recorded_run
from penstock.scripts.table import as_json, as_text
from penstock.scripts.train import network


@dataclass(frozen=True)
class Arguments:
    """Judge a run's policy among everything that needs no learning."""

    run: Positional[str]
    """A run folder; or an experiment's name, then the baselines alone are judged."""
    data: str | None = None
    """Images to use instead."""
    machine: str | None = None
    """Machine to use instead."""
    budget: str | None = None
    """As in energy_j=0.002, or energy_j=50% of the full network."""
    hard: bool = False
    """No input may exceed the budget, rather than their mean."""
    json: bool = False
    """Print one JSON object."""


def run(arguments: Arguments) -> None:
    """Open, judge, print."""
    here = recorded_run(arguments.run)
    if here is not None:
        if arguments.data or arguments.budget or arguments.hard:
            raise InputError(
                "a run that learned on recordings is judged on them over its experiment's budgets, "
                "got --data, --budget or --hard; leave these out"
            )
        found, _ = judged(here, arguments.machine)
        print(json.dumps(found.table()) if arguments.json else streams_text(found))
        return
    policy, scene, experiment, seed = open_scene(arguments.run, arguments.data, arguments.machine)
    budget = experiment.budget
    if arguments.budget is not None:
        budget = read_budget(arguments.budget)
    if arguments.hard:
        budget = replace(budget, kind="hard")
    scene.check(budget, learned=policy is not None)
    with tqdm(desc="record baselines", unit="setting") as bar:
        recorded = record(scene, seed=seed, progress=bar.update)
    with tqdm(desc="judge", unit="image") as bar:
        evaluation = evaluate(policy, scene, recorded, budget, seed=seed, progress=bar.update)
    machine = arguments.machine or experiment.machine
    about = {"machine": machine, "seed": seed, **provenance()}
    print(json.dumps({**as_json(evaluation), **about}) if arguments.json else as_text(evaluation))


def open_scene(
    what: str, data: str | None, machine: str | None
) -> tuple[Policy | None, Scene, Experiment, int]:
    """A run's policy and scene; for an experiment's name, the scene without a policy."""
    folder = Path(what)
    if machine is not None and not is_bound(build_machine(machine)):  # the scene checks those
        check_machine(build_machine(machine))
    if (folder / "experiment.json").is_file():
        here = open_run(folder)
        experiment, seed = here.experiment, here.seed
        scene = here.scene(experiment.load(seed, data), machine)
        lanes = scene.lanes("validation", learned=True, lanes=1)
        return load_policy(lanes, experiment.learner, folder), scene, experiment, seed
    if folder.is_dir():
        raise InputError(
            f"{folder} is no run folder: it has no experiment.json; give a folder that "
            "penstock train made, or an experiment's name"
        )
    experiment, seed = read_experiment(what), 0
    if experiment.backbone.weights is None:
        raise InputError(
            f"the experiment {what!r} fits its own backbone, so there is none to judge yet; "
            f"run penstock train {what} and give its run folder"
        )
    images = experiment.load(seed, data)
    scene = Scene(
        network(experiment, images),
        build_machine(machine or experiment.machine),
        images,
        experiment.stream,
        experiment.learner.hidden,
        experiment.learner.joint,
        experiment.learner.remembers,
    )
    return None, scene, experiment, seed


def read_budget(text: str) -> Budget:
    """A budget from "energy_j=0.002" or "energy_j=50%".

    Raises:
        InputError: if it is neither.
    """
    resource, _, amount = text.partition("=")
    try:
        relative = amount.endswith("%")
        limit = float(amount.rstrip("%")) / (100 if relative else 1)
    except ValueError as error:
        raise InputError(
            f"a budget reads energy_j=0.002 or energy_j=50%, got {text!r}; write it like that"
        ) from error
    return Budget(resource, limit, relative=relative)
