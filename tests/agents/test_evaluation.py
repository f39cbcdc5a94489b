"""The table: every control is there, at the policy's own cost, chosen on validation images."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from penstock.agents import Recorded, Scene, evaluate, find_price, play
from penstock.agents.baselines import Random, orders, thresholds
from penstock.agents.evaluation import (
    FULL,
    HULL,
    ORACLE,
    POLICY,
    RANDOM,
    THRESHOLDS,
    Judged,
    exceeded,
    interval,
)
from penstock.agents.frontier import draw, frontier
from penstock.envs import Budget
from penstock.hardware import Link, Split, Synthetic, build_machine
from penstock.hardware.traces import PARTS
from penstock.scripts.table import as_json, as_text, quantity


def test_the_table_holds_every_control_at_equal_cost(scene: Scene, recorded: Recorded) -> None:
    policy = Random(orders(scene.lanes("test", learned=True)), 0.9)
    table = evaluate(policy, scene, recorded, Budget("energy_j", 0.9, relative=True))
    names = [row.name for row in table.rows]
    assert {POLICY, FULL, HULL, THRESHOLDS, RANDOM, ORACLE} <= set(names)
    assert table.row(HULL).mean("energy_j") <= table.matched * (1 + 1e-9)
    assert table.row(ORACLE).mean("energy_j") <= table.matched * (1 + 1e-9)
    assert table.row(ORACLE).accuracy >= table.row(HULL).accuracy
    plain = json.loads(json.dumps(as_json(table)))
    assert plain["n"] == 60
    for row in plain["policies"]:
        assert {"name", "accuracy", "energy_j", "latency_s", "macs", "violations"} <= row.keys()
    assert as_text(table).count("%") > len(names)


def test_without_a_policy_the_baselines_are_judged(scene: Scene, recorded: Recorded) -> None:
    table = evaluate(None, scene, recorded, Budget("macs", 0.6, relative=True))
    assert POLICY not in [row.name for row in table.rows]
    assert table.matched == pytest.approx(table.limit)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_hard_budget_is_never_exceeded(scene: Scene, recorded: Recorded, share: float) -> None:
    policy = Random(orders(scene.lanes("test", learned=True)), 0.5)
    budget = Budget("energy_j", share, relative=True, kind="hard", observed=False)
    row = evaluate(policy, scene, recorded, budget).rows[0]
    assert row.violations == 0
    assert (
        row.cost[:, 0].max() <= budget.absolute(scene.lanes("test", learned=True).full) * 1.000001
    )


def test_who_exceeds_a_hard_budget_by_hand() -> None:
    cost = np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 2.0]])
    per_input = Budget("energy_j", 2.0, kind="hard")
    assert exceeded(cost, per_input, 2.0, 2).tolist() == [[False] * 2, [True, False], [False] * 2]
    # A stream of two inputs may spend 3.5; the third input makes no stream.
    per_stream = Budget("energy_j", 3.5, kind="hard", per="stream")
    assert exceeded(cost, per_stream, 3.5, 2).tolist() == [[False] * 2, [True, True]]
    assert not exceeded(cost, Budget("energy_j", 0.1), 0.1, 2).any()


def test_static_rows_own_up_to_a_stream_s_budget(scene: Scene, recorded: Recorded) -> None:
    streams = replace(scene, stream=replace(scene.stream, inputs_per_episode=4))
    budget = Budget("energy_j", 3.0, relative=True, kind="hard", per="stream", observed=False)
    table = evaluate(None, streams, recorded, budget)
    assert table.row(FULL).violations == 15  # the last input of each of 60 / 4 streams
    assert table.row(HULL).violations == table.row(RANDOM).violations == 0


def test_thresholds_use_the_exits_that_a_hard_budget_leaves(
    scene: Scene, recorded: Recorded
) -> None:
    lanes, seen = scene.lanes("validation", learned=False), recorded.validation
    cost, _ = seen.mean("energy_j")
    dearest = (seen.settings == seen.settings[seen.uniform].max()) & seen.uniform
    most = float(np.sort(cost[dearest])[1])  # its last exit does not fit
    right = np.tile(dearest, (len(seen.right), 1))  # and only that setting is ever right
    fits = replace(seen, right=right).take(cost <= most)
    rule = thresholds(lanes, fits, most, "energy_j")
    assert rule is not None
    assert rule.setting == (1, *(len(knob.choices) - 1 for knob in lanes.offered))
    last = np.flatnonzero(lanes.prices.exits.numpy())[1]
    assert rule.at[last + 1] == -np.inf  # who comes that far leaves


def test_every_image_is_judged_once_whatever_the_number_of_lanes(scene: Scene) -> None:
    def rights(lanes: int) -> list[float]:
        engine = scene.lanes("test", learned=False, lanes=lanes)
        policy = Random(orders(engine), 1.0)
        right: list[float] = play(policy, engine).right.tolist()
        return right

    assert rights(1) == rights(13) == rights(60)


def test_transfers_that_are_given_up_are_counted(scene: Scene, recorded: Recorded) -> None:
    near, far = build_machine("edge"), build_machine("server")
    machine = Split(near, far, Link(1e4, rtt_s=0.01), timeout_s=1e-3)
    lanes = replace(scene, machine=machine).lanes("test", learned=False)
    policy = Random(orders(lanes), tilt=-0.5)
    played = play(policy, lanes)
    offload = lanes.knobs[-1]
    tried = (played.choices[:, :, -1] >= 0) & (played.choices[:, :, -1] != len(offload.choices) - 1)
    assert played.lost == tried.sum() > 0
    # The table shows them, and what was sent, where anything was.
    row = Judged("policy", played.right, played.cost, 0, played.lost)
    assert row.table()["lost"] == played.lost
    random = Random(orders(scene.lanes("test", learned=True)), 0.5)
    plain = evaluate(random, scene, recorded, Budget("energy_j", 0.9, relative=True))
    assert "lost" not in as_text(plain)
    shown = as_text(replace(plain, rows=(row, *plain.rows)))
    assert re.search(rf"sent +lost\npolicy .*B +{played.lost}\n", shown)


def test_a_price_is_found_for_a_budget(scene: Scene) -> None:
    class Thrifty:
        """Exits as soon as it may when the price is high."""

        def predict(self, observation, state=None, episode_start=None, deterministic=False):  # type: ignore[no-untyped-def]
            last = [len(knob.choices) - 1 for knob in lanes.knobs]
            actions = np.tile(last, (len(observation), 1))
            leave = observation[:, price] > observation[:, first]
            actions[leave, 0] = 0
            return actions, state

    lanes = scene.lanes("validation", learned=True)
    price, first = lanes.layout.where("price"), lanes.layout.where("first")
    budget = 0.7 * float(lanes.full.energy_j)
    _, played = find_price(Thrifty(), lanes, budget, "energy_j")
    assert played.mean("energy_j") <= budget


def test_interval_by_hand() -> None:
    # 100 differences, half 1 and half 0: mean 0.5, standard error 0.05.
    low, high = interval(np.array([0.0, 1.0] * 50))
    assert low == pytest.approx(0.4, abs=0.015)
    assert high == pytest.approx(0.6, abs=0.015)
    assert interval(np.zeros(10)) == (0.0, 0.0)


def test_the_picture_shows_every_curve(scene: Scene, recorded: Recorded) -> None:
    curves = frontier(None, scene, recorded, "energy_j")
    assert {HULL, ORACLE, THRESHOLDS} <= curves.points.keys()
    axes = draw(curves).axes[0]
    assert len(axes.lines) >= 4


def test_quantities_have_three_digits_and_a_prefix() -> None:
    assert [quantity(v) for v in (0, 1.2345e-3, 2.5e6, 4e-13)] == ["0 ", "1.23 m", "2.5 M", "0.4 p"]


def test_links_meet_the_traces_of_the_split(scene: Scene) -> None:
    sent = replace(scene, machine=build_machine("split_wifi"))
    for part in PARTS:
        machine = sent.lanes(part, learned=False, lanes=2).machine
        assert isinstance(machine, Split) and isinstance(machine.link.bandwidth, Synthetic)
        assert machine.link.bandwidth.part == part
