"""The bandwidth falls to a fifth in the middle of a stream: how soon is everyone used to it?

python scripts/reproduce/switch.py runs/cifar10_stream-?

Held-out images and traces, at one price. An input's value is worth - price * cost / full cost. The
optimum after the switch is what priced plans come to where the bandwidth was never higher.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor
from tyro.conf import Positional

from penstock.agents.arena import Arena
from penstock.agents.contenders import BLIND, PLAIN_UCB, PLANS, POLICY, UCB
from penstock.agents.decider import Decider, run_streams
from penstock.agents.learned import Learned
from penstock.agents.linucb import MuLinUcb
from penstock.agents.neurosurgeon import Neurosurgeon, mean_worth
from penstock.agents.primal_dual import Priced
from penstock.agents.sb3 import load_policy
from penstock.backbones import InputError
from penstock.envs import Recording
from penstock.hardware import Split, Switched
from penstock.hardware.link import Link
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, write_claims
from penstock.scripts.run import open_run
from penstock.scripts.streams import arena_of, predictor_of

SMOOTH = 10
"""Inputs over which values are averaged."""


@dataclass(frozen=True)
class Arguments:
    """Claims from finished runs."""

    runs: Positional[tuple[Path, ...]]
    """Folders that `penstock train` made, of one experiment and different seeds."""
    price: float = 0.4
    """Worth that the full network's latency amounts to."""
    streams: int = 100
    """On which everyone is judged, all on the same."""
    share: float = 0.2
    """Of the bandwidth that is left."""
    within: int = 50
    """Inputs in which one should be used to it."""


def main() -> None:
    """Run, compare, write down."""
    arguments = tyro.cli(Arguments)
    recovered: dict[str, list[float]] = {}
    levels: dict[str, list[float]] = {}
    regrets: dict[str, list[float]] = {}
    seeds, machine = [], ""
    for folder in arguments.runs:
        run = open_run(folder)
        seeds.append(run.seed)
        machine = run.experiment.machine
        arena = arena_of(run.experiment)
        predictor = predictor_of(arena, run)
        lanes = arena.lanes("choose", learned=True, lanes=1)
        blind = mean_worth(arena.learn, arena.stream.worth)
        deciders: dict[str, Decider] = {
            POLICY: Learned(load_policy(lanes, run.experiment.learner, run.folder)),
            PLANS: Priced(predictor),
            BLIND: Neurosurgeon(blind),
            PLAIN_UCB: MuLinUcb(blind, plain=True),
            UCB: MuLinUcb(blind),
        }
        # In the middle of a stream of whoever spends the most.
        probe = values(arena, {PLANS: deciders[PLANS]}, arguments, run.seed)[PLANS]
        at_s = float(probe[1].sum(dim=1).median()) / 2
        switched = over(arena, at_s, arguments.share)
        low = over(arena, 1e-9, arguments.share)
        optimum = float(values(low, {PLANS: deciders[PLANS]}, arguments, run.seed)[PLANS][0].mean())
        for name, (value, seconds) in values(switched, deciders, arguments, run.seed).items():
            began_s = seconds.cumsum(dim=1) - seconds
            after = aligned(value, began_s >= at_s)  # [k, inputs after the switch]
            mean = torch.nanmean(after, dim=0).numpy()[: 2 * arguments.within]
            if np.isnan(mean).any():
                raise InputError(
                    f"about {2 * arguments.within} inputs are looked at behind the switch, got "
                    f"{np.isfinite(mean).sum()}; give longer streams, or a lower --within"
                )
            window = np.convolve(mean, np.ones(SMOOTH) / SMOOTH, "valid")
            good = np.flatnonzero(window >= 0.9 * optimum)
            last = slice(arguments.within - SMOOTH, arguments.within)
            recovered.setdefault(name, []).append(float(good[0] + SMOOTH) if len(good) else inf)
            levels.setdefault(name, []).append(float(mean[last].mean()) / optimum)
            regrets.setdefault(name, []).append(float((optimum - mean)[: arguments.within].sum()))
    before = arguments.within - SMOOTH + 1
    claim = Claim(
        f"value of inputs {before} to {arguments.within} behind the switch, % of the optimum",
        100 * float(np.mean(levels[POLICY])),
        90.0,
        ">=",
        "priced plans that never had more",
        seeds,
        machine,
    )
    write_claims("switch", [claim])
    lines = [
        f"At a price of {arguments.price:g}; bandwidth times {arguments.share:g} in the middle of "
        f"streams; means of seeds. Regret is against the optimum, over {arguments.within} inputs. "
        "The optimum is what priced plans come to where the bandwidth was never higher, not a "
        "bound; "
        f"{SMOOTH} inputs are the fewest that can be found.",
        "",
        f"| | inputs until a mean of {SMOOTH} reaches 90 % of the optimum | inputs {before} to "
        f"{arguments.within}, % of it | "
        "regret, right answers |",
        "|---|---|---|---|",
    ]
    for name in levels:
        soon = round(float(np.max(recovered[name])), 1)
        lines.append(
            f"| {name} | {soon if np.isfinite(soon) else 'never'} | "
            f"{100 * np.mean(levels[name]):.1f} | {np.mean(regrets[name]):.2f} |"
        )
    (FOLDER / "switch.md").write_text("\n".join(lines) + "\n")


def over(arena: Arena, at_s: float, share: float) -> Arena:
    """The same over a link whose bandwidth is switched."""

    def switched(recording: Recording) -> Recording:
        machine = recording.runs_on
        assert isinstance(machine, Split)
        link: Link = machine.link
        slower = Switched(link.bandwidth, at_s, share)  # type: ignore[arg-type]
        return replace(recording, runs_on=replace(machine, link=replace(link, bandwidth=slower)))

    return replace(arena, judge=switched(arena.judge))


def values(
    arena: Arena, deciders: Mapping[str, Decider], arguments: Arguments, seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Value and seconds of each input of the same streams, [k, L] both."""
    streams = arena.streams("judge", arguments.streams, seed)
    found = {}
    for name, decider in deciders.items():
        lanes = arena.lanes("judge", learned=name == POLICY, lanes=len(streams))
        full = float(lanes.full.each()[arena.stream.resource])
        each = run_streams(decider, lanes, streams, prices=arguments.price, seed=seed)
        value = each.worth_each - arguments.price * each.cost_each / full
        found[name] = value, each.cost_each
    return found


def aligned(value: Tensor, after: Tensor) -> Tensor:
    """Values behind the first marked input of each stream, NaN where there are none, [k, L]."""
    k, length = value.shape
    first = torch.where(after.any(dim=1), after.to(torch.int8).argmax(dim=1), length)
    place = first.unsqueeze(1) + torch.arange(length)
    padded = torch.cat([value, value.new_full((k, 1), torch.nan)], dim=1)
    return padded.gather(1, place.clamp(max=length))


if __name__ == "__main__":
    sys.exit(guarded(main))
