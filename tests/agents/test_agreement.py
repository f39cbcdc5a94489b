"""Live and recorded, decision by decision."""

from dataclasses import replace

import pytest
import torch

from penstock.agents import Scene
from penstock.agents.agreement import Agreement, Pair, compare
from penstock.agents.dominated import kept_choices, thinned
from penstock.envs import Arrivals, Budget, Lanes, Live, Stream
from penstock.envs.record import record_outcomes
from penstock.hardware import Machine, build_machine

RULES = Stream(
    inputs_per_episode=4,
    stages=(0, 2, 4),
    choices={"bits": (8,), "run": (1,), "width": (0.5, 0.75, 1.0)},
)


def compared(scene: Scene, stream: Stream, machine: Machine, decisions: int = 300) -> Agreement:
    live = Live(scene.backbone, machine, scene.data.test.take(torch.arange(20)))
    recording = record_outcomes(live, RULES)
    lanes = [Lanes(source, stream, lanes=16, seed=3) for source in (live, recording)]
    return compare(lanes[0], lanes[1], recording.table.offered, decisions=decisions, seed=5)


@pytest.mark.parametrize(
    "stream",
    [
        RULES,
        replace(
            RULES,
            arrivals=Arrivals(period_s=0.01, jitter=1.0, deadline_s=0.02, capacity=2),
            budgets=(Budget("energy_j", 0.7, relative=True, kind="hard"),),
        ),
    ],
    ids=["plain", "limited"],
)
@pytest.mark.parametrize("machine", ["microcontroller", "split_wifi"])
def test_a_network_agrees_with_its_recording(scene: Scene, stream: Stream, machine: str) -> None:
    found = compared(scene, stream, build_machine(machine))
    assert found.decisions >= 300 and found.answers > 50
    assert (found.equal_right, found.equal_masks, found.objection()) == (1.0, 1.0, "")
    assert found.seen < 0.02 and not found.errs
    for pair in (found.utility, *found.cost.values()):
        assert pair.recorded == pytest.approx(pair.live, rel=1e-9)
        assert pair.half == pytest.approx(0.0, abs=1e-9 * max(1.0, pair.live))


def test_what_was_dropped_is_not_compared(scene: Scene) -> None:
    live = Live(scene.backbone, scene.machine, scene.data.test.take(torch.arange(20)))
    whole = record_outcomes(live, RULES)
    kept = kept_choices(whole, 0.0)
    thin = thinned(whole, kept)
    assert len(thin.tree) < len(whole.tree)
    lanes = [Lanes(source, RULES, lanes=16, seed=3) for source in (live, thin)]
    found = compare(lanes[0], lanes[1], thin.table.offered, decisions=300)
    assert (found.equal_right, found.equal_masks, found.objection()) == (1.0, 1.0, "")


def test_a_machine_that_errs_agrees_in_the_mean(scene: Scene) -> None:
    stream = replace(RULES, choices={**RULES.choices, "snr_db": (5,), "votes": (1,)})
    live = Live(scene.backbone, build_machine("analog"), scene.data.test)
    recording = record_outcomes(live, stream)
    lanes = [Lanes(source, stream, lanes=64) for source in (live, recording)]
    found = compare(lanes[0], lanes[1], recording.table.offered, decisions=2000)
    assert found.errs and found.utility.half > 0 and found.objection() == ""


AGREED = Agreement(
    decisions=9,
    answers=3,
    equal_right=1.0,
    equal_masks=1.0,
    seen=0.0,
    column="first",
    utility=Pair(0.8, 0.8, 0.0),
    cost={"energy_j": Pair(2.0, 2.0, 0.0), "latency_s": Pair(1.0, 1.0, 0.0)},
    errs=False,
    measured=False,
)


def test_how_much_may_differ() -> None:
    def objection(**changes: object) -> str:
        return replace(AGREED, **changes).objection()  # type: ignore[arg-type]

    assert objection() == "" == objection(utility=Pair(0.8, 0.804, 0.0))
    assert objection(utility=Pair(0.8, 0.794, 0.0)) == (
        "utility differs by 0.60 points, where 0.5 are allowed"
    )
    # The interval holds none where nothing is drawn, and counts where something is.
    assert objection(utility=Pair(0.8, 0.7, 0.099)) != ""
    assert objection(utility=Pair(0.8, 0.7, 0.099), errs=True) == ""
    assert "5.00 points" in objection(utility=Pair(0.8, 0.7, 0.05), errs=True)
    late = {**AGREED.cost, "latency_s": Pair(1.0, 1.15, 0.0)}
    assert objection(cost=late).startswith("latency_s differs by 15.00 %")
    assert objection(cost=late, measured=True) == ""
    assert objection(cost={"sent_bytes": Pair(0.0, 1.0, 0.0)}) != ""
    assert objection(cost={"sent_bytes": Pair(0.0, 0.0, 0.0)}) == ""


def test_the_interval_by_hand(scene: Scene) -> None:
    """Input 0 is right live and wrong as recorded, input 1 is right in both."""
    stream = replace(RULES, inputs_per_episode=1, stages=(0,))
    live = Live(scene.backbone, scene.machine, scene.data.test.take(torch.arange(2)))
    recording = record_outcomes(live, stream)
    said = torch.zeros_like(recording.said)
    said[1, :, 0] = 1.0
    false = replace(recording, said=said)
    true = replace(recording, said=torch.ones_like(said))
    lanes = [Lanes(source, stream, lanes=10) for source in (true, false)]
    found = compare(lanes[0], lanes[1], recording.table.offered, decisions=1)
    # One answer a lane: of n, k are about input 0. The difference is d = -k / n; each answer about
    # input 0 pulls it by -1 - d and each about input 1 by -d, so that inputs pull by -k (1 - k / n)
    # and k (1 - k / n), over n; two inputs: times 2.
    n, share = 10, -found.utility.difference
    pull = share * (1 - share)
    assert n == found.answers and 0 < share < 1
    assert found.utility.half == pytest.approx(1.96 * (2 * pull**2 * 2) ** 0.5)
    assert found.equal_right == pytest.approx(1 - share)
