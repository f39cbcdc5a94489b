"""How the bits of an integer lie in memory: plainly, or protected, its top bit three times.

In two's complement the top bit is the sign, and its copies are those of a longer integer.
"""

from typing import Final

import torch
from torch import Tensor

COPIES: Final = 3
"""Of the top bit of a protected number: the fewest of which one may be wrong."""

FEWEST: Final = 8
"""Bits of a number that has some to spare."""


def is_protected(bits: int, protected: bool) -> bool:
    """Whether numbers of so many bits, integers up to 16, have their top bit more than once."""
    return protected and FEWEST <= bits <= 16


def used_bits(bits: int, protected: bool) -> int:
    """That an integer has which takes up so many.

    >>> used_bits(8, protected=True), used_bits(8, protected=False), used_bits(4, protected=True)
    (6, 8, 4)
    """
    return bits - (COPIES - 1) if is_protected(bits, protected) else bits


def exposed_bits(bits: int, protected: bool) -> int:
    """Its lowest bits, each of which changes it by flipping alone.

    >>> exposed_bits(8, protected=True), exposed_bits(8, protected=False)
    (5, 8)
    """
    return used_bits(bits, protected) - is_protected(bits, protected)


def encoded(codes: Tensor, bits: int, signed: bool, protected: bool) -> Tensor:
    """Integers -> the bits that are stored, in the lowest so many; int32."""
    if is_protected(bits, protected) and not signed:
        top = exposed_bits(bits, protected)
        codes = codes | (codes >> top & 1) * (((1 << COPIES) - 1) << top)
    return codes & ((1 << bits) - 1)


def decoded(stored: Tensor, bits: int, signed: bool, protected: bool) -> Tensor:
    """What is stored -> integers; protected ones by the majority of the copies."""
    top = exposed_bits(bits, protected)
    if is_protected(bits, protected):
        copies = torch.stack([stored >> top + copy & 1 for copy in range(COPIES)]).sum(dim=0)
        high = (2 * copies > COPIES).int() << top
        stored = stored & ((1 << top) - 1) | high
        bits = used_bits(bits, protected)
    if not signed:
        return stored
    sign = 1 << (bits - 1)
    return (stored ^ sign) - sign
