"""Traces, where they come from, and what a transfer over them takes."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import InputError
from penstock.hardware import (
    LTE,
    THREE_G,
    WIFI,
    Link,
    Radio,
    Recorded,
    Sparse,
    Split,
    Switched,
    Synthetic,
    build_machine,
)
from penstock.hardware.parts import at_part
from penstock.hardware.recorded import split_files
from penstock.hardware.traces import PARTS, Part, Trace, Traces, constant

# 8 bit/s for a second, then 2 bit/s for two: 12 bits in 3 seconds, and again.
STEPS = Trace(torch.tensor([0.0, 1.0, 3.0]), torch.tensor([8.0, 2.0]))


def at(seconds: float, share: float = 1.0, trace: int = 0) -> tuple[Tensor, Tensor]:
    """One lane that began at 0 and is there now."""
    drawn = torch.tensor([[trace, 0.0, share]], dtype=torch.float64)
    return drawn, torch.tensor([seconds], dtype=torch.float64)


@pytest.mark.parametrize(
    ("start_s", "bits", "seconds"),
    [
        (0.0, 8, 1.0),
        (0.5, 4, 0.5),
        (0.5, 6, 1.5),  # 4 bits in the first half second, 2 bits at 2 bit/s
        (0.5, 12, 3.0),  # once around, wherever it begins
        (0.5, 20, 5.5),  # once around, then 4 bits in half a second and 4 bits in 2 s
        (2.0, 6, 1.5),  # 2 bits in the last second of the trace, 4 bits in half of its first
        (302.0, 6, 1.5),  # the trace has begun anew a hundred times
        (1.0, 0, 0.0),
    ],
)
def test_a_transfer_over_a_changing_trace_by_hand(
    start_s: float, bits: float, seconds: float
) -> None:
    traces = Traces([STEPS], floor_bps=1.0)
    drawn, now = at(start_s)
    assert traces.transfer_s(drawn, now, bits).item() == pytest.approx(seconds)
    assert traces.sent_bits(drawn, now, seconds).item() == pytest.approx(bits)


def test_a_share_of_the_trace_is_as_much_slower() -> None:
    half = replace(STEPS, least_share=0.5, most_share=0.5)
    traces = Traces([STEPS, half], floor_bps=1e-3)
    drawn, now = at(0.5, share=0.5, trace=1)
    assert traces.transfer_s(drawn, now, 3).item() == pytest.approx(1.5)
    assert traces.bandwidth_bps(drawn, now).item() == 4.0
    assert traces.slowest_bps == 1.0


def test_the_floor_holds_for_the_uplink_too() -> None:
    dead = Trace(
        torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 100.0]), least_share=0.1, most_share=0.5
    )
    traces = Traces([dead], floor_bps=5.0)
    assert traces.slowest_bps == pytest.approx(5.0)
    assert traces.bandwidth_bps(*at(0.0, share=0.1)).item() == pytest.approx(5.0)
    assert traces.bandwidth_bps(*at(1.0, share=0.1)).item() == pytest.approx(10.0)


def test_streams_draw_traces_starts_and_shares() -> None:
    many = [replace(constant(1e6), least_share=0.1, most_share=0.5)] * 4
    traces = Traces(many, floor_bps=1.0)
    drawn = traces.draw(4000, torch.Generator().manual_seed(0))
    assert set(drawn[:, 0].tolist()) == {0, 1, 2, 3}
    assert 0 <= drawn[:, 1].min() < 0.01 and 0.99 < drawn[:, 1].max() < 1
    assert 0.1 <= drawn[:, 2].min() < 0.11 and 0.49 < drawn[:, 2].max() <= 0.5


amounts = st.floats(1e-3, 1e7)


@given(
    lasts=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    speeds=st.lists(st.floats(0, 1e6), min_size=6, max_size=6),
    start_s=st.floats(0, 1e4),
    bits=st.tuples(amounts, amounts),
)
def test_time_never_goes_back_and_what_was_sent_was_sent(
    lasts: list[float], speeds: list[float], start_s: float, bits: tuple[float, float]
) -> None:
    time_s = torch.tensor([0.0, *lasts], dtype=torch.float64).cumsum(dim=0)
    traces = Traces([Trace(time_s, torch.tensor(speeds[: len(lasts)]))], floor_bps=10.0)
    drawn, now = at(start_s)
    first = traces.transfer_s(drawn, now, bits[0])
    both = traces.transfer_s(drawn, now, sum(bits))
    assert 0 <= first <= both * (1 + 1e-9) + 1e-9
    assert both <= sum(bits) / traces.slowest_bps * (1 + 1e-9) + 1e-6
    # In two parts it takes as long as in one.
    second = traces.transfer_s(drawn, now + first, bits[1])
    assert (first + second).item() == pytest.approx(both.item(), rel=1e-6, abs=1e-6)
    sent = traces.sent_bits(drawn, now, both).item()
    assert sent == pytest.approx(sum(bits), rel=1e-6, abs=1e-2)


# Files --------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_file_of_ones_own(write: Callable[[str, str], Path]) -> None:
    file = write("a.csv", "time_s,bandwidth_bps,rtt_s\n10,8,0.1\n11,2,0.2\n13,0,0\n")
    (read,) = Recorded(str(file)).recordings()
    assert torch.equal(read.time_s, STEPS.time_s.double())
    assert torch.equal(read.bandwidth_bps, STEPS.bandwidth_bps.double())
    link = Link(Recorded(str(file)), rtt_s=9.0, floor_bps=1.0)
    assert link.longest_rtt_s == 0.2 and link.slowest_bps == 2.0
    state = {**link.begin(1, torch.Generator()), "trace": at(0.0)[0]}
    seen = link.later(state, 0.5)
    assert seen["rtt_s"].item() == 0.1
    assert seen["log10_bps"].item() == pytest.approx(0.90309, abs=1e-5)  # log10 8
    assert link.later(seen, 1.0)["rtt_s"].item() == 0.2


def test_a_measured_downlink_is_spread_over_its_time(write: Callable[[str, str], Path]) -> None:
    head = "timestamp,downlink_kbps,uplink_kbps\n"
    rows = "2019.12.14_10.16.30,7,1\n2019.12.14_10.16.30,5,1\n2019.12.14_10.16.33,0,9\n"
    file = write("download_static.csv", head + rows)
    (read,) = Recorded(str(file), least_share=0.2, most_share=0.3).recordings()
    assert read.time_s.tolist() == [0.0, 1.5, 3.0, 4.5]
    assert read.bandwidth_bps.tolist() == [7e3, 5e3, 0.0]  # the uplink's column is not looked at
    assert (read.least_share, read.most_share) == (0.2, 0.3)


def test_the_published_5g_files_are_read_as_they_are(write: Callable[[str, str], Path]) -> None:
    head = "Timestamp,Longitude,Latitude,Speed,NetworkMode,DL_bitrate,UL_bitrate,State,PINGAVG\n"
    row = "2020.02.27_20.35.{},-8.4,51.9,3,5G,{},12,D,-\n"
    file = write("B_2020.02.27_20.35.57.csv", head + row.format(57, 80_000) + row.format(58, 500))
    (read,) = Recorded(str(file)).recordings()
    assert read.bandwidth_bps.tolist() == [8e7, 5e5] and read.time_s.tolist() == [0.0, 1.0, 2.0]
    assert (read.least_share, read.most_share) == (0.1, 0.5)


def test_only_downloads_measure_capacity(write: Callable[[str, str], Path]) -> None:
    rows = "timestamp,downlink_kbps\n2019.12.14_10.16.30,7\n2019.12.14_10.16.31,5\n"
    for index in range(5):
        write(f"download_{index}.csv", rows)
        last = write(f"netflix_{index}.csv", rows)
    assert len(Recorded(str(last.parent), part="all").recordings()) == 5
    with pytest.raises(InputError, match="and holds none; name another folder"):
        Recorded(str(last)).recordings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("time_s,bandwidth_bps\n0,1\n", "two or more rising time_s"),
        ("time_s,bandwidth_bps\n0,1\n0,1\n", "two or more rising time_s"),
        ("time_s,bandwidth_bps\nnan,1\n1,1\n", "finite numbers of at least -inf in time_s"),
        ("time_s,bandwidth_bps\n0,fast\n1,1\n", "numbers in bandwidth_bps, and could not convert"),
        ("time_s,bandwidth_bps\n0,-1\n1,1\n", "at least 0 in bandwidth_bps"),
        ("time_s,bandwidth_bps\n0\n", "rows as long as it"),
        ("seconds,mbps\n0,1\n", "columns time_s, bandwidth_bps or .* got seconds, mbps"),
        ("timestamp,downlink_kbps\n1 pm,1\n2 pm,1\n", "stamps as 2020.02.27_20.35.57, got"),
        ("", "a header and rows"),
    ],
)
def test_a_file_that_is_no_trace_is_explained(
    write: Callable[[str, str], Path], text: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        Recorded(str(write("download.csv", text))).recordings()


@given(st.integers(3, 60), st.integers(0, 5))
def test_files_are_split_once_and_for_all(count: int, seed: int) -> None:
    files = [Path(f"here/drive_{index}.csv") for index in range(count)]
    parts = split_files(files, seed)
    assert sorted(file for part in parts.values() for file in part) == sorted(files)
    assert all(len(parts[part]) >= 1 for part in PARTS)
    moved = [Path("there") / file.name for file in reversed(files)]
    again = split_files(moved, seed)
    assert {p: {f.name for f in fs} for p, fs in again.items()} == {
        p: {f.name for f in fs} for p, fs in parts.items()
    }


def test_too_few_files_are_not_split() -> None:
    with pytest.raises(InputError, match="three traces or more, got 2"):
        split_files([Path("a.csv"), Path("b.csv")], 0)


def test_measured_5g_traces_are_what_they_are_known_to_be() -> None:
    folder = Path(os.environ.get("PENSTOCK_DATA", ".")) / "traces_5g"
    if not folder.is_dir():
        pytest.skip("PENSTOCK_DATA names no folder with traces_5g")
    parts: list[Part] = ["train", "validation", "test"]
    split = [Recorded(str(folder), part=part).recordings() for part in parts]
    assert sum(map(len, split)) == len(Recorded(str(folder), part="all").recordings())
    for part in split:
        for recording in part:
            assert recording.time_s.diff().min() >= 1.0 and recording.time_s.diff().max() < 1.2
            mean_mbps = recording.bandwidth_bps.mean().item() / 1e6
            assert 4 < mean_mbps < 125
    link = Link(Recorded(str(folder)), rtt_s=0.02)
    assert link.slowest_bps == pytest.approx(1e4)


# Generator ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generator", "variation", "correlation"),
    [
        # The published generator's own statistics: median coefficient of variation over the traces,
        # and median correlation of neighbouring seconds.
        (Synthetic(spread=0.3, noise=0.15), 0.28, 0.66),
        (Synthetic(), 0.50, 0.81),
        (Synthetic(spread=1.0, noise=0.5), 0.83, 0.82),
        (Synthetic(spread=1.4, noise=0.8), 1.40, 0.76),
        (Synthetic(spread=0.6, noise=0.6, correlation=0.1, dwell_s=5), 0.82, 0.24),
    ],
)
def test_the_generators_statistics(
    generator: Synthetic, variation: float, correlation: float
) -> None:
    traces = replace(generator, traces=400, length_s=1200).drawn()[0]
    mean = traces.mean(dim=1, keepdim=True)
    assert (traces.std(dim=1) / mean[:, 0]).median().item() == pytest.approx(variation, abs=0.06)
    off = traces - mean
    lag = (off[:, 1:] * off[:, :-1]).sum(dim=1) / off.square().sum(dim=1)
    assert lag.median().item() == pytest.approx(correlation, abs=0.04)
    assert traces.median().item() == pytest.approx(5e6, rel=0.2)


def test_outages_come_as_often_as_they_should() -> None:
    generator = Synthetic(spread=0.0, noise=0.0, outage=0.1, outage_share=0.5, traces=50)
    bandwidth_bps = generator.drawn()[0]
    out = bandwidth_bps == 2.5e6
    assert (bandwidth_bps[~out] == 5e6).all()
    assert out.double().mean().item() == pytest.approx(0.1, abs=0.01)


def test_round_trips_jump_with_the_level() -> None:
    generator = Synthetic(noise=0.0, outage=0.0, rtt_s=0.05, rtt_spread=0.5, traces=200)
    bandwidth_bps, rtt_s = generator.drawn()
    jumps = bandwidth_bps.diff(dim=1) != 0
    assert jumps.any() and torch.equal(jumps, rtt_s.diff(dim=1) != 0)
    assert rtt_s.log().std().item() == pytest.approx(0.5, abs=0.05)
    assert rtt_s.median().item() == pytest.approx(0.05, rel=0.1)
    link = Link(generator, rtt_s=9.0)
    assert link.longest_rtt_s == pytest.approx(rtt_s.max().item())
    assert torch.equal(bandwidth_bps, replace(generator, rtt_s=None).drawn()[0])


def test_the_seed_makes_the_traces() -> None:
    same, other = Synthetic(seed=1).drawn()[0], Synthetic(seed=2).drawn()[0]
    assert torch.equal(same, Synthetic(seed=1).drawn()[0])
    assert not torch.equal(same, other)


def test_a_machine_meets_other_traces_on_other_images(tmp_path: Path) -> None:
    edge = build_machine("edge")
    for index in range(5):
        text = f"time_s,bandwidth_bps\n0,{index + 1}e6\n1,1e6\n"
        (tmp_path / f"{index}.csv").write_text(text)
    files = Recorded(str(tmp_path))
    met = []
    for part in PARTS:
        machine = Sparse(Split(edge, edge, Link(files, 0.01)), {32: 1}, clock_hz=1.0, cycle_j=1.0)
        there = at_part(machine, part)
        assert isinstance(there, Sparse) and isinstance(there.inner, Split)
        source = there.inner.link.bandwidth
        assert isinstance(source, Recorded)
        met += [float(each.bandwidth_bps[0]) for each in source.recordings()]
    assert sorted(met) == [1e6, 2e6, 3e6, 4e6, 5e6]
    drawn = [Synthetic(seed=3).at(part).recordings()[0].bandwidth_bps for part in PARTS]
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
    assert replace(files, part="test").at("validation").part == "test"
    assert at_part(edge, "test") is edge


# Links --------------------------------------------------------------------------------------------


def test_energy_of_a_transfer_by_hand() -> None:
    # 1 Mbit at 2 Mbit/s over LTE: 0.5 s at 438.39 * 2 + 1288.04 = 2164.82 mW are 1.08241 J;
    # waiting 0.1 s at 0.3 W is 0.03 J.
    link = Link(2e6, rtt_s=0.1, radio=LTE)
    assert link.energy_j(1e6, 0.5, 0.1) == pytest.approx(1.11241)
    powers = [(r.joules_per_bit * 2e6 + r.power_w) for r in (LTE, THREE_G, WIFI)]
    assert powers == pytest.approx([2.16482, 2.55584, 0.6992])


def test_round_trips_are_drawn_for_each_stream() -> None:
    link = Link(1e6, rtt_s=0.01, rtt_most_s=1.0)
    rtt_s = link.begin(2000, torch.Generator().manual_seed(0))["rtt_s"]
    assert 0.01 <= rtt_s.min() < 0.0102 and 0.98 < rtt_s.max() <= 1.0
    assert rtt_s.median().item() == pytest.approx(0.1, rel=0.1)  # even on a logarithmic scale
    assert link.longest_rtt_s == 1.0


def test_links_pickle_and_do_not_carry_their_traces() -> None:
    link = Link(Synthetic(), rtt_s=0.02)
    assert link.slowest_bps > 0
    assert len(pickle.dumps(link)) < 1000
    again = pickle.loads(pickle.dumps(link))
    seeds = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    one, two = link.begin(5, seeds[0]), again.begin(5, seeds[1])
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Link(1e6, rtt_s=-1.0), "0 < rtt_s <= rtt_most_s"),
        (lambda: Link(1e6, rtt_s=0.2, rtt_most_s=0.1), "0 < rtt_s <= rtt_most_s"),
        (lambda: Link(0.0, rtt_s=0.2).slowest_bps, "a floor above 0 bit/s"),
        (lambda: Synthetic(outage=2.0), "lie in 0..1"),
        (lambda: Synthetic(traces=0), "above 0 and a dwell_s"),
        (lambda: Synthetic(rtt_s=0.0), "an rtt_s above 0, or none"),
        (lambda: Recorded("x", least_share=0.0), "0 < least_share <= most_share"),
        (lambda: Recorded("x", part="tests"), "Did you mean 'test'"),  # type: ignore[arg-type]
    ],
)
def test_numbers_out_of_range_are_explained(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


def test_a_radio_may_be_ones_own() -> None:
    assert Link(1e6, rtt_s=0.0, radio=Radio(0.0, 0.0), idle_w=0.0).energy_j(1e9, 1.0, 1.0) == 0.0


@pytest.mark.parametrize("at_s", [4.0, 4.5])
def test_a_bandwidth_that_is_switched(at_s: float) -> None:
    plain = Synthetic(traces=3, length_s=10, rtt_s=0.01)
    link = Link(Switched(plain, at_s), 0.02)
    state, same = link.begin(8, torch.Generator()), Link(plain, 0.02)
    assert (state["trace"][:, 1] == 0).all()  # streams start where traces do
    for second in (0.0, at_s - 0.1, at_s + 0.1, 9.5):
        time_s = torch.full((8, 1), second, dtype=torch.float64)
        now, before = (each.look({**state, "time_s": time_s}) for each in (link, same))
        share = 1.0 if second < at_s else 0.2
        expected = before["log10_bps"] + torch.tensor(share).double().log10()
        torch.testing.assert_close(now["log10_bps"], expected)
        torch.testing.assert_close(now["rtt_s"], before["rtt_s"])
    validation = Switched(plain, at_s).at("validation")
    assert validation.bandwidth == plain.at("validation")
    with pytest.raises(InputError, match="to a share above 0, got 4 and 0"):
        Switched(plain, 4.0, 0.0)
