"""The DRAM energy of a network on measured modules, for eden.py."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from penstock.backbones import Backbone
from penstock.hardware import Dram, constants
from penstock.hardware.judging import spent
from penstock.hardware.partitions import Partition, placed
from penstock.hardware.voltage import Curve, read_curves

INT8: Final = {"bits": 8}
BANKS, BANK_BYTES = 8, 2**28
"""Partitions of a module of 2 GB, each at a voltage of its own."""


@dataclass(frozen=True)
class Borne:
    """Bit error rates that a network bears at 8 bits."""

    backbone: Backbone
    """With statistics of normalisation measured at the first of them."""
    rate: float
    """Of all data."""
    rates: Mapping[str, float]
    """Of each data type."""
    sizes: Mapping[str, float]
    """Bytes of each data type."""


def saved(backbone: Backbone, dram: Dram, found: Borne, curve: Curve) -> tuple[float, float, float]:
    """Share of DRAM energy: of nominal, and of error-free voltage; and if mapped, of nominal."""
    here = replace(dram, module=curve.module)
    rest_j = spent(backbone, here.inner, INT8).energy_j

    def dram_j(machine: Dram, dram_v: float) -> float:
        return float(spent(backbone, machine, {**INT8, "dram_v": dram_v}).energy_j - rest_j)

    coarse_v, nominal = curve.lowest_v(found.rate), dram_j(here, dram.nominal_v)
    one, free = dram_j(here, coarse_v), dram_j(here, curve.error_free_v)
    less = dram_j(mapped(here, found, curve), coarse_v)
    return 1 - one / nominal, 1 - one / free, 1 - less / nominal


def mapped(dram: Dram, found: Borne, curve: Curve) -> Dram:
    """The memory with each data type in a bank of a voltage that it bears."""
    banks = [Partition(str(bank), BANK_BYTES, curve) for bank in range(BANKS)]
    places = placed(found.rates, found.sizes, banks, dram.nominal_v)
    volts = {data_type: place.dram_v for data_type, place in places.items()}
    return replace(dram, module=curve.module, volts=volts)


def elsewhere(
    dram: Dram, curves: Mapping[str, Curve]
) -> Iterator[tuple[str, Dram, Mapping[str, Curve]]]:
    """The ends of the ranges of the memory's constants; in words, the machine, its modules."""
    for constant in constants("dram"):
        if constant.name in ("io_j_per_byte", "standby_w", "read_j_per_byte", "sram_bytes"):
            for value in {constant.low, constant.high} - {constant.value}:
                changed: dict[str, Any] = {constant.name: value}
                yield f"{constant.name} {value:g}", replace(dram, **changed), curves
        if constant.name == "burst":
            clustered = read_curves(dram.curve, constant.high)
            modules = {module: clustered[module] for module in curves}
            yield f"burst {constant.high:g}", replace(dram, burst=constant.high), modules
