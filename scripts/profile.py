"""`penstock profile`: how long every part of a network takes on this processor."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from tyro.conf import Positional

from penstock.backbones import Backbone, Block, InputError, Setting, work
from penstock.backbones.block import POLICY
from penstock.backbones.prepared import Prepared, Way, as_it_is, prepare
from penstock.hardware.timings import asked, key, structure
from penstock.scripts.bench import cpu
from penstock.scripts.decisions import Decisions, decisions
from penstock.scripts.pinned import pinned
from penstock.scripts.run import check_file, check_seed, open_backbone, provenance, write_json
from penstock.scripts.stopwatch import Part, Samples, measure, parts

Table = dict[str, Any]


@dataclass(frozen=True)
class Arguments:
    """Time every part of a network on this processor, for the machine `Measured`."""

    backbone: Positional[str]
    """Name of a backbone that ships with Penstock, or a .safetensors file."""
    trust: tuple[str, ...] = ()
    """Modules beside Penstock's own whose functions a file may call to build its network."""
    out: Path = Path("profile.json")
    """The table."""
    batches: tuple[int, ...] = (1, 64)
    """Inputs that are computed together."""
    threads: int = 1
    """To compute with, each on a core of its own."""
    repeats: int = 30
    """How often each setting of each part is run; medians are kept."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden layers of the policy whose decisions are timed."""
    prepared: bool = True
    """Time blocks that were prepared for their setting, as a deployed network runs them."""
    seed: int = 0
    """Of the images and of the order."""


def run(arguments: Arguments) -> None:
    """Measure, write, print."""
    check_seed(arguments.seed)
    check_file(arguments.out)
    for name, numbers in (("batches", arguments.batches), ("hidden", arguments.hidden)):
        if min(numbers, default=0 if name == "batches" else 1) < 1:
            raise InputError(f"{name} are at least 1, got {list(numbers)}; raise them")
    if arguments.repeats < 1:
        raise InputError(f"repeats are at least 1, got {arguments.repeats}; raise them")
    named = arguments.backbone
    table = profile(
        open_backbone(named, arguments.trust),
        batches=arguments.batches,
        threads=arguments.threads,
        repeats=arguments.repeats,
        hidden=arguments.hidden,
        way=prepare if arguments.prepared else as_it_is,
        seed=arguments.seed,
    )
    about = {"backbone": named, "prepared": arguments.prepared, "hidden": list(arguments.hidden)}
    write_json(arguments.out, {**about, **table})
    print(summary(table))
    print(f"table: {arguments.out}", file=sys.stderr)


def profile(
    backbone: Backbone,
    *,
    batches: Sequence[int] = (1, 64),
    threads: int = 1,
    repeats: int = 30,
    hidden: Sequence[int] = (64, 64),
    way: Way = prepare,
    seed: int = 0,
) -> Table:
    """What `penstock profile` writes; the arguments are its options."""
    rng = torch.Generator().manual_seed(seed)
    with pinned(threads) as cores:
        with tqdm(desc="prepare", unit="setting") as bar:
            once = _once(way, bar.update)
            network = list(parts(backbone.eval(), once))
            deciding = decisions(backbone, once, hidden, rng)
        samples = {}
        for n in batches:
            with tqdm(total=repeats + 1, desc=f"batch of {n}", unit="round") as bar:
                images = torch.rand(n, *backbone.shape, generator=rng)
                samples[n] = measure(
                    network,
                    deciding.seconds,
                    images.contiguous(memory_format=torch.channels_last),
                    repeats=repeats,
                    rng=rng,
                    progress=bar.update,
                )
    return {
        "cpu": cpu(),
        "threads": threads,
        "cores": cores,
        "repeats": repeats,
        "seed": seed,
        **provenance(),
        "batches": list(batches),
        "whole": {str(n): _whole(each) for n, each in samples.items()},
        "blocks": {
            **{part.block.name: _rows(part, i, samples) for i, part in enumerate(network)},
            POLICY: _policy(deciding, samples),
        },
    }


def summary(table: Table) -> str:
    """The full network's parts and their sum beside the whole, in microseconds of one input."""
    batches = table["batches"]
    lines = ["us of one input  " + "".join(f"{f'batch of {n}':>16}" for n in batches)]
    for name, block in table["blocks"].items():
        full = block["times"][-1]["batch"]
        each = "".join(f"{1e6 * full[str(n)]['median_s'] / n:16.1f}" for n in batches)
        lines.append(f"{name:17}{each}")
    wholes = [(n, table["whole"][str(n)]) for n in batches]
    for title, entry in (("sum, no policy", "sum_of_table_s"), ("whole network", "median_s")):
        each = "".join(f"{1e6 * whole[entry] / n:16.1f}" for n, whole in wholes)
        lines.append(f"{title:17}{each}")
    ratios = "".join(f"{whole['sum_over_whole']:16.3f}" for _, whole in wholes)
    return "\n".join([*lines, f"{'sum / whole':17}{ratios}"])


def _once(way: Way, progress: Callable[[], object]) -> Way:
    """The same, each block and setting prepared one time only."""
    known: dict[Any, Prepared] = {}

    def again(block: Block, setting: Setting, shape: tuple[int, ...]) -> Prepared:
        which = (block.name, key(asked(block, setting)))
        if which not in known:
            known[which] = way(block, setting, shape)
            progress()
        return known[which]

    return again


def _rows(part: Part, index: int, samples: Mapping[int, Samples]) -> Table:
    """A part's entry in the table."""
    times = [
        {
            "setting": setting,
            "batch": {str(n): _quartiles(each.parts[index][s]) for n, each in samples.items()},
        }
        for s, setting in enumerate(part.settings)
    ]
    return {
        "structure": structure(part.block, part.shape),
        "shape": list(part.shape),
        "macs": work(part.block, {}, part.shape).macs,
        "times": times,
    }


def _policy(deciding: Decisions, samples: Mapping[int, Samples]) -> Table:
    """The entry of one decision of the policy."""
    batch = {str(n): _quartiles(each.decision) for n, each in samples.items()}
    return {
        "structure": "",
        "macs": deciding.macs,
        "times": [{"setting": {}, "batch": batch}],
    }


def _whole(samples: Samples) -> dict[str, float]:
    """The whole network beside the sum of its parts."""
    whole = _quartiles(samples.whole)
    total = sum(float(np.median(settings[-1])) for settings in samples.parts)
    return {**whole, "sum_of_table_s": total, "sum_over_whole": total / whole["median_s"]}


def _quartiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the seconds of a batch."""
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
    return {"median_s": middle, "low_s": low, "high_s": high}
