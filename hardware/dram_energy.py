"""What commands to a DRAM chip cost, from the currents and times of its data sheet.

The equations of DRAMPower (tukl-msd/DRAMPower, DDR4 core) for one supply domain; energy of the pins
and of their termination is not in them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chip:
    """Currents and times of a DRAM chip, named as in data sheets.

    >>> ddr4 = Chip(1.2, 56.25e-3, 33.75e-3, 39.5e-3, 157.5e-3, 135e-3, 118e-3, 10 / 1.3e9,
    ...             10 / 1.3e9, 25 / 1.3e9, 7.8e-6, 1 / 1.3e9, banks=16, rho=0.5)
    >>> round(ddr4.read_j * 1e12)
    436
    """

    vdd_v: float
    """Supply."""
    idd0_a: float
    """While rows of one bank are opened and closed."""
    idd2n_a: float
    """Standby, all banks closed."""
    idd3n_a: float
    """Standby, all banks open."""
    idd4r_a: float
    """While reading without a pause."""
    idd4w_a: float
    """While writing without a pause."""
    idd5b_a: float
    """While refreshing."""
    tras_s: float
    """From opening a row to closing it."""
    trp_s: float
    """To close a row."""
    trfc_s: float
    """Of a refresh."""
    trefi_s: float
    """From one refresh to the next."""
    tck_s: float
    """Of the clock."""
    width_bits: int = 8
    """Data pins."""
    burst_length: int = 8
    """Words of a read or write, two a clock."""
    banks: int = 8
    rho: float = 1.0
    """Share of the open banks' standby current that all banks have in common."""

    @property
    def activate_j(self) -> float:
        """Of opening a row: VDD (IDD0 - I_1) tRAS, I_1 the standby current with one open bank."""
        shared = self.rho * (self.idd3n_a - self.idd2n_a) + self.idd2n_a
        one_open = (self.idd3n_a + (self.banks - 1) * shared) / self.banks
        return self.vdd_v * (self.idd0_a - one_open) * self.tras_s

    @property
    def precharge_j(self) -> float:
        """Of closing a row: VDD (IDD0 - IDD2N) tRP."""
        return self.vdd_v * (self.idd0_a - self.idd2n_a) * self.trp_s

    @property
    def read_j(self) -> float:
        """Of a burst read from an open row: VDD (IDD4R - IDD3N) BL/2 tCK."""
        return self.vdd_v * (self.idd4r_a - self.idd3n_a) * self._burst_s

    @property
    def write_j(self) -> float:
        """Of a burst written to an open row: VDD (IDD4W - IDD3N) BL/2 tCK."""
        return self.vdd_v * (self.idd4w_a - self.idd3n_a) * self._burst_s

    @property
    def refresh_j(self) -> float:
        """Of a refresh of all banks: VDD (IDD5B - IDD3N) tRFC."""
        return self.vdd_v * (self.idd5b_a - self.idd3n_a) * self.trfc_s

    @property
    def standby_w(self) -> float:
        """All banks closed, and refreshed in time."""
        return self.vdd_v * self.idd2n_a + self.refresh_j / self.trefi_s

    def read_j_per_byte(self, hit_rate: float) -> float:
        """Of reads of which a share meets an open row; the others open and close one each."""
        return self._per_byte(self.read_j, hit_rate)

    def write_j_per_byte(self, hit_rate: float) -> float:
        """Of writes of which a share meets an open row; the others open and close one each."""
        return self._per_byte(self.write_j, hit_rate)

    @property
    def _burst_s(self) -> float:
        return self.burst_length / 2 * self.tck_s

    def _per_byte(self, access_j: float, hit_rate: float) -> float:
        rows_j = (1 - hit_rate) * (self.activate_j + self.precharge_j)
        return (access_j + rows_j) / (self.width_bits * self.burst_length / 8)
