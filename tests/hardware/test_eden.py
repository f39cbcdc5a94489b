from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penstock.backbones import Backbone, Images, InputError, load_data, shipped
from penstock.hardware import BitErrors, build_machine
from penstock.hardware.eden import coarse, confirmed, data_types, fine, highest, raised
from penstock.hardware.judging import judge
from penstock.hardware.partitions import Partition, Placed, placed
from penstock.hardware.plausible import plausible_ranges
from penstock.hardware.voltage import Curve

EIGHT = {"bits": 8}


@pytest.fixture(scope="module")
def digits() -> tuple[Backbone, Images]:
    return shipped("digits"), load_data("digits").validation


def memory(digits: tuple[Backbone, Images]) -> BitErrors:
    backbone, images = digits
    ranges = plausible_ranges(backbone, images.pixels / 255, [EIGHT])
    return BitErrors(build_machine("edge"), (0.0,), plausible=ranges)


@given(st.floats(1e-6, 0.05))
def test_bisection_finds_the_highest_rate(limit: float) -> None:
    found = highest(lambda rate: rate <= limit, decades=0.1)
    assert limit * 10**-0.1 <= found <= limit


def test_rates_are_lowered_until_other_images_bear_them(digits: tuple[Backbone, Images]) -> None:
    backbone, images = digits
    wrong = {"blocks.0.first.weight": 0.1, "blocks.1.first.weight": 1e-3}
    some = images.take(range(100))

    def of(rates: dict[str, float]) -> float:
        return judge(backbone, some, replace(memory(digits), rates=rates), EIGHT).accuracy

    target = of({}) - 0.01
    found = confirmed(backbone, some, memory(digits), target, wrong, 1e-4, EIGHT)
    assert of(wrong) < target <= of(found)
    assert 1e-4 < found["blocks.0.first.weight"] < 0.1
    assert found["blocks.1.first.weight"] >= 1e-4
    assert confirmed(backbone, some, memory(digits), 2.0, wrong, 1e-4, EIGHT) == dict.fromkeys(
        wrong, 1e-4
    )


def test_a_network_that_bears_nothing_bears_0() -> None:
    assert highest(lambda rate: False) == 0.0
    assert highest(lambda rate: rate < 2e-7) >= 1e-7


@given(st.lists(st.floats(1e-5, 5e-3), min_size=1, max_size=6), st.floats(0.01, 0.5))
def test_raising_ends_where_no_step_is_borne(weights: list[float], limit: float) -> None:
    start = {str(i): 1e-6 for i in range(len(weights))}

    def bears(rates: dict[str, float]) -> bool:
        return sum(rates[str(i)] / w for i, w in enumerate(weights)) <= limit

    found = raised(bears, start, 0.5)  # type: ignore[arg-type]
    assert bears(found) or found == start
    for name, rate in found.items():
        assert rate >= start[name]
        assert rate == 0.1 or not bears({**found, name: min(rate * 10**0.5, 0.1)})


def test_data_types_are_the_weights_and_inputs_of_every_layer(
    digits: tuple[Backbone, Images],
) -> None:
    backbone, _ = digits
    sizes, small = data_types(backbone), data_types(backbone, {"bits": 4, "width": 0.5})
    assert list(sizes)[:2] == ["stem.convolution.weight", "stem.convolution.input"]
    weight = backbone.stem.get_parameter("convolution.weight")
    assert sizes["stem.convolution.weight"] == 4 * weight.numel()
    assert sizes["stem.convolution.input"] == 4 * 64
    assert small["stem.convolution.input"] == 32
    assert small["blocks.0.first.weight"] == sizes["blocks.0.first.weight"] / 8 / 2


def test_a_machine_without_errors_answers_as_the_network(digits: tuple[Backbone, Images]) -> None:
    backbone, images = digits
    with torch.no_grad():
        answers = backbone.eval()(images.pixels / 255).argmax(dim=1)
    right = float((answers == images.labels).double().mean())
    assert judge(backbone, images, memory(digits)).accuracy == pytest.approx(right, abs=0.01)


def test_fine_bears_at_least_what_coarse_bears(digits: tuple[Backbone, Images]) -> None:
    backbone, images = digits
    errors, calls = memory(digits), []
    target = judge(backbone, images, errors, EIGHT).accuracy - 0.02
    start = coarse(backbone, images, errors, target, EIGHT, progress=lambda: calls.append(0))
    assert 1e-4 < start < 1e-1 and len(calls) == 6  # 6 decades / 2^6 < 0.1
    at_start = {**EIGHT, "bit_error_rate": start}
    assert judge(backbone, images, errors, at_start).accuracy >= target
    rates = fine(backbone, images, errors, target, start, EIGHT, decades=1.0)
    assert rates.keys() == data_types(backbone, EIGHT).keys()
    assert min(rates.values()) >= start and max(rates.values()) > start
    assert judge(backbone, images, replace(errors, rates=rates), EIGHT).accuracy >= target


# Mapping ----------------------------------------------------------------------------------------

STEEP = Curve("M", (1.0, 1.1, 1.2, 1.35), (1e-2, 1e-4, 1e-6, 0.0))


def test_the_most_tolerant_get_the_lowest_voltage() -> None:
    banks = [Partition("a", 100, STEEP), Partition("b", 100, STEEP)]
    rates = {"strong": 2e-2, "middle": 1e-4, "weak": 1e-6, "none": 0.0}
    sizes = {"strong": 90.0, "middle": 50.0, "weak": 50.0, "none": 1.0}
    assert placed(rates, sizes, banks, 1.35) == {
        "strong": Placed("a", 1.0),
        "middle": Placed("b", 1.1),  # no room in a
        "weak": Placed(None, 1.35),  # b is too low for it
        "none": Placed(None, 1.35),
    }


def test_what_has_a_size_of_its_own_is_asked_for() -> None:
    with pytest.raises(InputError, match="got none for b"):
        placed({"a": 0.0, "b": 0.0}, {"a": 1.0}, [], 1.35)


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 1e-6, 1e-4, 1e-2])),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_no_partition_is_too_full_or_too_low(rates: dict[str, float], rooms: list[int]) -> None:
    sizes = dict.fromkeys("abcdefgh", 10.0)
    banks = [Partition(str(i), room, STEEP) for i, room in enumerate(rooms)]
    found = placed(rates, sizes, banks, 1.35)
    assert found.keys() == rates.keys()
    for bank in banks:
        here = {name: place for name, place in found.items() if place.partition == bank.name}
        assert sum(sizes[name] for name in here) <= bank.size_bytes
        assert len({place.dram_v for place in here.values()}) <= 1
    for name, place in found.items():
        assert STEEP.rate(place.dram_v) <= rates[name]
