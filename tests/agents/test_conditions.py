"""What was recorded under several conditions of a machine, as deciders and judges use it."""

from dataclasses import replace

import pytest
import torch

from penstock.agents.agreement import compare
from penstock.agents.dominated import kept_choices, thinned
from penstock.agents.neurosurgeon import mean_worth
from penstock.agents.oracles import Told, outcome_table
from penstock.agents.predictor import Fit, fit_predictor, validation_loss
from penstock.agents.standing import Conditions, nodes, rows
from penstock.agents.token_bucket import best_bucket
from penstock.backbones import Data, shipped
from penstock.envs import Lanes, Live, Recording, Stream, record_outcomes
from penstock.envs.recording import SAID
from penstock.hardware import Ageing, build_machine

CHOICES = {"bits": (32,), "width": (1.0,), "run": (1,), "votes": (1,), "adc_bits": (4, 8)}
RULES = Stream(
    10,
    stages=(0, 3),
    choices=CHOICES,
    price=(1e-6, 1.0),
)


@pytest.fixture(scope="module")
def ageing(digits: Data) -> Recording:
    machine = build_machine("crossbar_pcm_ageing")
    images = digits.test.take(torch.arange(40))
    return record_outcomes(Live(shipped("digits"), machine, images), RULES)


def test_each_condition_is_a_row(ageing: Recording) -> None:
    assert len(ageing.conditions) == 3 and ageing.inputs == 40
    inputs = torch.tensor([7, 0, 7])
    now = Conditions(*torch.ones(3, 3, dtype=torch.float64))
    table = outcome_table(Lanes(ageing, RULES, lanes=1, controller=None), inputs, now)
    answers = ageing.table.exits[ageing.tree.stage - 1] & (ageing.tree.stage > 0)
    said = ageing.said.view(3, 40, len(ageing.tree), 3)[:, inputs][:, :, answers, 0]
    assert torch.equal(table.worth, said.flatten(0, 1).double())
    assert table.cost.shape == (9, int(answers.sum()), 4) and table.cost.isfinite().all()
    expected = ageing.said[:, answers, SAID.index("right")].double().mean(dim=0)
    torch.testing.assert_close(mean_worth(ageing, "right"), expected)


def test_who_is_told_knows_what_holds_at_the_age_of_the_chip(ageing: Recording) -> None:
    lanes = Lanes(ageing, RULES, lanes=64, controller=None, seed=1)
    lanes.start(torch.arange(64), price=1e-6)
    told = Told()
    told.begin(lanes)
    met = set()
    for _ in range(20):
        row, node = rows(lanes), nodes(lanes)
        assert torch.equal(row % 40, lanes._input)
        met |= set((row // 40).tolist())
        below = torch.stack([_under(ageing, int(v)) for v in node])
        best = ageing.said[row][:, :, SAID.index("right")].masked_fill(~below, 0).amax(dim=1)
        active = lanes.active.clone()
        answers = lanes.step(told.act(lanes)).answers
        over = answers.mask & active
        assert torch.equal(answers.worth[over], best[over].double())
    assert met == {0, 1, 2}


def _under(recording: Recording, node: int) -> torch.Tensor:
    """The answers below a node, itself included, [V] bool."""
    found = torch.zeros(len(recording.tree), dtype=torch.bool)
    found[node] = node > 0 and bool(recording.table.exits[recording.tree.stage[node] - 1])
    for child in recording.tree.under(node):
        found |= _under(recording, child)
    return found


def test_predictors_and_buckets_learn_from_every_condition(ageing: Recording) -> None:
    model = fit_predictor(ageing, ageing, fit=Fit(epochs=2))
    fresh, old = (ageing.take(torch.arange(part, part + 20)) for part in (0, 20))
    both = (validation_loss(model, fresh) + validation_loss(model, old)) / 2
    assert validation_loss(model, ageing) == pytest.approx(both, rel=1e-4)
    lanes, inputs = Lanes(ageing, RULES, lanes=1, controller=None), torch.arange(40)
    table = outcome_table(lanes, inputs, Conditions(*torch.ones(3, 40, dtype=torch.float64)))
    cost, _ = table.means("energy_j")
    best_bucket(lanes, model, table, inputs, float(cost.mean()))


def test_choices_can_be_dropped(ageing: Recording) -> None:
    thin = thinned(ageing, kept_choices(ageing, 5.0))
    assert len(thin.seen) == 120 and len(thin.tree) <= len(ageing.tree)
    assert thin.conditions == ageing.conditions
    Lanes(thin, RULES, lanes=2, controller=None).start(torch.arange(2))


@pytest.mark.parametrize("age_s", [1e2, 1e6])
def test_a_chip_of_an_age_agrees_with_what_was_recorded_of_it(
    digits: Data, ageing: Recording, age_s: float
) -> None:
    machine = ageing.machine
    assert isinstance(machine, Ageing)
    machine = replace(machine, start_s=(age_s, age_s))  # recorded were all ages
    live = Live(shipped("digits"), machine, digits.test.take(torch.arange(40)))
    sources = live, replace(ageing, runs_on=machine)
    lanes = [Lanes(each, RULES, lanes=32, controller=None, seed=3) for each in sources]
    found = compare(lanes[0], lanes[1], ageing.table.offered, decisions=600)
    assert not found.objection() and found.equal_masks == 1.0 and found.equal_right > 0.95
    energy = found.cost["energy_j"]
    assert energy.recorded == pytest.approx(energy.live)
