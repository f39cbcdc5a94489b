import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backbones import InputError
from penstock.hardware.voltage import Curve, bit_error_rate, read_curve, read_curves

HEADER = "dimm_name,vdd,vendor,error_cacheline_percent\n"
CURVE = Curve("M", (1.05, 1.1, 1.2), (1e-3, 1e-6, 0.0))


def test_lines_become_bits_by_hand() -> None:
    # 1 - 0.68^(1/512) = 7.53e-4: the 32 % of vendor B at 1.05 V
    assert bit_error_rate(0.32) == pytest.approx(7.53e-4, rel=1e-3)
    assert bit_error_rate(1e-9) == pytest.approx(1e-9 / 512)  # one flip in each faulty line
    assert bit_error_rate(0.32, burst=3.0) == pytest.approx(3 * 7.53e-4, rel=1e-3)
    assert bit_error_rate(0.0) == 0.0


@pytest.mark.parametrize(
    ("dram_v", "rate"),
    [(1.05, 1e-3), (1.0749, 1e-3), (1.0999, 1e-3), (1.1, 1e-6), (1.175, 1e-6), (1.2, 0), (1.5, 0)],
)
def test_an_untested_voltage_has_the_rate_of_the_next_lower_one(dram_v: float, rate: float) -> None:
    assert CURVE.rate(dram_v) == rate


def test_below_the_lowest_tested_voltage_nothing_is_known() -> None:
    with pytest.raises(InputError, match=r"module M was tested from 1\.05 V up, got 1\.025 V"):
        CURVE.rate(1.025)


def test_choices_are_steps_of_25_mv_up_to_the_nominal_voltage() -> None:
    assert CURVE.choices_v(1.15) == (1.05, 1.075, 1.1, 1.125, 1.15)
    assert CURVE.choices_v(1.14) == (1.065, 1.09, 1.115, 1.14)
    assert CURVE.choices_v(1.05) == (1.05,)
    with pytest.raises(InputError, match="got a nominal 1 V"):
        CURVE.choices_v(1.0)


def test_the_lowest_voltage_is_one_above_which_nothing_is_worse() -> None:
    assert CURVE.error_free_v == 1.2
    assert CURVE.lowest_v(1e-5) == 1.1
    assert CURVE.lowest_v(1.0) == 1.05
    uneven = Curve("M", (1.0, 1.1, 1.2), (0.0, 1e-6, 0.0))
    assert uneven.lowest_v(0.0) == 1.2
    with pytest.raises(InputError, match="choose another module"):
        Curve("M", (1.0, 1.1), (1e-3, 1e-6)).lowest_v(0.0)


@given(
    st.dictionaries(st.integers(40, 54), st.floats(0, 0.1), min_size=1),
    st.floats(1.0, 1.4),
)
def test_no_voltage_is_better_than_what_was_tested_below(
    points: dict[int, float], dram_v: float
) -> None:
    volts = sorted(points)
    curve = Curve("M", tuple(v / 40 for v in volts), tuple(points[v] for v in volts))
    tested = [v for v in volts if v / 40 <= dram_v]
    if tested:
        assert curve.rate(dram_v) == points[tested[-1]]


def write(folder: Path, rows: str, header: str = HEADER) -> str:
    path = folder / "curve.csv"
    path.write_text(header + rows)
    return str(path)


def test_one_module_is_read(tmp_path: Path) -> None:
    source = write(tmp_path, "B1,1.35,B,0\nB2,1.1,B,50\nB1,1.05,B,32\n")
    curve = read_curve(source, "B1")
    assert curve.tested_v == (1.05, 1.35)
    assert curve.rates == pytest.approx((7.53e-4, 0.0), rel=1e-3)
    assert list(read_curves(source)) == ["B1", "B2"]


def test_rates_of_ones_own_go_before(tmp_path: Path) -> None:
    header = "dimm_name,vdd,bit_error_rate,error_cacheline_percent\n"
    source = write(tmp_path, "mine,1.1,1e-4,50\nmine,1.2,,0\n", header)
    assert read_curve(source, "mine", burst=9.0).rates == (1e-4, 0.0)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("B1,high,B,0\n", "line 2 of .* number from 0.1 to 5 as vdd, got 'high'; correct it"),
        ("B1,1.1,B,0\nB1,1.2,B,101\n", "line 3 of .* from 0 to 100 as error_cacheline_percent"),
        ("B1,1.1,B,nan\n", "got 'nan'"),
        ("B1,1.1,B,100\n", "all lines are faulty"),
        ("B1,1.1,B,0\nB1,1.10,B,0\n", "line 3 of .* gives 1.1 V again"),
        ("B1,1.1\n", "should give a error_cacheline_percent, got none; the columns are"),
        ("B1,1.1,B,0\n", "the module that is asked for, got 'B7'. Known: B1"),
        ("", "got 'B7'"),
    ],
)
def test_files_that_are_not_curves_are_explained(tmp_path: Path, rows: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_curve(write(tmp_path, rows), "B7")


def test_files_that_are_none_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_curve(str(tmp_path / "nowhere.csv"), "B7")
    with pytest.raises(InputError, match=r"got 'syntetic'\. Did you mean 'synthetic'"):
        read_curve("syntetic", "typical")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="should be a CSV file"):
        read_curve(str(tmp_path / "binary.csv"), "B7")


def test_every_synthetic_module_is_safe_at_1_35_v_and_worse_below() -> None:
    curves = read_curves("synthetic")
    assert {"typical", "weak"} == curves.keys()
    for curve in curves.values():
        assert curve.rate(1.35) == 0.0 and curve.error_free_v < 1.35
        assert list(curve.rates) == sorted(curve.rates, reverse=True)


def test_the_measured_modules_have_the_guard_bands_that_were_counted() -> None:
    folder = os.environ.get("PENSTOCK_DATA")
    if not folder:
        pytest.skip("PENSTOCK_DATA names no folder with dram_voltage in it")
    curves = read_curves(str(Path(folder) / "dram_voltage" / "dimm_faulty_cachelines_out.csv"))
    lowest: dict[str, list[float]] = {"A": [], "B": [], "C": []}
    for name, curve in curves.items():
        lowest[name[0]].append(curve.error_free_v)
    assert sorted(lowest["A"]) == [1.1] + [1.125] * 5 + [1.15]
    assert sorted(lowest["B"]) == [1.1] * 4 + [1.125] * 3 + [1.15]
    assert sorted(lowest["C"]) == [1.25] + [1.3] * 6
