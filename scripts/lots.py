"""What `penstock record` records, split by split: told beforehand, gone on with, finished."""

import json
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from penstock.agents.dominated import in_words, kept_choices, thinned, thinned_table
from penstock.agents.recordings import (
    OWN,
    PARTS,
    PASSING,
    Part,
    difference,
    network_digest,
    pixels_digest,
    read_about,
)
from penstock.agents.scene import Scene
from penstock.backbones import InputError
from penstock.envs import Live, Stream
from penstock.envs.record import Recorder, record_outcomes
from penstock.envs.recording import write_recording
from penstock.hardware.build import Table
from penstock.hardware.parts import at_part
from penstock.scripts.experiment import Experiment
from penstock.scripts.run import provenance, write_json

MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Lot:
    """One split of the images, to be recorded."""

    split: Part
    live: Live
    stream: Stream
    """Gives stages and choices."""
    numbers: Tensor  # [I] which of the images
    path: Path
    """The recording."""
    about: Mapping[str, Any]

    @property
    def batches(self) -> Path:
        """Where finished batches are kept until the recording is whole."""
        return self.path.with_name(f".{self.path.stem}.parts")

    @property
    def plan(self) -> dict[str, Any]:
        """What of `about` holds for the same command at another time."""
        return {name: value for name, value in self.about.items() if name not in PASSING}


@dataclass(frozen=True, slots=True)
class Choice:
    """What is recorded of an experiment."""

    splits: Sequence[Part]
    images: int | None
    """Of each split at most so many."""
    draws: int
    """How often each."""
    seed: int
    drop_dominated: float | None
    """Points of accuracy; None leaves everything in."""


def lots(
    what: str, experiment: Experiment, scene: Scene, choice: Choice, folder: Path
) -> list[Lot]:
    """What is to be recorded, validation images first where they decide what is dropped."""
    table = experiment.table()
    about = {
        "what": what,
        "seed": choice.seed,
        "images": choice.images,
        "draws": choice.draws,
        "drop_dominated": choice.drop_dominated,
        "machine": described(experiment.machine),
        "network": network_digest(scene.backbone),
        "experiment": table,
        "experiment_sha256": sha256(json.dumps(table, sort_keys=True).encode()).hexdigest(),
        **provenance(),
    }
    about = json.loads(json.dumps(about, default=str))  # as it will be read
    found = []
    splits = [split for split in PARTS if split in choice.splits]
    if choice.drop_dominated is not None:
        splits.sort(key=lambda split: split != "validation")
    for split in splits:
        images = scene.images(split)
        numbers = drawn(len(images), choice.images, choice.seed)
        own = {"split": split, "pixels": pixels_digest(images.take(numbers))}
        found.append(
            Lot(
                split=split,
                live=Live(scene.backbone, at_part(scene.machine, split), images),
                stream=scene.stream,
                numbers=numbers.repeat(choice.draws),
                path=folder / f"{split}.safetensors",
                about={**about, **own},
            )
        )
    return found


def described(machine: str) -> str | Table:
    """A machine in words that last: what a file says in place of its path."""
    if not machine.endswith(".toml"):
        return machine
    return tomllib.loads(Path(machine).read_text(encoding="utf-8"))


def drawn(count: int, most: int | None, seed: int) -> Tensor:
    """Which of so many images are recorded, rising."""
    if most is None or most >= count:
        return torch.arange(count)
    rng = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=rng)[:most].sort().values


def size(found: Sequence[Lot]) -> tuple[str, float]:
    """What lots take, in words and in MiB."""
    recorder = Recorder(found[0].live, found[0].stream)  # those of all splits are alike
    sizes = [recorder.size(len(lot.numbers)) for lot in found]
    mib = sum(each.bytes for each in sizes) / MIB
    counts = ", ".join(f"{len(lot.numbers)} {lot.split}" for lot in found)
    several = sizes[0].conditions
    under = f"under {several} conditions of the machine, " if several > 1 else ""
    return (
        f"{sum(each.inputs for each in sizes)} inputs ({counts}), {under}{sizes[0].nodes} ways "
        f"that decisions can go: {mib:.1f} MiB, and {sizes[0].passes:.1f} passes of the full "
        "network for each input"
    ), mib


def finished(folder: Path, found: Sequence[Lot]) -> set[Part]:
    """The splits that the same command recorded before.

    Raises:
        InputError: if the folder holds what another command recorded, or began to.
    """
    own = {lot.split: lot for lot in found}
    for split in PARTS:
        but = () if split in own else OWN
        lot = own.get(split, replace(found[0], path=folder / f"{split}.safetensors"))
        begun = lot.batches / "about.json"
        others = [read_about(lot.path)] if lot.path.exists() else []
        others += [json.loads(begun.read_text())] if begun.exists() else []
        for other in others:
            if entry := difference(lot.about, other, but):
                raise InputError(
                    f"{folder} holds a recording that another command made (it differs in "
                    f"{entry}); repeat that one, or choose another folder with --out"
                )
    return {lot.split for lot in found if lot.path.exists()}


def record(
    lot: Lot, points: float | None, kept: Tensor | None, progress: Callable[[int], object]
) -> Tensor | None:
    """Record one split, or go on with it.

    Args:
        lot: to be recorded.
        points: of accuracy within which choices are dropped; None keeps all.
        kept: the choices that stay; None finds them out here.
        progress: called with the number of inputs recorded, now and then.

    Returns:
        The choices that stay, if any may be dropped.
    """
    write_json(lot.batches / "about.json", lot.plan)
    about, table = dict(lot.about), None
    if kept is not None:
        outline = lot.live.outline(lot.stream)
        table = thinned_table(outline.table, outline.knobs, kept)
        about["kept"] = in_words(outline.knobs, kept)
    recording = record_outcomes(
        lot.live,
        lot.stream,
        lot.batches,
        inputs=lot.numbers,
        seed=lot.about["seed"],
        table=table,
        about=lot.plan,
        progress=progress,
    )
    recording = replace(recording, about=about)
    if points is not None and kept is None:
        kept = kept_choices(recording, points)
        recording = thinned(recording, kept)
    write_recording(recording, lot.path)
    return kept


def clear(lot: Lot) -> None:
    """Remove what a whole recording no longer needs: batches, and writes that were cut off."""
    shutil.rmtree(lot.batches, ignore_errors=True)
    for left in lot.path.parent.glob(f".{lot.path.name}.*"):
        left.unlink()
