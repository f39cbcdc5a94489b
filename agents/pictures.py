"""Pictures of streams: utility against budget, and what one stream met and was decided."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from penstock.agents.decider import Streams
from penstock.agents.score import Score
from penstock.hardware import UNITS

STYLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "policy": {"color": "#c1272d", "marker": "o", "linewidth": 2, "markersize": 4, "zorder": 5},
    "time-sharing hull": {"color": "black", "linestyle": "--", "linewidth": 1.2},
    "label oracle": {"color": "#008176", "linestyle": ":", "linewidth": 1.2},
    "realisable oracle": {"color": "#008176", "linestyle": "-.", "linewidth": 1.2},
    "primal-dual bandit": {"color": "#0000a7", "marker": "s", "linewidth": 1.2, "markersize": 3},
    "random": {"color": "#eecc16", "marker": "^", "linewidth": 0.8, "markersize": 4},
}
"""Of contenders that stand out; the others are drawn thin."""

SHOWN: Final = {
    "machine_log10_bps": "bandwidth, log10 bit/s",
    "battery": "battery, share",
    "harvest": "harvest, share",
    "waiting": "waiting inputs, share",
    "delay": "delay, share of deadline",
    "price": "price",
}
"""What a stream met, and its label."""


def draw_score(score: Score) -> Figure:
    """Utility of every contender against the mean cost that it was allowed."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    share = 100 * score.budgets / score.full
    for row in score.rows:
        style = {"linewidth": 0.9, "alpha": 0.8, **STYLES.get(row.name, {})}
        axes.plot(share, 100 * row.utility, label=row.name, **style)
    inside = share[score.inside]
    for low, high in ((share[0], inside[0]), (inside[-1], share[-1])):
        axes.axvspan(low, high, color="0.93", zorder=0)
    axes.set_xscale("log")
    ticks = [float(f"{value:.2g}") for value in share]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    what = score.resource.rpartition("_")[0] or "work"
    axes.set_xlabel(
        f"mean {what} of an input, % of the full network's "
        f"({score.full:.3g} {UNITS[score.resource]}); grey: beyond what was learned for"
    )
    axes.set_ylabel("utility, % of an input's worth")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=7, ncols=2)
    return figure


def draw_stream(streams: Streams, resource: str, which: int = 0) -> Figure:
    """One stream, input by input: what it met, what it took, and after which block it answered."""
    met = [name for name in SHOWN if name in streams.trace]
    figure = Figure(figsize=(8, 1.6 + 1.3 * (len(met) + 2)), layout="constrained")
    panels = figure.subplots(len(met) + 2, 1, sharex=True, squeeze=False)[:, 0]
    inputs = np.arange(streams.inputs.shape[1])
    for panel, name in zip(panels, met, strict=False):
        panel.plot(inputs, streams.trace[name][which].numpy(), linewidth=1)
        panel.set_ylabel(SHOWN[name], fontsize=7)
    spent, exits = panels[-2:]
    cost = streams.cost_each[which].numpy()
    mean = cost.cumsum() / (inputs + 1)
    spent.plot(inputs, cost, ".", markersize=2, color="0.6", label="each input")
    spent.plot(inputs, mean, linewidth=1.5, color="#c1272d", label="mean so far")
    limit = float(streams.limit[which])
    if np.isfinite(limit):
        spent.axhline(limit, color="black", linestyle="--", linewidth=1, label="budget")
    spent.set_ylabel(f"{resource}", fontsize=7)
    spent.legend(fontsize=6, loc="upper right", ncols=3)
    worth = streams.worth_each[which].numpy() > 0.5
    exit_ = streams.exit_each[which].numpy()
    for mask, colour, label in ((worth, "#008176", "right"), (~worth, "#c1272d", "wrong or late")):
        exits.plot(inputs[mask], exit_[mask], "|", color=colour, markersize=7, label=label)
    exits.set_ylabel("answered after block", fontsize=7)
    exits.legend(fontsize=6, loc="upper right", ncols=2)
    exits.set_xlabel("input of the stream")
    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    return figure
