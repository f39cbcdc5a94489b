"""Energy and delay of the converters between digital numbers and the lines of an analog array.

Closed forms at 28 nm of KULeuven-MICAS/zigzag (`imc_array`), whose area form is said there to be
validated against three analog papers at that node.
"""

from math import ceil

from penstock.backbones import InputError

SUPPLY_V = 0.9
"""Supply of the closed forms. Source: KULeuven-MICAS/zigzag, technology parameters at 28 nm."""

MOST_BITS = 10
"""Beyond, the term in 4^bits takes over, which was not fitted there (half of the energy at 10)."""


def adc_j(bits: float) -> float:
    """Joules of one conversion to digital: (100 fF * b + 0.001 fF * 4^b) * V^2.

    >>> round(adc_j(8) * 1e12, 3)
    0.701
    """
    _check(bits)
    return (100e-15 * bits + 1e-18 * 4**bits) * SUPPLY_V**2


def dac_j(bits: float) -> float:
    """Joules of one conversion to a voltage: 50 fF * b * V^2; lines of one bit need none.

    >>> round(dac_j(8) * 1e12, 3)
    0.324
    """
    _check(bits)
    return 0.0 if bits == 1 else 50e-15 * bits * SUPPLY_V**2


def adc_s(bits: float, rows: int) -> float:
    """Seconds of one conversion behind an array of so many rows: b * (0.00653 * rows + 0.640) ns.

    >>> round(adc_s(8, 128) * 1e9, 1)
    11.8
    """
    _check(bits)
    return bits * (0.00653 * rows + 0.640) * 1e-9


def useful_bits(snr_db: float) -> int:
    """Bits of a converter that noise at this signal-to-noise ratio leaves of use, and one more.

    An ideal converter of b bits has 6.02 b + 1.76 dB (Bennett, 1948). From 1 to 10.

    >>> useful_bits(20)
    5
    """
    needed = ceil((min(snr_db, 6.02 * MOST_BITS) - 1.76) / 6.02)
    return min(MOST_BITS, max(1, needed + 1))


def _check(bits: float) -> None:
    if not 1 <= bits <= MOST_BITS:
        raise InputError(f"a converter has 1 to {MOST_BITS} bits, got {bits:g}; choose in between")
