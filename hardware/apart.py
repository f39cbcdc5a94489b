"""Lanes of one job that are run in two places, and put together again.

Letters: `n` lanes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from penstock.hardware.cost import RESOURCES, Cost, Job
from penstock.hardware.machine import State

RunJob = Callable[[Job, State, torch.Generator], tuple[Tensor, Cost, State]]
"""As a machine runs a job."""


def run_apart(
    job: Job, state: State, rng: torch.Generator, places: Sequence[tuple[Tensor, RunJob]]
) -> tuple[Tensor, Cost, State]:
    """Run each lane in its place, all lanes of a place as one batch.

    Args:
        job: of n lanes.
        state: of them.
        rng: handed on.
        places: which lanes [n] bool, and who runs them; each lane has one place.
    """
    parts = []
    for here, run in places:
        rows = here.nonzero().squeeze(1)
        if len(rows) == len(job.x):
            return run(job, state, rng)
        if len(rows):
            own = {name: value[rows] for name, value in state.items()}
            parts.append((rows, *run(_some(job, rows), own, rng)))
    order = torch.cat([rows for rows, *_ in parts]).argsort()

    def amounts(name: str) -> Tensor:
        each = [_per_lane(cost.each()[name], len(rows)) for rows, _, cost, _ in parts]
        return torch.cat(each)[order]

    outputs = torch.cat([y for _, y, _, _ in parts])[order.to(job.x.device)]
    joined = {name: torch.cat([own[name] for *_, own in parts])[order] for name in state}
    return outputs, Cost(**{name: amounts(name) for name in RESOURCES}), joined


def _some(job: Job, rows: Tensor) -> Job:
    """A job for some of its lanes."""
    setting = {k: v[rows] if isinstance(v, Tensor) else v for k, v in job.setting.items()}
    return replace(job, x=job.x[rows.to(job.x.device)], setting=setting)


def _per_lane(amount: Tensor | float, n: int) -> Tensor:
    return torch.as_tensor(amount, dtype=torch.float64).expand(n)  # [n]
