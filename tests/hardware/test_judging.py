"""The worse a machine errs, the fewer answers are right."""

import pytest

from penstock.backbones import load_data, shipped
from penstock.hardware import build_machine
from penstock.hardware.judging import judge


@pytest.mark.parametrize(
    ("machine", "knob", "choices", "others"),
    [
        ("analog", "snr_db", (30, 10, 0), {"votes": 1}),
        ("analog", "votes", (11, 3, 1), {"snr_db": 0}),
        ("crossbar_reram", "adc_bits", (8, 6, 4), {}),
        ("dram", "dram_v", (1.35, 1.05, 1.0), {}),
    ],
)
def test_accuracy_falls_with_the_fault(
    machine: str, knob: str, choices: tuple[float, ...], others: dict[str, float]
) -> None:
    backbone, images = shipped("digits"), load_data("digits").test.take(range(200))
    right = [
        judge(backbone, images, build_machine(machine), {**others, "bits": 8, knob: at}).accuracy
        for at in choices
    ]
    assert right[0] >= right[1] - 0.01 and right[1] >= right[2] - 0.01
    assert right[0] > right[2] + 0.02
