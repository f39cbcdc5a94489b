"""`penstock sweep`: accuracy and cost at every choice of a machine's knobs, one knob at a time."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from tqdm import tqdm
from tyro.conf import Positional

from penstock.backbones import EXIT, Backbone, Images, InputError, Knob, Setting, load_data
from penstock.backbones.compatible import check_images
from penstock.backbones.errors import did_you_mean
from penstock.hardware import UNITS, Machine, build_machine
from penstock.hardware.bound import check_network
from penstock.hardware.judging import Judged, judge
from penstock.scripts.picture import write_picture
from penstock.scripts.run import check_file, check_seed, open_backbone
from penstock.scripts.table import quantity

DECADE = 10.0
"""Energies that differ by more are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Arguments:
    """Judge a network at every choice of a machine's knobs, one knob at a time."""

    backbone: Positional[str]
    """One that ships with Penstock, or a .safetensors file."""
    data: str
    """Its images: validation images are used."""
    trust: tuple[str, ...] = ()
    """Modules beside Penstock's own whose functions a file may call to build its network."""
    machine: str = "analog"
    """Preset, .toml file or "module:Name"."""
    knobs: tuple[str, ...] = ()
    """To turn, all of the machine's if none is named. One of blocks is turned in all of them."""
    at: tuple[str, ...] = ()
    """Where others stand, as in votes=1 bits=8; the rest stand at full."""
    images: int = 1000
    """How many; the fewer, the faster."""
    seeds: int = 3
    """How often the machine draws anew."""
    seed: int = 0
    """The first of them, and that of the validation images."""
    out: Path = Path("sweep.png")
    """The picture."""


@dataclass(frozen=True, slots=True)
class Row:
    """A choice of a knob, and what each seed gave."""

    knob: str
    choice: float
    judged: tuple[Judged, ...]

    @property
    def right(self) -> tuple[float, float, float]:
        """Mean, lowest and highest accuracy in %."""
        shares = [100 * each.accuracy for each in self.judged]
        return fmean(shares), min(shares), max(shares)

    def mean(self, resource: str) -> float:
        """Of one input."""
        return fmean(float(getattr(each.cost, resource)) for each in self.judged)


def run(arguments: Arguments) -> None:
    """Turn, print, draw."""
    check_seed(arguments.seed)
    if arguments.images < 1 or arguments.seeds < 1:
        raise InputError(
            f"images and seeds are 1 or more, got {arguments.images} and {arguments.seeds}; "
            "raise them"
        )
    check_file(arguments.out)
    backbone = open_backbone(arguments.backbone, arguments.trust)
    machine = build_machine(arguments.machine)
    check_network(machine, backbone)
    known = _known(backbone, machine)
    own = [knob.name for knob in machine.knobs]
    turned = [_named(name, known) for name in arguments.knobs or own]
    if not turned:
        raise InputError(
            f"{arguments.machine} has no knob to turn; name some of the blocks with --knobs: "
            + ", ".join(known)
        )
    still = dict(_stands(text, known) for text in arguments.at)
    data = load_data(arguments.data, seed=arguments.seed)
    check_images(data.validation, backbone)
    images = data.validation.take(range(min(arguments.images, len(data.validation))))
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    runs = len(seeds) * sum(len(knob.choices) for knob in turned)
    with tqdm(total=runs, desc="sweep", unit="run") as bar:
        rows = swept(backbone, images, machine, turned, still, seeds, bar.update)
    where = ", ".join(f"{name} at {value:g}" for name, value in still.items())
    drawn = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    print(
        f"{arguments.backbone} on {arguments.machine}, {len(images)} validation images, {drawn}; "
        f"{where + ', ' if where else ''}other knobs at full\n"
    )
    print(as_text(rows))
    write_picture(arguments.out, draw(rows))
    print(f"picture: {arguments.out}", file=sys.stderr)


def swept(
    backbone: Backbone,
    images: Images,
    machine: Machine,
    knobs: Sequence[Knob],
    still: Setting,
    seeds: Sequence[int],
    progress: Callable[[], object] = lambda: None,
) -> list[Row]:
    """A row for each choice of each knob, the others standing still."""
    rows = []
    for knob in knobs:
        for choice in knob.choices:
            judged = []
            for seed in seeds:
                setting = {**still, knob.name: choice}
                judged.append(judge(backbone, images, machine, setting, seeds=[seed]))
                progress()
            rows.append(Row(knob.name, choice, tuple(judged)))
    return rows


def as_text(rows: Sequence[Row]) -> str:
    """A table for each knob."""
    width = max(len(row.knob) for row in rows) + 8
    lines: list[str] = []
    for before, row in zip((None, *rows), rows, strict=False):
        if before is None or before.knob != row.knob:
            head = f"{row.knob:{width}}   right   (lowest to highest)   energy     latency    sent"
            lines += ["", head] if lines else [head]
        mean, low, high = row.right
        spent = "".join(
            f"{quantity(row.mean(resource)) + UNITS[resource]:11}"
            for resource in ("energy_j", "latency_s", "sent_bytes")
        )
        lines.append(
            f"{row.choice:<{width}g}{mean:6.2f} %  ({low:6.2f} to {high:6.2f})    {spent}".rstrip()
        )
    return "\n".join(lines)


def draw(rows: Sequence[Row]) -> Figure:
    """Accuracy above, from the lowest to the highest seed, energy below; a column for each knob."""
    names = list(dict.fromkeys(row.knob for row in rows))
    figure = Figure(figsize=(1.5 + 3.5 * len(names), 4.8), layout="constrained")
    axes = figure.subplots(2, len(names), sharex="col", sharey="row", squeeze=False)
    for column, name in enumerate(names):
        mine = [row for row in rows if row.knob == name]
        places, (above, below) = range(len(mine)), axes[:, column]
        means = [row.right[0] for row in mine]
        ends = [[r.right[0] - r.right[1] for r in mine], [r.right[2] - r.right[0] for r in mine]]
        above.errorbar(places, means, yerr=ends, marker="o", capsize=3)
        below.plot(places, [row.mean("energy_j") for row in mine], "s-", color="tab:orange")
        below.set_xticks(places, [f"{row.choice:g}" for row in mine], rotation=45)
        below.set_xlabel(name)
        above.grid(alpha=0.3)
        below.grid(alpha=0.3)
    energies = [row.mean("energy_j") for row in rows]
    if 0 < DECADE * min(energies) < max(energies):
        axes[1, 0].set_yscale("log")
    axes[0, 0].set_ylabel("right, %")
    axes[1, 0].set_ylabel("energy of an input")
    axes[1, 0].yaxis.set_major_formatter(EngFormatter("J"))
    return figure


def _known(backbone: Backbone, machine: Machine) -> dict[str, Knob]:
    """What can be turned; exits cannot, as every head answers here."""
    knobs = (*machine.knobs, *backbone.stem.knobs, *backbone.knobs)
    return {knob.name: knob for knob in knobs if knob.name != EXIT.name}


def _named(name: str, known: Mapping[str, Knob]) -> Knob:
    if name not in known:
        raise InputError(
            f"a knob is one of {', '.join(known)}, got {name!r}." + did_you_mean(name, known)
        )
    return known[name]


def _stands(text: str, known: Mapping[str, Knob]) -> tuple[str, float]:
    """A knob and its choice from "votes=1"."""
    name, _, number = text.partition("=")
    choices = _named(name, known).choices
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if value not in choices:
        raise InputError(
            f"{name} stands at one of {', '.join(f'{choice:g}' for choice in choices)}, as in "
            f"{name}={choices[0]:g}, got {text!r}; correct it"
        )
    return name, value
