import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.hardware import RESOURCES, Cost

amounts = st.floats(0, 1e9)
costs = st.builds(Cost, amounts, amounts, amounts, amounts)


def test_costs_add_resource_by_resource() -> None:
    total = Cost(energy_j=1.0, latency_s=2.0) + Cost(energy_j=3.0, macs=5.0, sent_bytes=7.0)
    assert total.each() == {"energy_j": 4.0, "latency_s": 2.0, "macs": 5.0, "sent_bytes": 7.0}


def test_a_number_is_added_to_every_lane() -> None:
    total = Cost(energy_j=torch.tensor([1.0, 2.0])) + Cost(energy_j=10.0)
    assert torch.equal(torch.as_tensor(total.energy_j), torch.tensor([11.0, 12.0]))


def test_every_resource_is_listed() -> None:
    assert tuple(Cost().each()) == RESOURCES


@given(costs, costs)
@settings(max_examples=50, deadline=None)
def test_addition_commutes_has_a_zero_and_never_saves(one: Cost, two: Cost) -> None:
    assert one + two == two + one
    assert one + Cost() == one
    assert all(amount >= one.each()[name] for name, amount in (one + two).each().items())
