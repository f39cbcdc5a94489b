"""How often bits of a memory module are read wrong at a supply voltage: measured, step by step.

Measurements are CSV files with the columns `dimm_name`, `vdd` in volts, and one or both of
`error_cacheline_percent` and `bit_error_rate`: the format of Chang et al., Understanding
Reduced-Voltage Operation in Modern DRAM Devices (SIGMETRICS 2017), published as
CMU-SAFARI/DRAM-Voltage-Study. Modules of one vendor differ by 2 to 4 decades: a curve is always
that of ONE module.
"""

import csv
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from penstock.backbones import InputError
from penstock.backbones.errors import did_you_mean
from penstock.hardware.build import PRESETS
from penstock.hardware.changed import changed_ns
from penstock.hardware.error_models import CACHE_LINE_BITS

STEP_V: Final = 0.025
"""Between the voltages that a controller can choose; errors rise from none to 1e-4 within one or
two such steps [computed from the measurements named above]."""

_CLOSE_V: Final = 1e-6
"""Voltages that differ by less are the same."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The bit error rates of one module, at the voltages at which it was tested.

    >>> curve = Curve("A1", (1.05, 1.1, 1.35), (1e-3, 1e-6, 0.0))
    >>> curve.rate(1.075), curve.rate(1.35), curve.lowest_v(1e-5), curve.error_free_v
    (0.001, 0.0, 1.1, 1.35)
    """

    module: str
    tested_v: tuple[float, ...]
    """Rising."""
    rates: tuple[float, ...]
    """Bit error rate at each; 0 where no error was seen."""

    def rate(self, dram_v: float) -> float:
        """The bit error rate at a voltage: that of the next lower one that was tested.

        Raises:
            InputError: below the lowest one, of which nothing is known.
        """
        place = bisect_right(self.tested_v, dram_v + _CLOSE_V) - 1
        if place < 0:
            raise InputError(
                f"module {self.module} was tested from {self.tested_v[0]:g} V up, got "
                f"{dram_v:g} V; choose a higher voltage"
            )
        return self.rates[place]

    def lowest_v(self, rate: float) -> float:
        """The lowest tested voltage from which on no tested one has a higher bit error rate.

        Raises:
            InputError: if even the highest one has.
        """
        for place in range(len(self.rates) - 1, -2, -1):
            if place < 0 or self.rates[place] > rate:
                break
        if place + 1 == len(self.rates):
            raise InputError(
                f"module {self.module} has bit error rates of {self.rates[-1]:g} and more, got a "
                f"limit of {rate:g}; choose another module"
            )
        return self.tested_v[place + 1]

    @property
    def error_free_v(self) -> float:
        """The lowest tested voltage from which on no error was seen: the end of the guard band."""
        return self.lowest_v(0.0)

    def choices_v(self, nominal_v: float) -> tuple[float, ...]:
        """What a controller can choose: from the lowest tested voltage to the nominal one, rising.

        Raises:
            InputError: if the nominal voltage is lower.
        """
        steps = math.floor((nominal_v - self.tested_v[0] + _CLOSE_V) / STEP_V)
        if steps < 0:
            raise InputError(
                f"module {self.module} was tested from {self.tested_v[0]:g} V up, got a nominal "
                f"{nominal_v:g} V; correct one of them"
            )
        return tuple(round(nominal_v - step * STEP_V, 6) for step in range(steps, -1, -1))


def bit_error_rate(faulty_lines: float, burst: float = 1.0) -> float:
    """The bit error rate that leaves a share of 64-byte lines faulty.

    1 - (1 - p)^(1/512) if every bit fails by itself. Errors come in clusters, which leaves the
    same share of lines faulty with more flips: `burst` times as many.

    >>> round(bit_error_rate(0.5) * 1e3, 2)
    1.35
    """
    return burst * -math.expm1(math.log1p(-faulty_lines) / CACHE_LINE_BITS)


def read_curve(source: str, module: str, burst: float = 1.0) -> Curve:
    """The curve of one module, from a file; read again when that has changed.

    Args:
        source: path of a .csv file; or "synthetic", which comes with Penstock and is made up.
        module: a `dimm_name` of the file.
        burst: flips in a faulty line, as a multiple of what there would be if every bit failed by
            itself; `bit_error_rate` of the file, where it says one, goes before.

    Raises:
        InputError: if there is no such file or module, or a row is not what it should be.

    >>> read_curve("synthetic", "typical").error_free_v
    1.125
    """
    curves = read_curves(source, burst)
    if module not in curves:
        raise InputError(
            f"{source} should hold the module that is asked for, got {module!r}."
            + did_you_mean(module, curves)
        )
    return curves[module]


def read_curves(source: str, burst: float = 1.0) -> Mapping[str, Curve]:
    """Every module of a file, by name; arguments and errors as of `read_curve`."""
    return _read(source, burst, changed_ns(source))


@lru_cache(maxsize=16)
def _read(source: str, burst: float, changed_ns: int) -> Mapping[str, Curve]:
    shipped = {path.stem.removeprefix("dram_"): path for path in PRESETS.glob("dram_*.csv")}
    path = shipped.get(source, Path(source))
    if path.suffix != ".csv":
        raise InputError(
            f"a voltage curve is a .csv file or one that comes with Penstock, got {source!r}."
            + did_you_mean(source, shipped)
        )
    if not burst > 0:
        raise InputError(f"burst is above 0, 1 if every bit fails by itself, got {burst}; raise it")
    rates: dict[str, dict[float, float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            for row in rows:
                where = f"line {rows.line_num} of {path}"
                of_module = rates.setdefault(_text(row, "dimm_name", where), {})
                vdd = _number(row, "vdd", 0.1, 5.0, where)
                if vdd in of_module:
                    raise InputError(f"{where} gives {vdd:g} V again; leave one of them out")
                of_module[vdd] = _rate(row, burst, where)
    except OSError as error:
        raise InputError(
            f"{path} should be a file of voltage curves, and cannot be read ({error.strerror}); "
            "check the path"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} should be a CSV file, and is not: {error}") from error
    return {
        name: Curve(name, tuple(sorted(at)), tuple(at[vdd] for vdd in sorted(at)))
        for name, at in rates.items()
    }


def _rate(row: Mapping[str, str | None], burst: float, where: str) -> float:
    if row.get("bit_error_rate"):
        return _number(row, "bit_error_rate", 0.0, 0.5, where)
    percent = _number(row, "error_cacheline_percent", 0.0, 100.0, where)
    if percent == 100.0:
        raise InputError(
            f"{where} says that all lines are faulty, which bounds no bit error rate; leave it "
            "out or give a bit_error_rate"
        )
    return bit_error_rate(percent / 100, burst)


def _number(
    row: Mapping[str, str | None], column: str, low: float, high: float, where: str
) -> float:
    text = _text(row, column, where)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise InputError(
            f"{where} should give a number from {low:g} to {high:g} as {column}, got {text!r}; "
            "correct it"
        )
    return number


def _text(row: Mapping[str, str | None], column: str, where: str) -> str:
    text = row.get(column)
    if not text:
        raise InputError(
            f"{where} should give a {column}, got none; the columns are dimm_name, vdd, and "
            "error_cacheline_percent or bit_error_rate"
        )
    return text
