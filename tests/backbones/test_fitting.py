import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backbones import InputError
from penstock.backbones.fitting import Fitting, one_cycle, side


def test_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    fitting = Fitting(learning_rate=0.4, warm_up=0.2)
    assert [one_cycle(p, fitting) for p in (0.05, 0.1, 0.2)] == pytest.approx([0.1, 0.2, 0.4])
    assert [one_cycle(p, fitting) for p in (0.6, 1.0)] == pytest.approx([0.2, 0.0])
    assert one_cycle(0.0, fitting) == pytest.approx(0.004)  # the first step teaches a little


@given(progress=st.floats(0, 1), warm_up=st.floats(0, 1))
def test_rate_stays_between_0_and_its_peak(progress: float, warm_up: float) -> None:
    assert 0 <= one_cycle(progress, Fitting(learning_rate=0.4, warm_up=warm_up)) <= 0.4


@given(
    full=st.integers(8, 64),
    epochs=st.integers(1, 30),
    start_size=st.floats(0.25, 1),
    full_size_from=st.floats(0, 1),
    size_step=st.sampled_from([1, 4, 8]),
)
def test_resolution_grows_to_the_images_own(
    full: int, epochs: int, start_size: float, full_size_from: float, size_step: int
) -> None:
    fitting = Fitting(
        epochs=epochs, start_size=start_size, full_size_from=full_size_from, size_step=size_step
    )
    sides = [side(full, fitting, epoch) for epoch in range(epochs + 1)]
    assert sides == sorted(sides)
    assert min(size_step, full) <= sides[0] and sides[-1] == full


def test_images_are_never_enlarged() -> None:
    assert side(9, Fitting(epochs=10, start_size=0.99, size_step=8), 0) == 8
    assert side(6, Fitting(epochs=10, start_size=0.5, size_step=8), 0) == 6
    assert side(32, Fitting(start_size=1.0), 0) == 32


def test_recipe_is_plain_data() -> None:
    fitting = Fitting(epochs=3, bfloat16=False)
    assert Fitting(**json.loads(json.dumps(asdict(fitting)))) == fitting


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"epochs": 0}, "at least 1 .* got 0"),
        ({"shift": -1}, "shift at least 0"),
        ({"batch_size": 3, "skip_share": 0.5}, "two images or more of a batch .* batch_size = 3"),
        ({"learning_rate": -0.1}, "learning_rate of a fitting lies from 0 to inf, got -0.1"),
        ({"weight_decay": math.nan}, "weight_decay .* got nan"),
        ({"skip_share": 1.0}, "skip_share of a fitting lies from 0 to 0.9, got 1.0"),
        ({"skip_probability": 0.6}, "from 0 to 0.5"),
        ({"part_share": 2.0}, "part_share"),
        ({"bit_error_rate": 0.6}, "bit_error_rate of a fitting lies from 0 to 0.5"),
        ({"weight_clip": 1.0}, "clipped at more than 1 root mean square .* got weight_clip = 1.0"),
        ({"weight_clip": math.nan}, "got weight_clip = nan"),
    ],
)
def test_mistakes_are_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Fitting(**entry)
