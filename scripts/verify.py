"""`penstock verify`: replay decisions live, and compare them with what was recorded."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.agreement import Agreement, compare
from penstock.agents.recordings import Part, network_digest, open_recordings, pixels_digest
from penstock.backbones import Backbone, Data, Images, InputError
from penstock.envs import Lanes, Live, Recording, Stream
from penstock.hardware import UNITS, build_machine
from penstock.scripts.experiment import experiment_names
from penstock.scripts.record import open_network
from penstock.scripts.run import check_seed, provenance
from penstock.scripts.table import quantity

LANES = 64
"""Inputs that are in flight at once."""


@dataclass(frozen=True)
class Arguments:
    """Replay decisions live, and compare them with what was recorded."""

    recording: Positional[Path]
    """A folder that penstock record wrote, or one file of it."""
    run: str | None = None
    """Run folder or experiment with the network, if it no longer lies where it lay."""
    data: str | None = None
    """The images, if they no longer lie where they did."""
    machine: str | None = None
    """The machine, if it is not one of Penstock's own, or has other links now."""
    decisions: int = 1000
    """At least, for each split; drawn at random among those allowed."""
    seed: int = 0
    """Of streams and decisions."""
    json: bool = False
    """Print one JSON object."""


def run(arguments: Arguments) -> None:
    """Open, replay, print; exit status 1 where live and recorded disagree."""
    check_seed(arguments.seed)
    if arguments.decisions < 1:
        raise InputError(f"decisions are 1 or more, got {arguments.decisions}; raise them")
    path = arguments.recording
    machine = None if arguments.machine is None else build_machine(arguments.machine)
    opened = open_recordings(path, machine)
    about = next(iter(opened.found.values())).about
    what = arguments.run or about["what"]
    if arguments.run is None and what not in experiment_names() and not Path(what).exists():
        raise InputError(
            f"{path} was recorded from {what}, which is not there; name the run folder or the "
            "experiment with --run"
        )
    data = arguments.data or about["experiment"]["data"]["name"]
    experiment, backbone, images = open_network(what, data)
    if network_digest(backbone) != about["network"]:
        raise InputError(
            f"{what} holds other weights than those that {path} was recorded with; name the run or "
            "experiment that has them with --run, or record again"
        )
    found: dict[Part, Agreement] = {}
    total = arguments.decisions * len(opened.found)
    with tqdm(desc="verify", total=total, unit="decision") as bar:
        for split, recording in opened.found.items():
            live, rules = _live(recording, backbone, images), _rules(recording, experiment.stream)
            found[split] = compare(
                Lanes(live, rules, lanes=LANES, controller=None, seed=arguments.seed),
                Lanes(recording, rules, lanes=LANES, controller=None, seed=arguments.seed),
                recording.table.offered,
                decisions=arguments.decisions,
                seed=arguments.seed,
                progress=bar.update,
            )
    agrees = not any(each.objection() for each in found.values())
    if arguments.json:
        splits = {split: each.table() for split, each in found.items()}
        print(
            json.dumps({"agrees": agrees, "splits": splits, "seed": arguments.seed, **provenance()})
        )
    else:
        print(as_text(found))
    for split, each in found.items():
        if objection := each.objection():
            sys.exit(
                f"penstock: {split} inputs do not come out as they were recorded: {objection}; "
                "record them again, or name the machine that they were recorded on"
            )


def as_text(found: Mapping[Part, Agreement]) -> str:
    """A column for each split."""
    rows: dict[str, list[str]] = {"": list(found)}

    def add(name: str, words: str) -> None:
        rows.setdefault(name, []).append(words)

    for each in found.values():
        add("decisions", str(each.decisions))
        add("same choices allowed", f"{100 * each.equal_masks:.2f} %")
        add("answers", str(each.answers))
        add("same answer right", f"{100 * each.equal_right:.2f} %")
        utility, half = each.utility, f" +- {100 * each.utility.half:.2f}" if each.errs else ""
        add("utility live, %", f"{100 * utility.live:.2f}")
        add("utility recorded, %", f"{100 * utility.recorded:.2f}")
        add("  difference, points", f"{100 * utility.difference:+.2f}{half}")
        for resource, pair in each.cost.items():
            if pair.live or pair.recorded:
                share, sure = 100 * pair.share(pair.difference), 100 * pair.share(pair.half)
                add(resource, f"{quantity(pair.live)}{UNITS[resource]}")
                add(
                    "  difference of " + resource, f"{share:+.3f} %" + f" +- {sure:.3f}" * each.errs
                )
        if not each.errs:
            add("largest difference seen", f"{each.seen:.1g} in {each.column}")
    lines = [f"{name:28}" + "".join(f"{words:28}" for words in row) for name, row in rows.items()]
    if any(each.errs for each in found.values()):
        lines += [
            "",
            "The machine errs: live and recorded are different draws, so answers may differ; means",
            "are compared, with 95 % intervals.",
        ]
    return "\n".join(line.rstrip() for line in lines)


def _live(recording: Recording, backbone: Backbone, data: Data) -> Live:
    """The network over the inputs that were recorded, in their order."""
    split = recording.about["split"]
    images: Images = getattr(data, split)
    numbers = recording.numbers
    known = int(numbers.max()) < len(images)
    if not known or pixels_digest(images.take(torch.unique(numbers))) != recording.about["pixels"]:
        raise InputError(
            f"the {split} images are not those that were recorded; give these with --data, and the "
            "run or experiment that split them with --run"
        )
    return Live(backbone, recording.machine, images.take(numbers))


def _rules(recording: Recording, stream: Stream) -> Stream:
    """A stream in which just what was recorded can be decided."""
    choices: dict[str, Sequence[float]] = {
        name: (value,) for name, value in recording.fixed.items()
    }
    choices |= {knob.name: knob.choices for knob in recording.knobs}
    return replace(stream, stages=recording.first, choices=choices)
