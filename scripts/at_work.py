"""A finished run's policy at work once more, on what it is judged on, to see what it decides."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from penstock.agents.contenders import FEW, priced
from penstock.agents.decided import Decided, Noting, difficulty
from penstock.agents.decider import Streams, observed, run_streams
from penstock.agents.learned import Learned
from penstock.agents.prices import BudgetPrices
from penstock.agents.recordings import pixels_digest
from penstock.agents.sb3 import load_policy
from penstock.agents.score import budget_grid
from penstock.backbones import Images, InputError
from penstock.envs import Lanes
from penstock.scripts.experiment import Source, from_table
from penstock.scripts.run import Run
from penstock.scripts.streams import arena_of, judged_range

MOST: Final = 2000
"""Inputs of a network that is run, of which decisions are looked at."""

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class AtWork:
    """What a policy decided. `I` inputs."""

    lanes: Lanes
    """The engine."""
    images: Images
    """The inputs, [I]."""
    decided: Decided
    streams: Streams
    hard: Tensor  # [I] see `penstock.agents.decided.difficulty`
    where: str
    """At which budget, in words."""
    prices: BudgetPrices | None
    """By budget, where they were read off for streams."""
    about: Mapping[str, Any]
    """What a recording says of itself; empty where the network is run."""


def live(here: Run, data: str | None, price: float, progress: Progress) -> AtWork:
    """On test images, at the price at which the run was judged.

    Args:
        here: the run, which runs its network.
        data: images to use instead.
        price: at which it was judged.
        progress: called with the number of inputs that are over.
    """
    experiment = here.experiment
    scene = here.scene(experiment.load(here.seed, data))
    if experiment.budget.kind == "hard":
        scene = scene.under(experiment.budget)
    count, length = min(MOST, len(scene.data.test)), scene.stream.inputs_per_episode
    if count < length:
        raise InputError(
            f"a stream of {length} inputs needs as many images, got {count}; give more with --data"
        )
    images = scene.data.test.take(torch.arange(count // length * length))
    streams = torch.arange(len(images)).view(-1, length)
    scene = replace(scene, data=replace(scene.data, test=images))
    lanes = scene.lanes("test", learned=True, lanes=min(500, len(streams)), seed=here.seed)
    noting = Noting(Learned(load_policy(lanes, experiment.learner, here.folder)))
    found = run_streams(
        noting,
        lanes,
        streams,
        prices=price,
        seed=here.seed,
        trace=observed(lanes),
        progress=progress,
    )
    where = "at the price at which it meets its budget"
    return AtWork(lanes, images, noting.decided(), found, difficulty(lanes), where, None, {})


def recorded(here: Run, data: str | None, progress: Progress) -> AtWork:
    """On recorded streams, at the budget in the middle of those at which the run was judged.

    Args:
        here: the run, which learned on recordings.
        data: images to show instead of those that the recording names.
        progress: called with the number of inputs that are over.

    Raises:
        InputError: if the recordings or their images cannot be found.
    """
    experiment = here.experiment
    arena = arena_of(experiment)
    budgets, inside = budget_grid(*judged_range(experiment, arena))
    judge, learner, count = arena.judge, experiment.learner, experiment.streams
    images = _recorded_images(here, judge.about, judge.numbers, data)
    loading = arena.lanes("choose", learned=True, lanes=1)
    learned = Learned(load_policy(loading, learner, here.folder))
    span = float(budgets[inside][0]), float(budgets[inside][-1])
    few = min(FEW, count)
    prices = priced(learned, arena, span, few, here.seed, learned=True, progress=progress)
    judged = arena.under(float(budgets[0]), float(budgets[-1]))
    lanes = judged.lanes("judge", learned=True, lanes=count)
    noting, middle = Noting(Learned(learned.policy, prices)), float(np.median(budgets))
    found = run_streams(
        noting,
        lanes,
        judged.streams("judge", count, here.seed),
        limits=torch.full((count,), middle, dtype=torch.float64),
        seed=here.seed,
        trace=observed(lanes),
        progress=progress,
    )
    share = middle / float(lanes.full.each()[lanes.stream.resource])
    where = f"at a budget of {100 * share:.0f} % of the full network's cost"
    hard = difficulty(lanes)
    return AtWork(lanes, images, noting.decided(), found, hard, where, prices, judge.about)


def _recorded_images(
    here: Run, about: Mapping[str, Any], numbers: Tensor, data: str | None
) -> Images:
    """The images that were recorded, one an input, [I]."""
    source: Source = from_table(Source, about["experiment"]["data"], "the recording's data")
    source = replace(source, name=data or source.name)
    fitted_before = here.experiment.backbone.weights is not None
    images = source.load(0 if fitted_before else here.seed).test
    met = torch.from_numpy(np.unique(numbers.numpy()))
    if int(met[-1]) >= len(images) or pixels_digest(images.take(met)) != about["pixels"]:
        raise InputError(
            f"the test images of {source.name} should be those that were recorded, and are others; "
            "give the data that were recorded with --data"
        )
    return images.take(numbers)


def read_table(here: Run) -> dict[str, Any]:
    """What a finished run was judged as.

    Raises:
        InputError: if it was not, or the file cannot be read.
    """
    path = here.evaluation
    if here.experiment.recording is not None:
        path = here.folder / "score.json"
    if not path.is_file():
        raise InputError(
            f"{here.folder} should hold {path.name}, which a run leaves when it has ended; finish "
            "it with penstock train --resume"
        )
    try:
        table: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(
            f"{path} should be JSON that penstock train wrote, but: {error}; judge the run again "
            "with penstock train --resume"
        ) from error
    return table
