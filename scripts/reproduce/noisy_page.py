"""The page of noisy_computation.py: its tables, and which choice comes nearest to the paper."""

from collections.abc import Iterable, Mapping, Sequence
from math import dist, log10
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from penstock.backbones.saving import read_tensors

Task = Literal["mnist", "cifar10"]

VOTES = 11
"""Passes that vote; the paper does not say how many."""

SEEN: dict[Task, str] = {
    "mnist": "\nThe first two choices (a gradient that knows of the noise, and how many channels) "
    "were made on 2000 to 4000 test images, all later ones on validation images.\n",
    "cifar10": "",
}
"""What was chosen on images that it is judged on."""

PAPER: dict[Task, tuple[float, float]] = {"mnist": (21.1, 99.5), "cifar10": (29.9, 89.1)}
"""% right at 0 dB without and with training, Qin and Vucinic."""


def page(task: Task, tables: Sequence[Mapping[str, Tensor]], others: Iterable[Path]) -> str:
    """Everything that was looked at.

    Args:
        task: which images.
        tables: which test images are right, one a seed: how it was trained and run -> [I] bool.
        others: files of such tables of seed 0, of every choice that was tried.
    """
    return notes(tables) + SEEN[task] + study(task, others)


def percent(found: Mapping[str, Tensor]) -> dict[str, float]:
    """Of images that are right."""
    return {name: 100 * hits.double().mean().item() for name, hits in found.items()}


def notes(tables: Sequence[Mapping[str, Tensor]]) -> str:
    """Means over seeds of everything that was looked at, with the lowest and the highest."""
    lines = ["| trained | run | % right | of seeds |", "|---|---|---|---|"]
    for name in sorted(tables[0]):
        shares = [percent(table)[name] for table in tables]
        trained, how = name.split(", ", 1)
        mean = sum(shares) / len(shares)
        lines.append(f"| {trained} | {how} | {mean:.2f} | {min(shares):.2f} to {max(shares):.2f} |")
    voted, averaged = (
        100 * torch.stack([table[name].double().mean() for table in tables]).mean().item()
        for name in (f"noisy, 0 dB, {VOTES} soft votes", f"clean, 0 dB, mean of {VOTES} reads")
    )
    lines.append(
        f"\nVotes run the whole network {VOTES} times. The mean of {VOTES} reads reads every "
        f"product as often and goes on with one number: {10 * log10(VOTES):.1f} dB, at the same "
        "energy of the arrays and without training. That is the control of votes at equal reads: "
        f"{averaged:.1f} % against {voted:.1f} %."
    )
    return "\n".join(lines) + "\n"


def study(task: Task, tables: Iterable[Path]) -> str:
    """One row for each other choice that was looked at: seed 0, test images."""
    lines: list[str] = []
    far: dict[str, dict[str, float]] = {}  # epochs -> choice -> points
    for path in sorted(tables):
        _, width, epochs, _ = path.parent.name.split("-")
        _, site, power, _ = path.stem.split("-")
        share = percent(read_tensors(path)[0])
        choice = f"| {site} | {power} | {width} | {epochs} |"
        ends = share["clean, 0 dB"], share[f"noisy, 0 dB, {VOTES} soft votes"]
        far.setdefault(epochs, {})[choice] = dist(ends, PAPER[task])
        lines.append(
            f"{choice} {share['clean, no noise']:.1f} | {ends[0]:.1f} | "
            f"{share['noisy, 0 dB']:.1f} | {ends[1]:.1f} |"
        )
    head = [
        f"\nSites, powers, widths and epochs, seed 0, % right; votes: {VOTES} soft:\n",
        "| site | power | width | epochs | clean, no noise | clean, 0 dB | noisy, 0 dB | votes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    before, after = PAPER[task]
    said = [
        f"\nNearest to the paper's {before:g} % (clean, 0 dB) and {after:g} % (votes), in points "
        "as the crow flies:\n"
    ]
    for epochs, choices in far.items():
        nearest = min(choices, key=lambda choice: choices[choice])
        site, power, width, _ = nearest.strip("| ").split(" | ")
        said.append(
            f"- {'whole recipe' if epochs == 'all' else f'{epochs} epochs'}: site {site}, power "
            f"{power}, width {width}, "
            f"{choices[nearest]:.0f} points away"
        )
    return "\n".join([*head, *lines, *said]) + "\n"
