from dataclasses import replace

import pytest

from penstock.hardware import build_machine
from penstock.hardware.dram import Dram
from penstock.hardware.dram_energy import Chip

DDR4 = Chip(
    vdd_v=1.2,
    idd0_a=56.25e-3,
    idd2n_a=33.75e-3,
    idd3n_a=39.5e-3,
    idd4r_a=157.5e-3,
    idd4w_a=135e-3,
    idd5b_a=118e-3,
    tras_s=10 / 1.3e9,
    trp_s=10 / 1.3e9,
    trfc_s=25 / 1.3e9,
    trefi_s=7.8e-6,
    tck_s=1 / 1.3e9,
    banks=16,
    rho=0.5,
)
"""DRAMPower's example of a DDR4 x8 (tests/tests_drampower/resources/ddr4.json)."""


def test_the_example_by_hand() -> None:
    # I_rho = (39.5 + 33.75) / 2 = 36.625 mA, I_1 = (39.5 + 15 * 36.625) / 16 = 36.805 mA
    # E_act = 1.2 V * (56.25 - 36.805) mA * 7.69 ns = 179.5 pJ
    assert DDR4.activate_j == pytest.approx(180e-12, rel=0.01)
    # E_pre = 1.2 V * (56.25 - 33.75) mA * 7.69 ns = 207.7 pJ
    assert DDR4.precharge_j == pytest.approx(208e-12, rel=0.01)
    # E_rd = 1.2 V * 118 mA * 4 * 0.769 ns = 435.7 pJ, 6.8 pJ a bit; written: 95.5 mA, 5.5 pJ
    assert DDR4.read_j == pytest.approx(436e-12, rel=0.01)
    assert DDR4.read_j_per_byte(1.0) / 8 == pytest.approx(6.8e-12, rel=0.01)
    assert DDR4.write_j_per_byte(1.0) / 8 == pytest.approx(5.5e-12, rel=0.01)
    # (179.5 + 207.7 + 435.7) pJ / 64 bits
    assert DDR4.read_j_per_byte(0.0) / 8 == pytest.approx(12.9e-12, rel=0.01)


def test_realistic_times_by_hand() -> None:
    slow = replace(DDR4, tras_s=32e-9, trp_s=13.75e-9)
    assert slow.activate_j == pytest.approx(747e-12, rel=0.01)
    assert slow.precharge_j == pytest.approx(371e-12, rel=0.01)
    assert slow.read_j_per_byte(0.0) / 8 == pytest.approx(24e-12, rel=0.02)


def test_the_preset_holds_what_the_equations_give() -> None:
    ddr3l = Chip(
        vdd_v=1.35,
        idd0_a=55e-3,
        idd2n_a=32e-3,
        idd3n_a=38e-3,
        idd4r_a=157e-3,
        idd4w_a=125e-3,
        idd5b_a=235e-3,
        tras_s=35e-9,
        trp_s=13.75e-9,
        trfc_s=260e-9,
        trefi_s=7.8e-6,
        tck_s=1.25e-9,
    )
    preset = build_machine("dram")
    assert isinstance(preset, Dram)
    assert preset.read_j_per_byte == pytest.approx(ddr3l.read_j_per_byte(0.9), rel=0.01)
    assert preset.write_j_per_byte == pytest.approx(ddr3l.write_j_per_byte(0.9), rel=0.01)
    assert preset.io_j_per_byte == pytest.approx(0.3 / 0.7 * preset.read_j_per_byte, rel=0.01)
    assert preset.standby_w == pytest.approx(8 * ddr3l.standby_w, rel=0.01)
    assert ddr3l.read_j == pytest.approx(803e-12, rel=0.01)
    assert ddr3l.write_j == pytest.approx(587e-12, rel=0.01)
