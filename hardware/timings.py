"""Seconds that blocks took on a real processor, in the file that `penstock profile` writes."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from penstock.backbones import RUN, Block, InputError, Setting
from penstock.backbones.knob import numbers
from penstock.hardware.changed import changed_ns

Key = tuple[tuple[str, float], ...]
"""A setting as the key of a dictionary."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One block, head or stem of the network that was measured."""

    structure: str
    """Of the block and its input: see `structure`."""
    seconds: Mapping[Key, Mapping[int, float]]
    """Setting -> batch -> median seconds of the whole batch."""
    macs: float
    """Multiplications of an input at full."""


@dataclass(frozen=True, slots=True)
class Timings:
    """What was measured, by the name of the block."""

    batches: tuple[int, ...]
    blocks: Mapping[str, Timed]


_known: WeakKeyDictionary[Block, dict[tuple[int, ...], str]] = WeakKeyDictionary()


def structure(block: Block, shape: tuple[int, ...]) -> str:
    """What makes two blocks take the same time: kind, knobs, shapes of weights and of an input.

    The numbers in the weights do not count: a network that was fitted again keeps its table.
    """
    known = _known.setdefault(block, {})
    if shape not in known:
        knobs = [(knob.name, [float(choice) for choice in knob.choices]) for knob in block.knobs]
        weights = [(name, tuple(tensor.shape)) for name, tensor in block.state_dict().items()]
        about = repr((type(block).__qualname__, knobs, weights, shape))
        known[shape] = hashlib.sha256(about.encode()).hexdigest()[:16]
    return known[shape]


def asked(block: Block, setting: Setting) -> dict[str, float]:
    """A setting as far as it changes the work of a block: all its knobs, or just that it is left.

    A mask leaves no work out, so its knob stands at full.

    >>> from penstock.backbones import tiny_resnet
    >>> block = tiny_resnet().block(0)
    >>> asked(block, {"width": 0.5, "exit": 0})
    {'run': 1.0, 'width': 0.5, 'bits': 32.0}
    >>> asked(block, {"width": 0.5, "run": 0})
    {'run': 0.0}
    """
    given = numbers(setting)
    own = {knob.name: float(given.get(knob.name, knob.full)) for knob in block.knobs}
    if RUN in block.knobs and own[RUN.name] == RUN.choices[0]:
        return {RUN.name: own[RUN.name]}
    return own


def key(setting: Mapping[str, float]) -> Key:
    """The same for every order of the knobs."""
    return tuple(sorted((name, float(choice)) for name, choice in setting.items()))


def read_timings(path: str) -> Timings:
    """A table of `penstock profile`; read again when the file has changed.

    Raises:
        InputError: if there is none, or it is something else.
    """
    return _read(path, changed_ns(path))


@lru_cache
def _read(path: str, changed_ns: int) -> Timings:
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        batches = tuple(map(int, table["batches"]))
        blocks = {name: _timed(entry, batches) for name, entry in table["blocks"].items()}
        return Timings(batches, blocks)
    except OSError as error:
        raise InputError(
            f"{path} should be a table of times and cannot be read ({error.strerror}); "
            f"make it with penstock profile BACKBONE --out {path}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} should be a table that penstock profile wrote, and is not "
            f"({type(error).__name__}: {error}); make it again"
        ) from error


def _amount(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} seconds")
    return seconds


def _timed(entry: Mapping[str, Any], batches: tuple[int, ...]) -> Timed:
    seconds = {
        key(row["setting"]): {int(n): _amount(each["median_s"]) for n, each in row["batch"].items()}
        for row in entry["times"]
    }
    for under, times in seconds.items():
        if missing := set(batches) - times.keys():
            raise ValueError(f"no time of batches of {sorted(missing)} under {dict(under)}")
    return Timed(str(entry["structure"]), seconds, float(entry["macs"]))
