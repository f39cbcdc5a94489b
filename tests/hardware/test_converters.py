import pytest

from penstock.backbones import InputError
from penstock.hardware.converters import adc_j, adc_s, dac_j, useful_bits


# (100 * 4 + 0.001 * 256) fF * 0.81 V^2 = 400.256 fF * 0.81 = 0.324 pJ, and so on.
@pytest.mark.parametrize(
    ("bits", "adc_pj", "dac_pj", "adc_128_ns", "adc_512_ns"),
    [
        (2, 0.162, 0.081, 2.95, 7.97),
        (4, 0.324, 0.162, 5.90, 15.9),
        (6, 0.489, 0.243, 8.85, 23.9),
        (8, 0.701, 0.324, 11.8, 31.9),
        (10, 1.659, 0.405, 14.8, 39.8),
    ],
)
def test_closed_forms_by_hand(
    bits: int, adc_pj: float, dac_pj: float, adc_128_ns: float, adc_512_ns: float
) -> None:
    assert adc_j(bits) == pytest.approx(adc_pj * 1e-12, rel=0.01)
    assert dac_j(bits) == pytest.approx(dac_pj * 1e-12, rel=0.01)
    assert adc_s(bits, 128) == pytest.approx(adc_128_ns * 1e-9, rel=0.01)
    assert adc_s(bits, 512) == pytest.approx(adc_512_ns * 1e-9, rel=0.01)


def test_lines_of_one_bit_need_no_converter_at_the_rows() -> None:
    assert dac_j(1) == 0


@pytest.mark.parametrize("bits", [0, 11])
def test_forms_are_not_used_where_they_were_not_fitted(bits: int) -> None:
    with pytest.raises(InputError, match=f"1 to 10 bits, got {bits}"):
        adc_j(bits)


def test_useful_bits_rise_by_one_each_six_decibels() -> None:
    # (20 - 1.76) / 6.02 = 3.03: four bits, and one more.
    assert [useful_bits(snr) for snr in (-10, 0, 10, 20, 80)] == [1, 1, 3, 5, 10]
