"""A run folder: what an experiment leaves on disk, and how it is opened again."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from penstock.agents.scene import Scene
from penstock.backbones import Backbone, Data, InputError, load, shipped
from penstock.hardware import build_machine
from penstock.scripts.experiment import Experiment, from_table


@dataclass(frozen=True, slots=True)
class Run:
    """A folder with `experiment.json`, `run.json`, backbone, policy, events and evaluation."""

    folder: Path
    experiment: Experiment
    seed: int

    @property
    def weights(self) -> Path:
        """The fitted backbone."""
        return self.folder / "backbone.safetensors"

    @property
    def evaluation(self) -> Path:
        """The table, as JSON."""
        return self.folder / "evaluation.json"

    @property
    def picture(self) -> Path:
        """Accuracy against cost."""
        return self.folder / "frontier.png"

    def backbone(self) -> Backbone:
        """The fitted backbone."""
        builder = self.experiment.backbone.builder.partition(":")[0]
        return load(self.weights, trusted=("penstock.backbones", builder))

    def scene(self, data: Data, machine: str | None = None) -> Scene:
        """What the run's policy is judged on."""
        return Scene(
            self.backbone(),
            build_machine(machine or self.experiment.machine),
            data,
            self.experiment.stream,
            self.experiment.learner.hidden,
            self.experiment.learner.joint,
            self.experiment.learner.remembers,
        )


def check_seed(seed: int) -> None:
    """Refuse what not every source of randomness takes.

    Raises:
        InputError: unless it lies in 0 .. 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"a seed is a whole number from 0 to 4294967295, got {seed}; choose one")


def open_backbone(what: str, trust: Sequence[str] = ()) -> Backbone:
    """A fitted backbone: one that ships with Penstock, by name, or a .safetensors file.

    Args:
        what: the name or file.
        trust: modules beside Penstock's own whose functions a file may call to build its network.

    Raises:
        InputError: if there is none, or it is built by a module that is not trusted.
    """
    if not what.endswith(".safetensors"):
        return shipped(what)
    return load(what, trusted=("penstock.backbones", *trust))


def make_run(folder: Path, experiment: Experiment, seed: int, *, resume: bool) -> Run:
    """Make a run folder, or open it to go on.

    Raises:
        InputError: if it exists and is not resumed, is of another experiment, or cannot be written.
    """
    known = folder / "experiment.json"
    exists = _writable(folder) and known.exists()
    if exists and not resume:
        raise InputError(
            f"{folder} already holds a run; go on with --resume or choose another folder with --out"
        )
    if exists:
        run = open_run(folder)
        if run.experiment.table() != experiment.table() or run.seed != seed:
            changed = _first_difference(run.experiment.table(), experiment.table()) or "seed"
            raise InputError(
                f"{folder} holds a run of another experiment (it differs in {changed}); "
                "resume with the same experiment, options and seed, or choose another folder"
            )
        return run
    write_json(folder / "run.json", {"seed": seed, **provenance()})
    write_json(known, experiment.table())
    return Run(folder, experiment, seed)


def _writable(folder: Path) -> bool:
    """Make a folder if need be, and write and remove a file in it."""
    if obstacle := _obstacle(folder):
        raise InputError(
            f"the run folder {folder} cannot be written ({obstacle}); choose one with --out"
        )
    return True


def _obstacle(folder: Path) -> str:
    """What keeps files from being written into a folder, which is made if need be; or nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return str(error.strerror)


def open_run(folder: Path) -> Run:
    """A run folder that exists.

    Raises:
        InputError: if it is none.
    """
    for name in ("experiment.json", "run.json"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} should be a run folder, but holds no {name}; make one with "
                "penstock train"
            )
    try:
        table = json.loads((folder / "experiment.json").read_text())
        seed = int(json.loads((folder / "run.json").read_text())["seed"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} should hold experiment.json and run.json as penstock train writes them, "
            f"but: {error}; make the run again"
        ) from error
    return Run(folder, from_table(Experiment, table, str(folder / "experiment.json")), seed)


def provenance() -> dict[str, Any]:
    """Versions, commit, date and command: what a result needs to be made again."""
    versions = {"python": platform.python_version()}
    for name in ("penstock", "torch", "numpy", "gymnasium", "stable-baselines3", "sb3-contrib"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "command": " ".join(["penstock", *sys.argv[1:]]),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions,
    }


def commit() -> str:
    """The git commit of the code that runs, or "unknown" where it is not a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write a JSON file at once: beside it first, then in its place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(value, indent=2) + "\n")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def check_file(path: Path) -> None:
    """Find out whether a file can be written, before what it is to hold takes its time.

    Raises:
        InputError: if it cannot.
    """
    if obstacle := _obstacle(path.parent) or ("it is a folder" if path.is_dir() else ""):
        raise InputError(f"{path} cannot be written ({obstacle}); choose another file with --out")


def _first_difference(old: Any, new: Any, where: str = "") -> str:
    """The first entry in which two tables differ, as a dotted name; empty if none."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{where}.{name}".lstrip(".")
            found = _first_difference(old.get(name), new.get(name), inner)
            if found:
                return found
        return ""
    return "" if old == new else where
