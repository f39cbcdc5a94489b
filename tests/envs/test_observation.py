from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penstock.envs import Lanes
from penstock.envs.observation import FEATURES, UNKNOWN, Column, Observation, confidence, pooled

Make = Callable[..., Lanes]


def test_columns_are_named_in_order() -> None:
    layout = Observation(
        (0, 3), (Column("battery", 0, 1),), ("energy_j_per_input",), ("bandwidth_bps", "time_s")
    )
    assert [column.name for column in layout.columns] == [
        *(f"feature_{i}" for i in range(FEATURES)),
        *("first", "second", "third", "entropy", "answered"),
        *("block_0", "block_3", "spent", "price", "inputs_left"),
        *("left_energy_j_per_input", "battery", "machine_bandwidth_bps", "machine_time_s"),
    ]
    places = list(range(len(layout.columns)))
    parts = [places[s] for s in (layout.network, layout.block, layout.account)]
    assert [place for part in parts for place in part] == places[:-3]
    assert [places[s] for s in (layout.features, layout.confidence)] == [
        places[:FEATURES],
        places[FEATURES : FEATURES + 5],
    ]
    assert places[layout.changing] == places[-3:]
    assert [layout.where(column.name) for column in layout.columns] == places
    assert layout.answered == layout.where("answered")


@given(
    channels=st.sampled_from([1, 3, 8, 16, 24, 64]),
    scale=st.floats(0, 1e6),
    seed=st.integers(0, 100),
)
def test_features_are_between_0_and_1(channels: int, scale: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    features = pooled(scale * torch.randn(3, channels, 4, 4, generator=rng))
    assert features.shape == (3, FEATURES)
    assert ((features >= 0) & (features <= 1)).all()


def test_features_of_a_channel_by_hand() -> None:
    x = torch.stack([torch.full((2, 2), float(channel)) for channel in range(16)]).unsqueeze(0)
    expected = torch.tensor([channel / (1 + channel) for channel in range(16)])
    torch.testing.assert_close(pooled(x)[0], expected)
    torch.testing.assert_close(pooled(x.repeat_interleave(2, dim=1))[0], expected)


def test_confidence_by_hand() -> None:
    quarter = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    # 0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3 = 1.75 bits of 2
    torch.testing.assert_close(confidence(quarter), torch.tensor([[0.5, 0.25, 0.125, 0.875, 1.0]]))
    torch.testing.assert_close(
        confidence(torch.zeros(1, 2)), torch.tensor([[0.5, 0.5, 0.0, 1.0, 1.0]])
    )
    sure = confidence(torch.tensor([[1e4, 0.0, 0.0]]))
    assert sure.tolist() == [[1.0, 0.0, 0.0, 0.0, 1.0]]


def test_before_an_exit_nothing_is_known(make: Make) -> None:
    lanes = make()
    lanes.start(torch.arange(4))
    lanes.step(torch.tensor([[1, 1, 3, 2]] * 4))
    assert lanes.observation[:, lanes.layout.confidence].tolist() == [list(UNKNOWN)] * 4
    lanes.step(torch.tensor([[1, 1, 3, 2]] * 4))
    known = lanes.observation[:, lanes.layout.confidence]
    assert (known[:, 0] >= known[:, 1]).all() and (known[:, 0] > 0).all()
    lanes.start(torch.tensor([2]))
    assert lanes.observation[2, lanes.layout.confidence].tolist() == list(UNKNOWN)


def test_a_column_that_is_not_there_is_an_error(make: Make) -> None:
    with pytest.raises(ValueError, match="'battery'"):
        make().layout.where("battery")
