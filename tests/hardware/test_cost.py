from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.backbones import exact, tiny_resnet
from penstock.hardware import RESOURCES, Cost, Job

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


def test_nothing_stands_between_products_and_torch_where_nothing_errs() -> None:
    # Watching every call of torch took a third of the environment's time on a small network.
    job = Job(tiny_resnet().stem, torch.zeros(1, 1, 8, 8), {})
    assert job.by is exact
    assert replace(job, fetch=lambda product: product).by is not exact
    assert replace(job, perform=lambda product: product.exact()).by is not exact
