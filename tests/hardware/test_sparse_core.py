"""The simulated core: what SparCE does, and that its cycles are those of the closed form."""

from itertools import product as every
from math import inf, isnan
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from penstock.hardware.sparse_core import (
    REGIONS,
    SWITCH,
    Instruction,
    Outcome,
    Region,
    SkipTable,
    simulate,
)
from penstock.hardware.sparse_loop import Kernel, Loop, Mode, cycles, most_cycles, step
from penstock.hardware.sparse_programs import TABLE, Program, convolution, fully_connected
from penstock.hardware.sparse_reads import Multiply, kernel_of, zero_activations, zero_weights

ONE, OTHER, MARK = 3, 4, 20  # the registers asked, and one that counts what was executed
NOP = Instruction("nop")


def addi(register: int, number: int, source: int = 0) -> Instruction:
    return Instruction("addi", register, source, immediate=number)


def enter(*regions: Region) -> list[Instruction]:
    """Software that fills the table: two instructions, and two for each region."""
    code = [addi(5, REGIONS)]
    for region in regions:
        code += [addi(6, region.word), Instruction("st", 6, 5)]
    return [*code, NOP]


def entered(count: int) -> int:
    return 2 + 2 * count


COUNT = addi(MARK, 1, MARK)


def run(code: list[Instruction], memory: dict[int, float] | None = None) -> Outcome:
    return simulate(code, dict(memory or {}), mac_cycles=1)


def skips(
    one: int, other: int, *, both: bool, before: list[Instruction], at: Instruction = NOP
) -> bool:
    """Whether an instruction is skipped after these, where two registers started as given."""
    start = [addi(ONE, one), addi(OTHER, other), NOP, *before]
    place = entered(1) + len(start)
    region = Region(place, ONE, OTHER, both, length=1)
    done = run([*enter(region), *start, at, COUNT, NOP])
    assert done.skipped == 1 - done.registers[MARK]  # type: ignore[operator]
    return done.skipped == 1


# What the self-tests of the RTL check: single skip, ranges, branches taken and not, instructions in
# flight, the switch, and a register file after a reset (RISCVBusiness, self-tests sparce_*).


@pytest.mark.parametrize(("one", "other", "both"), list(every([0, 7], [0, 7], [True, False])))
def test_a_region_is_skipped_where_both_or_one_register_is_zero(
    one: int, other: int, both: bool
) -> None:
    expected = (one == 0 and other == 0) if both else (one == 0 or other == 0)
    assert skips(one, other, both=both, before=[]) is expected


@pytest.mark.parametrize("length", range(32))
def test_a_region_may_have_0_to_31_instructions(length: int) -> None:
    place = entered(1) + 2
    code = [*enter(Region(place, ONE, ONE, False, length)), addi(ONE, 0), NOP, NOP]
    done = run([*code, *[COUNT] * 31])
    assert done.registers[MARK] == 31 - length
    assert done.skipped == length


def test_a_branch_before_a_region_decides_alone() -> None:
    place = entered(1) + 2
    enter_it = enter(Region(place, ONE, ONE, False, 2))
    for name, executed in (("bne", 3), ("beq", 0)):  # not taken, and taken over all three
        branch = Instruction(name, b=0, c=0, immediate=place + 4)  # type: ignore[arg-type]
        done = run([*enter_it, addi(ONE, 0), NOP, branch, COUNT, COUNT, COUNT])
        assert (done.registers[MARK], done.skipped) == (executed, 0)


def test_the_instruction_before_the_marked_one_counts() -> None:
    assert skips(7, 7, both=False, before=[addi(ONE, 0)])
    assert not skips(0, 7, both=False, before=[addi(ONE, 7)])


def test_the_marked_instruction_itself_does_not_count() -> None:
    assert not skips(7, 7, both=False, before=[], at=addi(ONE, 0))
    assert skips(0, 7, both=False, before=[], at=addi(ONE, 7))


def test_a_store_switches_skipping_off_and_on() -> None:
    for number, executed in ((1, 1), (0, 0)):
        switch = [addi(7, SWITCH), addi(8, number), Instruction("st", 8, 7), NOP]
        place = entered(1) + len(switch) + 2
        region = Region(place, ONE, ONE, False, 1)
        done = run([*enter(region), *switch, addi(ONE, 0), NOP, NOP, COUNT])
        assert done.registers[MARK] == executed


@pytest.mark.parametrize("both", [True, False])
def test_registers_that_were_never_written_are_not_zero(both: bool) -> None:
    region = Region(entered(1), ONE, OTHER, both, 1)
    assert run([*enter(region), NOP, COUNT]).registers[MARK] == 1


def test_skipped_jumps_are_not_taken() -> None:
    place = entered(1) + 2
    away = Instruction("beq", b=0, c=0, immediate=99)
    done = run(
        [*enter(Region(place, ONE, ONE, False, 2)), addi(ONE, 0), NOP, NOP, away, away, COUNT]
    )
    assert done.registers[MARK] == 1


# What follows from it.


def test_x0_is_always_zero_so_one_register_is_asked_twice_or_with_both() -> None:
    for other, both, expected in ((0, False, True), (0, True, False), (ONE, False, False)):
        place = entered(1) + 2
        region = Region(place, ONE, other, both, 1)
        done = run([*enter(region), addi(ONE, 7), NOP, NOP, COUNT])
        assert (done.skipped == 1) is expected


@pytest.mark.parametrize(("between", "skipped"), [(0, 0), (1, 1), (2, 1)])
def test_a_load_must_stand_two_instructions_ahead_of_the_marked_one(
    between: int, skipped: int
) -> None:
    start = [addi(ONE, 7), Instruction("ld", ONE, 0, immediate=500), *[NOP] * between]
    place = entered(1) + len(start)
    done = run([*enter(Region(place, ONE, ONE, False, 1)), *start, NOP, COUNT])
    assert done.skipped == skipped


def test_a_load_in_flight_never_leaves_an_old_zero_behind() -> None:
    start = [addi(ONE, 0), NOP, Instruction("ld", ONE, 0, immediate=500)]
    place = entered(1) + len(start)
    done = run([*enter(Region(place, ONE, ONE, False, 1)), *start, NOP, COUNT], {500: 5})
    assert done.skipped == 0


def test_minus_zero_is_zero() -> None:
    start = [Instruction("ld", ONE, 0, immediate=500), NOP]
    region = Region(entered(1) + 2, ONE, ONE, False, 1)
    assert run([*enter(region), *start, NOP, COUNT], {500: -0.0}).skipped == 1


def test_a_row_of_the_table_forgets_what_was_used_least_recently() -> None:
    table = SkipTable()
    regions = [Region(4 * number, ONE, ONE, False, 1) for number in range(5)]  # all of row 0
    for region in regions[:4]:
        table.add(region)
    assert table.find(0) == regions[0]
    table.add(regions[4])
    assert [table.find(4 * number) for number in range(5)] == [regions[0], None, *regions[2:]]
    assert table.find(1) is None


def test_regions_lie_in_the_first_two_to_the_eighteen_bytes() -> None:
    table = SkipTable()
    table.add(Region.of(Region(2**16 + 8, ONE, ONE, False, 1).word))
    assert table.find(8) is not None and table.find(2**16 + 8) is None


def test_cycles_by_instruction_by_hand() -> None:
    code = [
        Instruction("ld", 1, 0, immediate=10),  # 3: a load of 3 cycles
        addi(2, 1, 1),  # 1 + 1: waits for the load
        Instruction("mac", 3, 1, 2),  # 4
        Instruction("beq", b=0, c=0, immediate=5),  # 1 + 2: taken
        NOP,
        Instruction("bne", b=3, c=0, immediate=6, counted=True),  # 1: taken, closes a loop
        Instruction("st", 3, 0, immediate=11),  # 1
    ]
    done = simulate(code, {10: 2.0}, mac_cycles=4, load_cycles=3)
    assert done.memory[11] == 6.0
    assert done.cycles == {"ld": 3, "addi": 2, "mac": 4, "beq": 3, "bne": 1, "st": 1}
    assert done.total == 4 + 14


# The closed form.


@pytest.mark.parametrize(
    ("mac", "zeros", "branch", "one", "two"),
    [  # changes in %, with N = 7 + L cycles a step and half of the weights zero:
        (1, 0.3, +21, -11, -20),  # branch (2 + 0.3 * (2 - 3)) / 8; one 0.3 * 3 / 8
        (1, 0.5, +19, -19, -25),  # two (0.5 * 3 + 0.5 * 0.5 * 2) / 8
        (1, 0.7, +16, -26, -30),
        (3, 0.5, +5, -25, -35),
        (3, 0.7, -1, -35, -41),
        (5, 0.5, -4, -29, -42),
    ],
)
def test_a_step_by_hand(mac: int, zeros: float, branch: int, one: int, two: int) -> None:
    def mean(mode: Mode) -> float:
        each = step(Loop(mode, mac))
        weights = zeros * each.x_zero + (1 - zeros) * 0.5 * (each.w_zero + each.full)
        return weights / (7 + mac)

    assert mean("dense") == 1
    changes = [
        100 * mean("branch") - 100,
        100 * mean("one_entry") - 100,
        100 * mean("two_entries") - 100,
    ]
    assert changes == [pytest.approx(value, abs=0.51) for value in (branch, one, two)]


def test_overhead_by_hand() -> None:
    # Set-up 4 + 3 and, for each of 2 pixels: 6 around it, 7 an output of 3; 5 steps of 8 cycles.
    kernel, loop = Kernel(3, 5, 1, 1, pixels=2), Loop("dense", 1)
    assert cycles(kernel, loop, 0, 0) == 7 + 2 * (6 + 3 * (7 + 5 * 8))


CORES = list(every((1, 3), (1, 2), (1, 4), (False, True)))
"""Cycles of a mac and of a load, lanes, and whether waits are filled."""


def loops(core: tuple[int, int, int, bool]) -> list[Loop]:
    """Every mode on a core."""
    return [Loop(mode, *core) for mode in get_args(Mode)]


values = st.sampled_from([0.0, -0.0, 1.0, -2.5, 3.0, 0.1])


def tensors(*shape: int) -> st.SearchStrategy[Tensor]:
    count = int(torch.Size(shape).numel())
    made = st.lists(values, min_size=count, max_size=count)
    return made.map(lambda numbers: torch.tensor(numbers, dtype=torch.float64).view(shape))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, int]:
    channels, outputs = draw(st.integers(1, 6)), draw(st.integers(1, 2))
    kernel = draw(st.integers(1, 3))
    x = draw(tensors(channels, draw(st.integers(kernel, 4)), draw(st.integers(kernel, 4))))
    weight = draw(tensors(outputs, channels, kernel, kernel))
    return x, weight, draw(st.integers(1, 2)), draw(st.integers(0, 1))


def results(program: Program, done: Outcome) -> list[float]:
    return [done.memory[address] for address in program.results]  # type: ignore[misc]


def prove(
    kernel: Kernel, loop: Loop, program: Program, x: Tensor, weight: Tensor, multiply: Multiply
) -> list[float]:
    """Run a program: its cycles are those of the closed form. What it leaves as results."""
    done = simulate(
        program.instructions,
        program.memory,
        mac_cycles=loop.mac_cycles,
        load_cycles=loop.load_cycles,
    )
    asked = x[None].float(), weight.float(), multiply, kernel, loop.lanes
    zero_w = zero_weights(*asked) if loop.mode == "two_entries" else torch.zeros(1)
    assert done.total == cycles(kernel, loop, zero_activations(*asked), zero_w)
    assert done.total <= most_cycles(kernel, loop)
    return results(program, done)


@given(convolutions(), st.sampled_from(CORES))
@settings(max_examples=60, deadline=None)
def test_convolutions_take_exactly_the_cycles_of_the_closed_form(
    case: tuple[Tensor, Tensor, int, int], core: tuple[int, int, int, bool]
) -> None:
    x, weight, stride, padding = case

    def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(x, weight, bias, stride=stride, padding=padding)

    y = multiply(x[None], weight, None)
    kernel = kernel_of(x[None], weight, y)
    each = []
    for loop in loops(core):
        program = convolution(x, weight, loop, stride=stride, padding=padding)
        each.append(prove(kernel, loop, program, x, weight, multiply))
    assert len({tuple(float(number).hex() for number in sums) for sums in each}) == 1
    expected = y[0].flatten(1).T.flatten()  # as torch sums them up, in another order
    assert torch.allclose(torch.tensor(each[0]).to(expected), expected)


@given(
    st.integers(1, 9).flatmap(lambda n: st.tuples(tensors(n), tensors(2, n))),
    st.sampled_from(CORES),
)
@settings(max_examples=40, deadline=None)
def test_fully_connected_layers_too(
    case: tuple[Tensor, Tensor], core: tuple[int, int, int, bool]
) -> None:
    x, weight = case
    kernel = kernel_of(x[None], weight, x[None] @ weight.T)
    each = []
    for loop in loops(core):
        program = fully_connected(x, weight, loop)
        each.append(prove(kernel, loop, program, x, weight, functional.linear))
    assert len({tuple(float(number).hex() for number in sums) for sums in each}) == 1
    assert torch.allclose(torch.tensor(each[0]).double(), weight @ x)


def test_the_table_of_skips_holds_what_the_loop_says() -> None:
    for core in CORES:
        for loop in loops(core):
            code = fully_connected(torch.ones(2), torch.ones(1, 2), loop).instructions
            stores = [ins for ins in code if ins.name == "st" and ins.b == TABLE]
            assert len(stores) == loop.entries


def test_two_entries_need_an_instruction_between_the_weight_and_the_mark() -> None:
    # ld w; mark; mac: the zero of w comes too late. With one instruction more it is seen.
    for between, executed in ((0, 1), (1, 0)):
        start = [addi(ONE, 7), addi(OTHER, 7), Instruction("ld", OTHER, 0, immediate=500)]
        start += [NOP] * between
        region = Region(entered(1) + len(start), ONE, OTHER, False, 1)
        mac = Instruction("mac", MARK, ONE, OTHER)
        done = run([*enter(region), *start, NOP, mac])
        assert done.executed["mac"] == executed


def test_what_is_skipped_could_have_been_nan() -> None:
    # 0 * inf is NaN: results are those of the dense loop only where all numbers are finite.
    x, weight = torch.tensor([0.0, 1.0]), torch.tensor([[inf, 1.0]])
    sums = {}
    for mode in get_args(Mode):
        program = fully_connected(x, weight, Loop(mode, 1))
        done = simulate(program.instructions, program.memory, mac_cycles=1)
        (sums[mode],) = results(program, done)
    assert isnan(sums["dense"])
    assert [sums[mode] for mode in ("branch", "one_entry", "two_entries")] == [1, 1, 1]


def test_a_core_that_is_switched_off_computes_the_same() -> None:
    x, weight = (
        torch.tensor([0.0, 2.0, 0.0, 1.0, 5.0]),
        torch.tensor([[1.0, 0.0, 3.0, 4.0, 5.0]] * 2),
    )
    for lanes in (1, 4):
        program = fully_connected(x, weight, Loop("two_entries", 1, lanes=lanes))
        off = [NOP if ins.name == "st" and ins.b == TABLE else ins for ins in program.instructions]
        done = simulate(off, program.memory, mac_cycles=1)
        assert results(program, done) == [29.0, 29.0] and done.skipped == 0
