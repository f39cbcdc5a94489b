"""Which part of a memory each data type of a network lies in, and at which voltage.

Algorithm 1 of Koppula et al., EDEN (MICRO 2019); that the most tolerant go first, and that a
partition stands at one voltage, is a [reconstruction].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.backbones import InputError
from penstock.hardware.voltage import Curve


@dataclass(frozen=True, slots=True)
class Partition:
    """Part of a memory with a voltage of its own: a module, a rank, a bank."""

    name: str
    size_bytes: float
    curve: Curve


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a data type lies."""

    partition: str | None
    """None: in memory at nominal voltage."""
    dram_v: float


def placed(
    rates: Mapping[str, float],
    sizes: Mapping[str, float],
    partitions: Sequence[Partition],
    nominal_v: float,
) -> dict[str, Placed]:
    """A partition and its voltage for each data type (EDEN's Algorithm 1).

    Those that bear most choose first, each the partition with the lowest voltage that it bears
    and room for it. The first one in a partition sets its voltage. What fits nowhere lies in
    memory at nominal voltage.

    Args:
        rates: data type -> bit error rate that it bears.
        sizes: data type -> bytes, as of `data_types`.
        partitions: to be filled.
        nominal_v: volts.

    Raises:
        InputError: if a data type has no size.
    """
    if missing := rates.keys() - sizes.keys():
        raise InputError(
            f"every data type needs a size in bytes, got none for {sorted(missing)[0]}; "
            "take sizes and rates of the same network and setting"
        )
    left = {partition.name: partition.size_bytes for partition in partitions}
    stands_v: dict[str, float] = {}
    found = {}
    for name in sorted(rates, key=rates.__getitem__, reverse=True):
        best = Placed(None, nominal_v)
        for partition in partitions:
            if left[partition.name] < sizes[name] or partition.curve.rates[-1] > rates[name]:
                continue
            lowest_v = partition.curve.lowest_v(rates[name])
            dram_v = stands_v.get(partition.name, lowest_v)
            if lowest_v <= dram_v < best.dram_v:
                best = Placed(partition.name, dram_v)
        if best.partition is not None:
            left[best.partition] -= sizes[name]
            stands_v[best.partition] = best.dram_v
        found[name] = best
    return found
