"""Lanes that leave the device, and what that costs, by hand and by any sequence of jobs."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any, final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from penstock.backbones import Block, Images, InputError, Setting, tiny_resnet
from penstock.envs import Lanes, Live, Stream
from penstock.hardware import (
    RESOURCES,
    Analog,
    Cost,
    Digital,
    Job,
    Link,
    Machine,
    Radio,
    Remote,
    Split,
    State,
    Synthetic,
    build_machine,
    check_machine,
    constants,
    through,
)
from penstock.hardware.features import arrived, code, coded_bytes, decode

NEAR = Digital(
    mac_j={32: 2.0},
    sram_j_per_byte=0.0,
    memory_j_per_byte=0.0,
    macs_per_s={32: 2.0},
    memory_bytes_per_s=inf,
    launch_s=0.5,
)
FAR = replace(NEAR, macs_per_s={32: 8.0}, launch_s=0.0, mac_j={32: 7.0})
LINK = Link(64.0, rtt_s=0.25, radio=Radio(0.5, 3.0), idle_w=0.1)
SPLIT = Split(NEAR, FAR, LINK, timeout_s=10.0)


@final
class Matrix(Block):
    """4 -> 4 numbers by 16 multiplications."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.linear = nn.Linear(4, 4, bias=False)

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        """[n, 4] -> [n, 4]."""
        y: Tensor = self.linear(x)
        return y


STEM, BODY = Matrix("stem").eval(), Matrix("blocks.0").eval()
X = torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 4.0, 4.0, 4.0]])


def start(machine: Machine, n: int = 1) -> State:
    return machine.reset(n, torch.Generator().manual_seed(0))


@torch.no_grad()
def run(
    machine: Machine, block: Block, state: State, offload: float = 0, x: Tensor = X[:1]
) -> tuple[Tensor, Cost, State]:
    return machine.run(Job(block, x, {"offload": offload}), state, torch.Generator())


def spent(cost: Cost, lane: int = 0) -> list[float]:
    rows = cost.rows()
    amounts: list[float] = (rows[lane] if rows.dim() == 2 else rows).tolist()
    return amounts


# By hand ------------------------------------------------------------------------------------------


def test_near_it_costs_what_the_device_asks() -> None:
    # 16 MACs at 2 J and 2 a second, half a second to start.
    _, cost, state = run(SPLIT, BODY, start(SPLIT))
    assert cost == NEAR.price(BODY, {}, (4,)) == Cost(32.0, 8.5, 16.0)
    assert state["time_s"].item() == 8.5 and state["away"].item() == 0


def test_features_leave_by_hand() -> None:
    # 4 numbers at 32 bits are 128 bits: 2 s at 64 bit/s, then 0.25 s of round trip and 16 / 8 = 2 s
    # of the server. The radio takes 0.5 * 128 + 3 * 2 = 70 J, waiting 0.1 * 2.25 = 0.225 J.
    _, cost, state = run(SPLIT, BODY, start(SPLIT), offload=32)
    assert spent(cost) == pytest.approx([70.225, 4.25, 0.0, 16.0])
    assert state["time_s"].item() == pytest.approx(4.25)
    assert state["away"].item() == 1 and state["lost"].item() == 0


def test_few_bits_leave_sooner() -> None:
    # 4 codes of 8 bits and two float32 are 12 bytes: 96 bits, 1.5 s.
    _, cost, _ = run(SPLIT, BODY, start(SPLIT), offload=8)
    assert spent(cost) == pytest.approx([0.5 * 96 + 3 * 1.5 + 0.225, 3.75, 0.0, 12.0])


def test_a_busy_server_takes_longer() -> None:
    # Busy for 3/4 of its time it shares itself with 3 others: 4 times as long.
    busy = replace(SPLIT, busy=(0.75, 0.75))
    _, cost, state = run(busy, BODY, start(busy), offload=32)
    assert state["load"].item() == 3
    assert spent(cost)[:2] == pytest.approx([70.025 + 0.1 * 8, 2.25 + 8])


def test_what_the_server_spends_may_be_counted() -> None:
    counted = replace(SPLIT, count_far=True)
    _, cost, _ = run(counted, BODY, start(counted), offload=32)
    assert spent(cost) == pytest.approx([70.225 + 16 * 7, 4.25, 16.0, 16.0])


def test_a_transfer_that_takes_too_long_is_given_up() -> None:
    # After 1.5 s of 2 are 96 of 128 bits gone: 48 J + 4.5 J, and the near machine does the work.
    hasty = replace(SPLIT, timeout_s=1.5)
    y, cost, state = run(hasty, BODY, start(hasty), offload=32)
    assert state["lost"].item() == 1 and state["away"].item() == 0
    assert spent(cost) == pytest.approx([48 + 4.5 + 32, 1.5 + 8.5, 16.0, 12.0])
    assert torch.equal(y, BODY(X[:1], {}))


def test_what_was_sent_may_go_unanswered() -> None:
    # Everything is sent after 2 s, and 0.1 s of waiting later patience ends.
    hasty = replace(SPLIT, timeout_s=2.1)
    _, cost, _ = run(hasty, BODY, start(hasty), offload=32)
    assert spent(cost) == pytest.approx([64 + 6 + 0.01 + 32, 2.1 + 8.5, 16.0, 16.0])


def test_features_leave_once_and_come_back_with_the_next_input() -> None:
    _, cost, state = run(SPLIT, STEM, start(SPLIT))
    assert spent(cost)[3] == 0
    _, cost, state = run(SPLIT, BODY, state, offload=32)
    assert spent(cost)[3] == 16
    for offload in (32, 8, 0):  # whatever the knob says
        y, cost, state = run(SPLIT, BODY, state, offload=offload)
        assert spent(cost) == pytest.approx([0.2, 2.0, 0.0, 0.0])
        assert torch.equal(y, BODY(X[:1], {}))
    _, cost, state = run(SPLIT, STEM, state)
    assert spent(cost) == [32.0, 8.5, 16.0, 0.0]
    assert state["away"].item() == 0
    assert state["time_s"].item() == pytest.approx(8.5 + 4.25 + 3 * 2 + 8.5)


def test_at_the_stem_the_image_itself_leaves() -> None:
    _, cost, state = run(SPLIT, STEM, start(SPLIT), offload=32)
    assert spent(cost)[3] == 16 and state["away"].item() == 1


def test_inputs_may_come_at_intervals() -> None:
    camera = replace(SPLIT, period_s=20.0)
    _, _, state = run(camera, STEM, start(camera))
    assert state["time_s"].item() == 8.5  # the first comes at once
    _, cost, state = run(camera, STEM, state)
    assert state["time_s"].item() == 28.5  # the second at 20 s
    assert spent(cost)[1] == 8.5
    _, _, state = run(replace(camera, period_s=1.0), STEM, state)
    assert state["time_s"].item() == 37.0  # late already: at once


def test_lanes_here_and_there_run_as_two_batches() -> None:
    state = start(SPLIT, 4)
    state = {**state, "away": torch.tensor([1.0, 0.0, 0.0, 1.0])}
    x = torch.rand(4, 4)
    y, cost, after = run(SPLIT, BODY, state, x=x)
    assert torch.allclose(y, BODY(x, {}), atol=1e-6)
    assert torch.allclose(cost.rows()[:, 1], torch.tensor([2.0, 8.5, 8.5, 2.0]).double())
    assert torch.equal(after["time_s"].squeeze(1), cost.rows()[:, 1])
    _, cost, after = run(SPLIT, BODY, state, offload=32, x=x)
    assert cost.rows()[:, 3].tolist() == [0.0, 16.0, 16.0, 0.0]
    assert after["away"].tolist() == [1.0] * 4


# Rounding -----------------------------------------------------------------------------------------


def test_eight_bits_by_hand() -> None:
    # 0..3 in 255 steps; codes 0, 85, 170 and 255 meet 0, 1, 2 and 3. All alike is met exactly.
    coded = code(X, 8)
    assert coded.codes.tolist() == [[0, 85, 170, 255], [0, 0, 0, 0]]
    assert coded.low.flatten().tolist() == [0.0, 4.0]
    assert coded.step.flatten().tolist() == pytest.approx([3 / 255, 0.0])
    assert torch.allclose(decode(coded), X)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_rounding_is_off_by_half_a_step_at_most(bits: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 2, 4, 4, generator=rng) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1, 1)
    coded = code(x, bits)
    assert ((decode(coded) - x).abs() <= coded.step * 0.5001).all()
    assert torch.equal(decode(coded), arrived(x, bits))
    assert torch.equal(arrived(x[1:2], bits), arrived(x, bits)[1:2])
    assert coded_bytes((2, 4, 4), bits) == 4 * bits + 8


def test_gradients_pass_through_the_rounding() -> None:
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(arrived(x, 2).sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_rounded_features_change_what_comes_behind_and_exact_ones_do_not() -> None:
    backbone = tiny_resnet().eval()
    images = torch.rand(4, 1, 8, 8)
    machine = Split(build_machine("phone"), build_machine("server"), Link(1e6, 0.01), (4, 8, 32))
    with torch.no_grad():
        exactly = backbone(images)
        off = []
        for bits in (4, 8, 32):
            split = through(machine, torch.Generator(), {"offload": bits})
            off.append((backbone.answers(images, run=split)[2] - exactly).abs().max().item())
    assert off[0] > off[1] > off[2] == 0


# Rules --------------------------------------------------------------------------------------------

SERVER = build_machine("server")
WIDE = Link(Synthetic(traces=8, length_s=60), rtt_s=0.005, rtt_most_s=0.5)


@pytest.mark.parametrize(
    "machine",
    [
        Split(build_machine("phone"), build_machine("server"), Link(5e6, rtt_s=0.02)),
        Split(build_machine("phone"), build_machine("server"), WIDE, busy=(0.1, 0.8)),
        Split(build_machine("phone"), build_machine("server"), WIDE, timeout_s=0.05),
        Split(
            Analog(build_machine("edge")),
            Analog(build_machine("server")),
            replace(WIDE, floor_bps=1e3),
            bits=(2, 32),
            busy=(0.0, 0.5),
            timeout_s=0.01,
            count_far=True,
        ),
    ],
    ids=["constant", "generated", "hasty", "noisy"],
)
def test_splits_keep_the_rules(machine: Split) -> None:
    check_machine(machine)


def test_on_a_constant_link_the_price_is_the_cost() -> None:
    machine = Split(build_machine("phone"), SERVER, Link(5e6, rtt_s=0.02))
    block, x = tiny_resnet().stem.eval(), torch.rand(1, 1, 8, 8)
    for offload in (8, 32):
        _, cost, _ = run(machine, block, start(machine), offload, x)
        price = machine.price(block, {"offload": offload}, (1, 8, 8))
        assert price.sent_bytes == spent(cost)[3]
        near, far = (m.price(block, {}, (1, 8, 8)).latency_s for m in (machine.near, SERVER))
        sending_s = price.latency_s - max(near, far)
        assert spent(cost)[1] == pytest.approx(sending_s + far)
    assert machine.price(block, {}, (1, 8, 8)) == machine.near.price(block, {}, (1, 8, 8))


jobs = st.lists(st.tuples(st.booleans(), st.sampled_from([8, 32, 0])), min_size=1, max_size=12)


@settings(deadline=None)
@given(jobs, st.integers(0, 100), st.floats(1e-3, 2.0))
def test_any_sequence_of_jobs_keeps_time_bytes_and_prices(
    sequence: list[tuple[bool, int]], seed: int, timeout_s: float
) -> None:
    n, rng = 3, torch.Generator().manual_seed(seed)
    link = replace(WIDE, bandwidth=Synthetic(median_bps=1e3, traces=8, length_s=60), floor_bps=10.0)
    machine = replace(SPLIT, link=link, timeout_s=timeout_s, busy=(0.0, 0.9), period_s=3.0)
    state, x = machine.reset(n, rng), torch.rand(n, 4, generator=rng)
    for is_stem, offload in [(True, 0), *sequence]:
        block, setting = STEM if is_stem else BODY, {"offload": offload}
        home = (state["away"] == 0) | is_stem
        with torch.no_grad():
            _, cost, after = machine.run(Job(block, x, setting), state, rng)
        cost_rows = cost.rows().expand(n, -1)
        latency_s = cost_rows[:, 1]
        # Time goes on by what was charged, and by waiting for an input.
        passed_s = (after["time_s"] - state["time_s"]).squeeze(1)
        assert (passed_s >= latency_s - 1e-9).all()
        assert is_stem or torch.allclose(passed_s, latency_s)
        # Who is away sends nothing; who leaves sends everything, once; who gave up, a part.
        lost = (after["lost"] - state["lost"]).squeeze(1)
        whole = float(coded_bytes((4,), offload)) if offload else 0.0
        left = home & (after["away"] == 1)
        assert torch.equal(cost_rows[left, 3], torch.full_like(cost_rows[left, 3], whole))
        assert (cost_rows[~home, 3] == 0).all() and (cost_rows[:, 3] <= whole).all()
        assert (lost == (home & (after["away"] == 0) & (offload > 0))).all()
        # Nobody leaves or returns for another reason.
        assert (left == (home & (offload > 0) & (lost == 0))).all()
        assert (after["away"][~home] == 1).all()
        price = machine.price(block, setting, (4,)).rows()
        assert (cost_rows <= price * (1 + 1e-6)).all()
        state = after


def test_the_engine_offers_offloading() -> None:
    backbone = tiny_resnet()
    images = Images(
        torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8),
        torch.randint(10, (20,)),
        tuple("0123456789"),
    )
    machine = Split(build_machine("microcontroller"), build_machine("server"), WIDE)
    lanes = Lanes(Live(backbone, machine, images), Stream(inputs_per_episode=3), lanes=6)
    names = [column.name for column in lanes.layout.columns if column.name.startswith("machine_")]
    assert names == ["machine_rtt_s", "machine_log10_bps", "machine_load", "machine_away"]
    lanes.start(torch.arange(6))
    rng, outcomes = torch.Generator().manual_seed(0), []
    where = lanes.layout.where("machine_away")
    while lanes.active.any():
        draws = torch.rand(6, len(lanes.knobs), generator=rng)
        sizes = torch.tensor([len(knob.choices) for knob in lanes.knobs])
        outcomes.append(lanes.step((draws * sizes).long()).outcomes)
        assert lanes.observation.isfinite().all()
        assert set(lanes.observation[:, where].tolist()) <= {0.0, 1.0}
    sent = torch.cat([outcome.cost[:, RESOURCES.index("sent_bytes")] for outcome in outcomes])
    assert len(sent) == 18 and 0 < (sent > 0).sum() < 18


# Building and errors ------------------------------------------------------------------------------


def test_the_preset_is_made_of_presets() -> None:
    machine = build_machine("split_wifi")
    assert isinstance(machine, Split)
    assert machine.near == build_machine("microcontroller")
    assert machine.far == build_machine("server")
    listed = constants("split_wifi")
    assert {"near.mac_j.8", "far.launch_s", "link.radio.power_w"} <= {c.name for c in listed}
    assert all(c.source.startswith("[") and c.low < c.high for c in listed)


def test_what_stands_beside_a_preset_replaces_its_own() -> None:
    table = {"preset": "split_wifi", "timeout_s": 2.5, "near": {"preset": "phone", "launch_s": 0.0}}
    machine = build_machine(table)
    assert isinstance(machine, Split) and machine.timeout_s == 2.5
    assert machine.near == replace(build_machine("phone"), launch_s=0.0)  # type: ignore[type-var]
    remote = {"type": "penstock.hardware:Remote", "address": "server:50051"}
    assert build_machine({**table, "far": remote}) == replace(machine, far=Remote("server:50051"))
    with pytest.raises(InputError, match="Did you mean 'phone'"):
        build_machine({**table, "near": {"preset": "phon"}})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bits": (32, 8)}, r"bits are choices that rise, got \[32, 8\]"),
        ({"bits": (16,)}, "1 to 8 or at 32 bits, got 16"),
        ({"busy": (0.5, 1.0)}, "busy is the least and the most share"),
        ({"timeout_s": 0.0}, "timeout_s is above 0"),
        ({"far": "server:50051"}, "far of Split is a Machine or a Remote, got 'server:50051'"),
    ],
)
def test_numbers_out_of_range_are_explained(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(SPLIT, **changes)


def test_a_mask_is_refused() -> None:
    mask: Setting = {"offload": torch.ones(1)}
    with pytest.raises(ValueError, match="offload is a number for all lanes"):
        SPLIT.run(Job(BODY, X[:1], mask), start(SPLIT), torch.Generator())
