import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Backbone, InputError, Knob
from penstock.envs.actions import groups, legal, offered_knobs, strides
from penstock.hardware import Digital


@given(size=st.integers(1, 6), wanted=st.integers(-2, 8), data=st.data())
def test_the_nearest_cheaper_choice_stands_in_for_one_that_is_not_allowed(
    size: int, wanted: int, data: st.DataObject
) -> None:
    allowed = data.draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(any))
    chosen = legal(torch.tensor([[wanted]]), torch.tensor([allowed]), [size]).item()
    good = [choice for choice in range(size) if allowed[choice]]
    assert chosen == max((c for c in good if c <= wanted), default=good[0])


def test_knobs_are_made_legal_each_by_itself() -> None:
    allowed = torch.tensor([[False, True, True, True, False], [True, False, False, True, True]])
    actions = torch.tensor([[0, 2], [1, 2]])
    assert legal(actions, allowed, [2, 3]).tolist() == [[1, 1], [0, 2]]
    assert actions.tolist() == [[0, 2], [1, 2]]


def test_a_combination_has_one_number() -> None:
    sizes = [2, 3, 4]
    places = torch.cartesian_prod(*(torch.arange(size) for size in sizes))
    assert (places * strides(sizes)).sum(dim=1).tolist() == list(range(24))
    assert strides([]).tolist() == []


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=8))
def test_running_lanes_are_grouped_by_code(lanes: list[tuple[bool, int]]) -> None:
    running = torch.tensor([runs for runs, _ in lanes])
    code = torch.tensor([number for _, number in lanes])
    found = groups(running, code)
    expected = {
        number: [i for i, lane in enumerate(lanes) if lane == (True, number)]
        for number in sorted({number for runs, number in lanes if runs})
    }
    everyone = torch.arange(len(lanes))
    assert {number: everyone[rows].tolist() for number, rows in found} == expected
    assert len(found) == len(expected)
    whole = len(expected) == 1 and all(runs for runs, _ in lanes)
    assert all(isinstance(rows, slice if whole else Tensor) for _, rows in found)


def test_knobs_offered_and_fixed(backbone: Backbone, digital: Digital) -> None:
    offered, fixed = offered_knobs(backbone, digital, {"bits": [32, 8], "run": [1]})
    assert offered == (Knob("width", (0.25, 0.5, 0.75, 1.0)), Knob("bits", (8, 32)))
    assert fixed == {"run": 1}


def test_a_knob_that_nobody_has_is_named(backbone: Backbone, digital: Digital) -> None:
    with pytest.raises(InputError, match=r"no knob 'depth'.*run, width, bits"):
        offered_knobs(backbone, digital, {"depth": [1]})
