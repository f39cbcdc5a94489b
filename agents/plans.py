"""Settings block by block that look at no input: skip masks, and what each block can do with least.

All are searched on validation images. Letters: `D` blocks.
"""

from collections.abc import Iterator
from itertools import product
from typing import Final

import torch

from penstock.agents.statics import Array, Plan, run_plan
from penstock.backbones import RUN, Images, Knob
from penstock.envs import Lanes
from penstock.hardware import RESOURCES

EXHAUSTIVE_BLOCKS: Final = 6
"""Up to so many skippable blocks every skip mask is tried; beyond, blocks leave one by one."""

ASSIGNED_IMAGES: Final = 1000
"""Looked at in each trial of an assignment."""


def find_plans(lanes: Lanes, images: Images, *, seed: int = 0) -> list[Plan]:
    """All skip masks, and where a machine has knobs of its own, assignments of all knobs."""
    found = skip_masks(lanes, images, seed=seed)
    own = {knob.name for knob in lanes.machine.knobs}
    if any(knob.name in own for knob in lanes.offered):
        found += assignments(lanes, images, seed=seed)
    return found


def skip_masks(lanes: Lanes, images: Images, *, seed: int = 0) -> list[Plan]:
    """Which blocks to run: all masks of a shallow network, else a greedy path on these images.

    The greedy path drops, one after the other, the block whose loss hurts accuracy least.
    """
    depth, dearest = lanes.backbone.depth, lanes.prices.settings[-1]
    if RUN.name not in {knob.name for knob in lanes.offered}:
        return []

    def plan(mask: tuple[bool, ...]) -> Plan:
        name = "skip " + " ".join(str(i) for i, run in enumerate(mask) if not run)
        return Plan(name, tuple({**dearest, RUN.name: float(run)} for run in mask))

    skippable = [i for i in range(depth) if RUN in lanes.backbone.block(i).knobs]
    if len(skippable) <= EXHAUSTIVE_BLOCKS:
        return [
            plan(tuple(i not in dropped for i in range(depth)))
            for bits in product((True, False), repeat=len(skippable))
            for dropped in [{i for i, run in zip(skippable, bits, strict=True) if not run}]
            if dropped
        ]
    mask, path = [True] * depth, []
    while any(mask[i] for i in skippable):
        trials = {}
        for i in (i for i in skippable if mask[i]):
            trial = plan(tuple(run and j != i for j, run in enumerate(mask)))
            right, _, _ = run_plan(lanes, images, trial.settings, seed=seed)
            trials[i] = right[:, -1].mean()
        mask[max(trials, key=trials.__getitem__)] = False
        path.append(plan(tuple(mask)))
    return path


def assignments(lanes: Lanes, images: Images, *, seed: int = 0) -> list[Plan]:
    """A path from every knob at its dearest to every knob at its cheapest, block by block.

    Each step turns one knob of one block one choice down: the one that saves most of the priced
    resource for each right answer lost. After the fine characterisation of EDEN (Koppula et al.,
    MICRO 2019), here for all knobs but `run`.
    """
    knobs = [knob for knob in lanes.offered if knob.name != RUN.name]
    few = images.take(torch.arange(min(ASSIGNED_IMAGES, len(images))))
    place = RESOURCES.index(lanes.stream.resource)

    def tried(settings: list[dict[str, float]]) -> tuple[float, float]:
        right, _, cost = run_plan(lanes, few, settings, seed=seed)
        return float(right[:, -1].mean()), _mean(cost, place)

    settings = [dict(lanes.prices.settings[-1]) for _ in range(lanes.backbone.depth)]
    accuracy, spent = tried(settings)
    path: list[Plan] = []
    while True:
        best: tuple[float, float, float, list[dict[str, float]]] | None = None
        for trial in _one_down(lanes, settings, knobs):
            right, cost = tried(trial)
            # One answer more or less is chance: counted as half an answer lost at least.
            worth = (spent - cost) / max(accuracy - right, 0.5 / len(few))
            if best is None or worth > best[0]:
                best = worth, right, cost, trial
        if best is None:
            return path
        _, accuracy, spent, settings = best
        path.append(Plan(f"assignment {len(path) + 1}", tuple(settings)))


def _one_down(
    lanes: Lanes, settings: list[dict[str, float]], knobs: list[Knob]
) -> Iterator[list[dict[str, float]]]:
    """Every way to turn one knob of one block to its next cheaper choice."""
    machine = {knob.name for knob in lanes.machine.knobs}
    for index, setting in enumerate(settings):
        own = machine | {knob.name for knob in lanes.backbone.block(index).knobs}
        for knob in knobs:
            at = knob.index(setting.get(knob.name, knob.full))
            if knob.name in own and at > 0:
                lower = {**setting, knob.name: knob.choices[at - 1]}
                yield [*settings[:index], lower, *settings[index + 1 :]]


def _mean(cost: Array, place: int) -> float:
    return float(cost[:, -1, place].mean())
