"""A folder of recordings, one a split of the images, opened for judging and learning."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final, Literal, final

from safetensors import SafetensorError, safe_open

from penstock.backbones import Backbone, Images, InputError, in_order
from penstock.envs.recording import Recording, read_recording
from penstock.hardware import Machine, Split, build_machine
from penstock.hardware.build import Table
from penstock.hardware.fingerprint import digest, fingerprint
from penstock.hardware.parts import at_part

Part = Literal["train", "validation", "test"]
"""A split of the images, and of the traces of links."""

PARTS: Final[tuple[Part, ...]] = ("train", "validation", "test")

PASSING: Final = ("what", "command", "commit", "date", "kept")
"""What of `about` may differ between two recordings of the same."""

OWN: Final = ("split", "pixels")
"""What of `about` differs between the splits of one recording."""


@final
@dataclass(frozen=True, slots=True)
class Recordings:
    """The recordings of one network on one machine."""

    folder: Path
    """Where they were found."""
    found: Mapping[Part, Recording]
    """By split, as far as they were recorded."""

    @property
    def train(self) -> Recording:
        """Training images."""
        return self.at("train")

    @property
    def validation(self) -> Recording:
        """Those on which things are chosen."""
        return self.at("validation")

    @property
    def test(self) -> Recording:
        """Those on which things are judged."""
        return self.at("test")

    def at(self, split: Part) -> Recording:
        """One of them.

        Raises:
            InputError: if it was not recorded.
        """
        if split not in self.found:
            raise InputError(
                f"{self.folder} should hold {split}.safetensors, got "
                f"{', '.join(self.found)} alone; record it with --splits {split}"
            )
        return self.found[split]


def open_recordings(
    folder: Path | str, machine: Machine | None = None, splits: Sequence[Part] = PARTS
) -> Recordings:
    """What `penstock record` left in a folder.

    Args:
        folder: that it wrote, or one of the files in it.
        machine: on which it was recorded, its links perhaps others. None makes it again from what
            the files say, as far as it is one of Penstock's own; those of other modules are never
            imported because a file says so.
        splits: that are read, as far as they are there.

    Raises:
        InputError: if there is none, they are of different recordings, or the machine has to be
            given.
    """
    folder = Path(folder)
    files = {split: folder / f"{split}.safetensors" for split in splits}
    if folder.is_file():
        files = {_split_of(folder): folder}
    files = {split: path for split, path in files.items() if path.is_file()}
    if not files:
        wanted = " or ".join(f"{split}.safetensors" for split in splits)
        raise InputError(
            f"{folder} should hold recordings, {wanted}, and holds none; "
            "make them with penstock record"
        )
    abouts = {path: read_about(path) for path in files.values()}
    (first, about), *others = abouts.items()
    for path, other in others:
        if entry := difference(about, other, OWN):
            raise InputError(
                f"{path} and {first} are of different recordings (they differ in {entry}); keep "
                "those of one penstock record in a folder"
            )
    if machine is None:
        machine = machine_of(about, str(first))
    found = {split: read_recording(path, at_part(machine, split)) for split, path in files.items()}
    return Recordings(folder, found)


def read_about(path: Path) -> dict[str, Any]:
    """What a recording says of itself, without the rest of it.

    Raises:
        InputError: if it is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} should be a recording, but reading it says: {error}; make one with penstock "
            "record"
        ) from error
    known = metadata.get("kind") == "recording"
    about: dict[str, Any] = json.loads(metadata["about"]) if known else {}
    if "split" not in about:
        raise InputError(f"{path} should be a recording; make one with penstock record")
    return about


def difference(one: Mapping[str, Any], other: Mapping[str, Any], but: Sequence[str] = ()) -> str:
    """The first entry of two `about` that tells two recordings apart; empty if none does.

    Args:
        one: of the first.
        other: of the second.
        but: entries that do not count, beside `PASSING`.

    >>> difference({"seed": 0, "date": "today"}, {"seed": 1, "date": "yesterday"})
    'seed'
    """
    names = [*one, *(name for name in other if name not in one)]
    return next((n for n in names if n not in (*PASSING, *but) and one.get(n) != other.get(n)), "")


def machine_of(about: Mapping[str, Any], where: str) -> Machine:
    """The machine that `about` describes, if it is made of Penstock's own parts.

    Raises:
        InputError: if it is not, or cannot be made any more.
    """
    described: str | Table = about["machine"]
    plain = isinstance(described, str) and ":" in described
    table = {"type": described} if plain else described
    for kind in _kinds(table):
        if not _ours(kind):
            raise InputError(
                f"{where} was recorded on {kind}, which is no machine of Penstock's own; give the "
                "machine, with --machine or as an argument"
            )
    return build_machine(described)


def network_digest(backbone: Backbone) -> str:
    """Of all weights of stem, blocks and heads, in letters."""
    return digest(fingerprint(block).encode() for block, _ in in_order(backbone))


def errs(machine: Machine) -> bool:
    """Whether a machine's results are drawn; that a link is, does not count."""
    if isinstance(machine, Split):
        return any(isinstance(m, Machine) and errs(m) for m in (machine.near, machine.far))
    return machine.ideal() != machine


def pixels_digest(images: Images) -> str:
    """Of images and labels, in letters."""
    return digest([images.pixels.numpy().tobytes(), images.labels.numpy().tobytes()])


def _split_of(path: Path) -> Part:
    split: Part = read_about(path)["split"]
    return split


def _kinds(described: Any) -> Iterator[str]:
    """Every type that a table names, those inside of it too."""
    if isinstance(described, Mapping):
        if "type" in described:
            yield str(described["type"])
        for inner in described.values():
            yield from _kinds(inner)


def _ours(kind: str) -> bool:
    """Whether "module:Name" is a dataclass of `penstock.hardware`, and so does nothing but hold."""
    module, _, name = kind.partition(":")
    home = "penstock.hardware"
    # A dot in the name would lead on, as in "penstock.hardware.chip:os.system".
    if module.split(".")[:2] != home.split(".") or not name.isidentifier():
        return False
    try:
        thing = resolve_name(kind)
    except (ImportError, AttributeError):
        return False
    return isinstance(thing, type) and is_dataclass(thing) and thing.__module__.startswith(home)
