from collections.abc import Mapping
from dataclasses import replace
from typing import final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import BITS, RUN, Block, Product, Work
from penstock.backbones.precision import Convolution
from penstock.hardware import RESOURCES, Cost, Digital, Job

MACHINE = Digital(
    mac_j={8: 2.0, 32: 20.0},
    sram_j_per_byte=3.0,
    memory_j_per_byte=5.0,
    macs_per_s={8: 432.0, 32: 216.0},
    memory_bytes_per_s=18.0,
    launch_s=0.25,
)


@final
class OneConvolution(Block):
    """2 -> 3 channels, 3x3, on 4x4 pixels: 3 * 2 * 9 * 16 = 864 multiplications and 54 weights."""

    knobs = (RUN, BITS)

    def __init__(self) -> None:
        super().__init__()
        self.convolution = Convolution(2, 3, 3, stride=1, signed=True)

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        if not setting.get("run", 1):
            return x
        y: Tensor = self.convolution(x, setting.get("bits", 32))
        return y


@pytest.fixture
def block() -> Block:
    return OneConvolution().eval()


def run(block: Block, job: Job) -> tuple[Tensor, Cost]:
    output, cost, state = MACHINE.run(job, {}, torch.Generator())
    assert state == {}
    return output, cost


def test_eight_bits_by_hand(block: Block) -> None:
    # 864 * 2 + (2 * 16 + 3 * 16) * 3 + 54 * 5 = 1728 + 240 + 270 joules;
    # the weights take 54 / 18 = 3 s, longer than the 864 / 432 = 2 s of the multiplications.
    price = MACHINE.price(block, {"bits": 8}, (2, 4, 4))
    assert price == Cost(energy_j=2238.0, latency_s=3.25, macs=864.0)


def test_float_by_hand(block: Block) -> None:
    # Four bytes each: 864 * 20 + 4 * (80 * 3 + 54 * 5) = 17280 + 2040 joules, 4 * 54 / 18 = 12 s.
    price = MACHINE.price(block, {}, (2, 4, 4))
    assert price == Cost(energy_j=19320.0, latency_s=12.25, macs=864.0)


def test_multiplications_can_be_what_takes_long(block: Block) -> None:
    fast_memory = replace(MACHINE, memory_bytes_per_s=1e6)
    assert fast_memory.price(block, {"bits": 8}, (2, 4, 4)).latency_s == 2.25


def test_work_left_out_costs_nothing(block: Block) -> None:
    x = torch.rand(3, 2, 4, 4)
    output, cost = run(block, Job(block, x, {"run": 0}))
    assert torch.equal(output, x)
    assert cost == Cost()


def test_a_run_is_exact_and_costs_its_price_whatever_the_lanes(block: Block) -> None:
    x, setting = torch.rand(3, 2, 4, 4), {"bits": 8.0, "a_knob_of_some_wrapper": 1.0}
    output, cost = run(block, Job(block, x, setting))
    assert torch.equal(output, block(x, {"bits": 8.0}))
    assert cost == MACHINE.price(block, setting, (2, 4, 4))


def test_products_of_a_job_are_performed_by_someone_else(block: Block) -> None:
    def nothing(product: Product) -> Tensor:
        return torch.zeros_like(product.exact())

    output, cost = run(block, Job(block, torch.rand(1, 2, 4, 4), {}, nothing))
    assert not output.any()
    assert cost == MACHINE.price(block, {}, (2, 4, 4))


def test_rates_are_above_zero() -> None:
    with pytest.raises(ValueError, match=r"above 0, got \{8: 0\.0\} and 18; raise them"):
        replace(MACHINE, macs_per_s={8: 0.0})


def test_bits_without_a_price_are_named(block: Block) -> None:
    with pytest.raises(ValueError, match=r"prices for \[8, 32\] bits, got 4"):
        MACHINE.price(block, {"bits": 4}, (2, 4, 4))


amounts = st.floats(0, 1e9)
works = st.builds(
    Work, amounts, amounts, amounts, amounts, st.sampled_from([8, 32]), st.just(8)
).filter(lambda asked: not asked.none)


@given(works)
@settings(max_examples=50, deadline=None)
def test_no_work_has_a_negative_price(asked: Work) -> None:
    assert all(amount >= 0 for amount in MACHINE.price_work(asked).each().values())


@given(works, st.sampled_from(["macs", "weight_bytes", "input_bytes", "output_bytes"]), amounts)
@settings(max_examples=50, deadline=None)
def test_more_work_never_costs_less(asked: Work, what: str, more: float) -> None:
    grown = MACHINE.price_work(replace(asked, **{what: getattr(asked, what) + more})).each()
    before = MACHINE.price_work(asked).each()
    assert all(grown[name] >= before[name] for name in RESOURCES)


@given(works, works)
@settings(max_examples=50, deadline=None)
def test_energy_and_multiplications_add_up_and_time_can_overlap(one: Work, two: Work) -> None:
    two = replace(two, weight_bits=one.weight_bits)
    both = Work(
        one.macs + two.macs,
        one.weight_bytes + two.weight_bytes,
        one.input_bytes + two.input_bytes,
        one.output_bytes + two.output_bytes,
        one.weight_bits,
        8,
    )
    apart, together = MACHINE.price_work(one) + MACHINE.price_work(two), MACHINE.price_work(both)
    assert together.energy_j == pytest.approx(apart.energy_j)
    assert together.macs == pytest.approx(apart.macs)
    assert together.latency_s <= apart.latency_s
