"""The figures of a run's page, each drawn for a wide window and for a narrow one."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from penstock.agents.contenders import POLICY
from penstock.agents.decided import GROUPS, Decided
from penstock.agents.decider import Streams
from penstock.agents.pictures import STYLES, draw_score, draw_stream
from penstock.agents.prices import BudgetPrices
from penstock.agents.score import Score
from penstock.hardware import UNITS
from penstock.scripts.curves import Curve, price_names
from penstock.scripts.ranking import SLACK
from penstock.scripts.setting import amount, noun

WIDE, NARROW = 10.4, 3.6
"""Inches."""


def frontier_figure(
    score: Score, intervals: Sequence[tuple[float, float]], *, narrow: bool
) -> Figure:
    """Utility of all contenders against the budget, the policy's with its intervals [B, 2]."""
    figure = draw_score(score)
    (axes,) = figure.axes
    share = 100 * score.budgets / score.full
    low, high = 100 * np.array(intervals).T
    axes.fill_between(share, low, high, color=STYLES[POLICY]["color"], alpha=0.15, linewidth=0)
    policy = score.row(POLICY)
    over = policy.cost > SLACK
    hollow = {"markerfacecolor": "white", "markeredgecolor": STYLES[POLICY]["color"], "zorder": 6}
    axes.plot(share[over], 100 * policy.utility[over], "o", markersize=6, **hollow)
    axes.set_xlabel(f"mean {noun(score.resource)} of an input, % of full")
    _legend_below(figure, axes, 2 if narrow else 4)
    figure.set_size_inches(NARROW if narrow else WIDE, 4.8)
    if narrow:
        axes.tick_params(axis="x", labelsize=7, rotation=45)
    return figure


def stream_figure(streams: Streams, resource: str, *, narrow: bool) -> Figure:
    """What the first stream met, took and answered."""
    figure = draw_stream(streams, resource)
    figure.set_size_inches(NARROW if narrow else WIDE, figure.get_figheight())
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            legend.remove()
            corner = 1 if narrow else 0
            axes.legend(
                loc=("lower left", "lower right")[corner],
                bbox_to_anchor=(corner, 1),
                fontsize=7,
                ncols=3,
                frameon=False,
            )
    spent, exits = figure.axes[-2:]
    spent.set_ylabel(noun(resource), fontsize=7)
    spent.yaxis.set_major_formatter(EngFormatter(UNITS[resource]))
    blocks = sorted(set(streams.exit_each[0].tolist()))
    exits.set_yticks(blocks, ["dropped" if block < 0 else str(block) for block in blocks])
    exits.set_ylim(blocks[0] - 0.6, blocks[-1] + 0.6)
    exits.xaxis.label.set_fontsize(8)
    return figure


def difficulty_figure(
    decided: Decided, group: torch.Tensor, full: float, resource: str, *, narrow: bool
) -> Figure:
    """Where inputs of each difficulty were answered, how many right, and at what cost."""
    size = (NARROW, 7.4) if narrow else (WIDE, 3.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(3, 1) if narrow else figure.subplots(1, 3)
    where, right, cost = grid
    x = np.arange(GROUPS)
    names = ["easiest", *map(str, range(2, GROUPS)), "hardest"]
    exits = sorted(set(decided.exit.tolist()), key=lambda block: (block < 0, block))
    colours = colormaps["viridis"](np.linspace(0.8, 0.15, len(exits)))
    below = np.zeros(GROUPS)
    for block, colour in zip(exits, colours, strict=True):
        share = _mean((decided.exit == block).double(), group)
        label = "dropped" if block < 0 else f"block {block}"
        shade = "0.75" if block < 0 else colour
        where.bar(x, 100 * share, bottom=100 * below, color=shade, width=0.75, label=label)
        below += share
    where.set_ylabel("answered after, %")
    where.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8, ncols=3, frameon=False)
    for axes, values, colour, label in (
        (right, 100 * _mean(decided.right.double(), group), "#008176", "answered right, %"),
        (cost, 100 * _mean(decided.cost, group) / full, "#0000a7", f"{noun(resource)}, % of full"),
    ):
        bars = axes.bar(x, values, color=colour, width=0.75, alpha=0.85)
        axes.bar_label(bars, [f"{value:.1f}" for value in values], fontsize=8, padding=1)
        axes.set_ylabel(label)
        axes.margins(y=0.12)
    for axes in grid:
        axes.set_xticks(x, names)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def price_figure(prices: BudgetPrices, full: float, resource: str, *, narrow: bool) -> Figure:
    """The price that meets each budget."""
    figure = Figure(figsize=(NARROW if narrow else 6.0, 3.0), layout="constrained")
    axes = figure.subplots()
    share = 100 * prices.budgets.numpy() / full
    axes.plot(share, prices.prices.numpy(), "o-", color=STYLES[POLICY]["color"], markersize=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"mean {noun(resource)} of an input, % of full")
    axes.set_ylabel("price")
    axes.grid(alpha=0.3)
    return figure


def learning_figure(curves: Mapping[str, Curve], resource: str, *, narrow: bool) -> Figure:
    """What was logged while the policy learned, a panel a kind.

    Args:
        curves: TensorBoard's scalars by name.
        resource: that the price is on.
        narrow: for a narrow window.
    """
    panels: list[tuple[str, list[str]]] = [
        ("answered right, %", ["policy/accuracy"]),
        (f"{noun(resource)}, % of full", [f"cost/{resource}_share"]),
        ("price", price_names(curves)),
        ("overspent, % of budget", ["price/overshoot"]),
    ]
    shown = [(label, [n for n in names if n in curves]) for label, names in panels]
    shown = [(label, names) for label, names in shown if names]
    columns = 1 if narrow else min(2, len(shown))
    rows = -(-len(shown) // columns)
    size = (NARROW, 2.3 * rows + 0.4) if narrow else (WIDE, 2.8 * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (label, names) in zip(grid, shown, strict=False):
        _panel(axes, label, names, curves, resource)
    return figure


def _panel(
    axes: Axes, label: str, names: Sequence[str], curves: Mapping[str, Curve], resource: str
) -> None:
    priced = len(names) > 1
    colours = colormaps["viridis"](np.linspace(0.95, 0.05, len(names)))
    told = (names[0], names[len(names) // 2], names[-1])
    for name, colour in zip(names, colours, strict=True):
        steps, values = curves[name]
        scale = 1 if label == "price" else 100
        shown = amount(float(name.partition("/")[2]), resource) if priced and name in told else None
        axes.plot(
            np.array(steps) / 1000,
            scale * np.array(values),
            ".-",
            color=colour if priced else STYLES[POLICY]["color"],
            markersize=4,
            linewidth=1.2,
            label=shown,
        )
    if priced:
        axes.set_yscale("symlog", linthresh=0.01)  # a budget that needs no price has 0
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(fontsize=7, title="budget of an input", title_fontsize=7)
    axes.set_ylabel(label, fontsize=9)
    axes.set_xlabel("thousand decisions learned from", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _mean(values: torch.Tensor, group: torch.Tensor) -> NDArray[np.float64]:
    """Of each group, [GROUPS]; 0 of an empty one."""
    sums = torch.zeros(GROUPS, dtype=torch.float64).index_add_(0, group, values)
    means: NDArray[np.float64] = (sums / group.bincount(minlength=GROUPS).clamp(min=1)).numpy()
    return means


def _legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend under the figure, where it covers no curve."""
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )
