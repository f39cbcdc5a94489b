"""An experiment: everything that decides what a run computes, read from TOML."""

import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from penstock.agents.learner import Learner
from penstock.backbones import Data, InputError, load_data
from penstock.backbones.errors import did_you_mean
from penstock.backbones.training import Fitting
from penstock.envs import Budget, Stream
from penstock.hardware import Exposure

SHIPPED = Path(__file__).parent / "experiments"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the images come from."""

    name: str = "digits"
    """"digits", a local parquet file or folder, an image folder, or a name on the hub."""
    size: int | None = None
    """Pixels to which images are brought; None leaves them."""
    channels: int | None = None
    """1 or 3; None leaves them."""
    validation_share: float = 0.1
    """Of the training images, on which prices and baselines are chosen."""
    split_seed: int | None = None
    """Picks them, and test images where there are none. None takes the run's seed; with weights
    that were fitted before, 0, the split that those that ship were fitted on."""

    def load(self, seed: int) -> Data:
        """The images, split."""
        return load_data(
            self.name,
            size=self.size,
            channels=self.channels,
            validation_share=self.validation_share,
            seed=seed if self.split_seed is None else self.split_seed,
        )


@dataclass(frozen=True, slots=True)
class Network:
    """The backbone: fitted weights, or a builder whose network is fitted first."""

    weights: str | None = None
    """Name of shipped weights ("cifar10") or a safetensors file; None fits the builder's."""
    builder: str = "penstock.backbones:resnet"
    """"module:function"."""
    arguments: Mapping[str, float | int | str | bool | list[int]] = field(default_factory=dict)
    """Of the builder."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What `penstock train` does."""

    data: Source = field(default_factory=Source)
    """The images."""
    machine: str = "microcontroller"
    """A preset, a TOML file, or "module:Name"."""
    backbone: Network = field(default_factory=Network)
    """The network."""
    fitting: Fitting = field(default_factory=Fitting)
    """How it is fitted, if it is."""
    exposure: Exposure | None = None
    """To what of the machine the network is exposed while it is fitted; None: to none of it."""
    stream: Stream = field(default_factory=Stream)
    """What an episode is."""
    learner: Learner = field(default_factory=Learner)
    """How the policy is learned."""
    recording: str | None = None
    """Folder that `penstock record` wrote: the policy learns and is judged on what is in it, over a
    range of budgets; None runs the network itself."""
    learn_on: Literal["train", "validation"] = "train"
    """Images that the policy learns on; "validation" where the network knows its own by heart."""
    budget: Budget = field(default_factory=lambda: Budget("energy_j", 0.5, relative=True))
    """At which the policy is judged in the end."""
    streams: int = 40
    """On recordings: how many it is judged on."""

    def __post_init__(self) -> None:
        if self.streams < 2:
            raise InputError(f"a policy is judged on two streams or more, got {self.streams}")
        if self.exposure is not None and self.backbone.weights is not None:
            raise InputError(
                "a network is exposed to the machine while it is fitted, got an exposure beside "
                f"the fitted weights {self.backbone.weights!r}; leave one of them out"
            )

    def load(self, seed: int, name: str | None = None) -> Data:
        """The images of a run, or others under a name, split."""
        fitted_before = self.backbone.weights is not None
        source = replace(self.data, name=name or self.data.name)
        return source.load(0 if fitted_before else seed)

    def table(self) -> dict[str, Any]:
        """The experiment as plain values, every default written out."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def experiment_names() -> list[str]:
    """The experiments that ship with Penstock."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def read_experiment(what: str) -> Experiment:
    """A shipped experiment by name, or one from a .toml file (or a run's experiment.json).

    Raises:
        InputError: if there is none, it cannot be parsed, or it has an unknown or wrong entry.
    """
    shipped = SHIPPED / f"{what}.toml"
    path = shipped if shipped.is_file() else Path(what)
    if not path.is_file():
        raise InputError(
            f"an experiment is a shipped name or a .toml file, got {what!r}."
            + did_you_mean(what, experiment_names())
        )
    try:
        text = path.read_text()
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); allow it") from error
    except ValueError as error:
        raise InputError(f"{path} should be valid TOML, but: {error}; mend that line") from error
    experiment: Experiment = from_table(Experiment, table, str(path))
    return experiment


def from_table(kind: Any, table: Any, where: str) -> Any:
    """A frozen dataclass from a table, entries checked against its fields.

    Raises:
        InputError: naming the entry, with the nearest known one.
    """
    if not isinstance(table, Mapping):
        raise InputError(f"{where} should be a table of {kind.__name__} entries, got {table!r}")
    known = {entry.name for entry in fields(kind)}
    for name in table:
        if name not in known:
            raise InputError(f"{where} has no entry {name!r}.{did_you_mean(name, known)}")
    hints = get_type_hints(kind)
    values = {name: _value(hints[name], v, f"{where}: {name}") for name, v in table.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{where} is incomplete: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value as its field's type says."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return from_table(hint, value, where)
    if origin in (Union, types.UnionType):
        options = [option for option in inner if option is not type(None)]
        if value is None and len(options) < len(inner):
            return None
        for option in options:
            if type(value) is (get_origin(option) or option):
                return _value(option, value, where)
        return _value(options[0], value, where)
    if origin is Literal:
        if value not in inner:
            raise InputError(f"{where} is one of {', '.join(map(repr, inner))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} should be a list, got {value!r}")
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) != len(value):
            raise InputError(f"{where} should hold {len(kinds)} values, got {len(value)}")
        pairs = zip(kinds, value, strict=True)
        return tuple(_value(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(pairs))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise InputError(f"{where} should be a table, got {value!r}")
        return {name: _value(inner[1], v, f"{where}.{name}") for name, v in value.items()}
    if origin is not None and issubclass(origin, Sequence):
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} should be a list, got {value!r}")
        kind = list if origin is list else tuple
        return kind(_value(inner[0], v, where) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{where} should be of type {hint.__name__}, got {value!r}")
    return value
