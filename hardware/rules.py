"""The rules that every machine keeps: each looks at what came of jobs, and says what was wrong."""

import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from typing import Any, Final

import torch
from torch import Tensor

from penstock.backbones import BITS, EXIT, RUN, WIDTH, Block, Setting
from penstock.backbones.backbone import restrict
from penstock.hardware.bound import machines
from penstock.hardware.cost import Cost, Job
from penstock.hardware.machine import Machine, State, under
from penstock.hardware.measured import Measured

LANES: Final = (1, 4)
"""Every job is run with so many lanes."""


@dataclass(frozen=True, slots=True)
class Case:
    """One job: n lanes of a block under a setting."""

    block: Block
    x: Tensor  # [n, C, H, W]
    setting: Setting

    def __str__(self) -> str:
        lanes = "1 lane" if len(self.x) == 1 else f"{len(self.x)} lanes"
        return f"{type(self.block).__name__} under {dict(self.setting)} with {lanes}"


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a job."""

    before: State
    output: Tensor  # [n, C', H', W'] or [n, classes]
    cost: Cost
    after: State


@dataclass(frozen=True, slots=True)
class Bench:
    """A machine and what it is tried on."""

    machine: Machine
    blocks: tuple[tuple[Block, Tensor], ...]  # with the input of each, [n, C, H, W]
    seed: int

    def settings(self, block: Block) -> Iterator[Setting]:
        """Full, each choice of each knob alone, and everything at its cheapest."""
        knobs = (*block.knobs, *self.machine.knobs)
        yield {}
        for knob in knobs:
            for choice in knob.choices:
                yield {knob.name: choice}
        yield {knob.name: knob.choices[0] for knob in knobs}

    def cases(self) -> Iterator[Case]:
        """Every block under every setting with every number of lanes."""
        for block, x in self.blocks:
            for setting in self.settings(block):
                for n in LANES:
                    yield Case(block, x[:n], setting)

    def run(self, case: Case) -> Trial:
        """Run one job on a machine that was just reset."""
        rng = torch.Generator().manual_seed(self.seed)
        return _run(self.machine, case, self.machine.reset(len(case.x), rng), rng)

    def price(self, case: Case) -> dict[str, Any]:
        """Resource name -> amount, before the job is run."""
        shape = tuple(case.x.shape[1:])
        return self.machine.price(case.block, case.setting, shape).each()


def _run(machine: Machine, case: Case, before: State, rng: torch.Generator) -> Trial:
    job = Job(case.block, case.x.clone(), case.setting)
    return Trial(before, *machine.run(job, before, rng))


def _knob_names_are_free(bench: Bench) -> Iterator[str]:
    """The knobs of a machine have names of their own, not those of blocks."""
    taken = {knob.name for knob in (RUN, WIDTH, BITS, EXIT)}
    taken |= {knob.name for block, _ in bench.blocks for knob in block.knobs}
    for knob in bench.machine.knobs:
        if knob.name in taken:
            yield f"expected a name other than {', '.join(sorted(taken))}, got {knob.name!r}"
        taken.add(knob.name)


def _state_has_lanes(bench: Bench) -> Iterator[str]:
    """The state is tensors with one row a lane, and a run keeps its keys."""
    for case in bench.cases():
        trial, n = bench.run(case), len(case.x)
        before, after = sorted(trial.before), sorted(trial.after)
        if before != after:
            yield f"{case}: expected {before} after the run, got {after}"
        for name, value in (*trial.before.items(), *trial.after.items()):
            if not isinstance(value, Tensor) or value.shape[:1] != (n,):
                yield f"{case}: expected {name!r} as a tensor of {n} rows, got {_kind(value)}"


def _output_is_the_blocks(bench: Bench) -> Iterator[str]:
    """The output has the shape that the block gives, and is finite."""
    for case in bench.cases():
        expected = case.block(case.x, restrict(case.setting, case.block))
        output = bench.run(case).output
        if not isinstance(output, Tensor) or output.shape != expected.shape:
            yield f"{case}: expected {_kind(expected)}, got {_kind(output)}"
        elif not output.isfinite().all():
            yield f"{case}: expected finite numbers, got {output[~output.isfinite()][0]}"


def _costs_are_amounts(bench: Bench) -> Iterator[str]:
    """A cost is a Cost of finite amounts of at least 0, each a number or one a lane."""
    for case in bench.cases():
        cost, n = bench.run(case).cost, len(case.x)
        if not isinstance(cost, Cost):
            yield f"{case}: expected a Cost, got {_kind(cost)}"
        for name, amount in cost.each().items():
            if not isinstance(amount, int | float) and getattr(amount, "shape", None) != (n,):
                yield f"{case}: expected {name} as a number or a tensor [{n}], got {_kind(amount)}"
            if not ((values := _per_lane(amount, n)).isfinite() & (values >= 0)).all():
                yield f"{case}: expected finite {name} of at least 0, got {amount}"


def _price_is_the_most(bench: Bench) -> Iterator[str]:
    """A price is known in numbers before the run, and the run never costs more."""
    for case in bench.cases():
        spent, n = bench.run(case).cost.each(), len(case.x)
        for name, most in bench.price(case).items():
            if not isinstance(most, int | float) or not isfinite(most):
                yield f"{case}: expected {name} as a finite number, got {_kind(most)} {most}"
            if (amount := _per_lane(spent[name], n).max().item()) > most * (1 + 1e-6):
                yield f"{case}: expected at most the price of {most:g} {name}, got {amount:g}"


def _prices_grow_with_work(bench: Bench) -> Iterator[str]:
    """Turning up bits or a block's knob never lowers price in MACs, modelled energy and latency."""
    # What a clock said scatters, and emulated bits may take longer than the floats behind them.
    timed = any(isinstance(each, Measured) for each in machines(bench.machine))
    grow = ("macs",) if timed else ("energy_j", "latency_s", "macs")
    for case in bench.cases():
        bits = [knob for knob in bench.machine.knobs if knob.name.endswith("_bits")]
        for knob in (*case.block.knobs, *bits):
            turned = [replace(case, setting={**case.setting, knob.name: c}) for c in knob.choices]
            for less, more in pairwise(turned):
                for name in grow:
                    low, high = bench.price(less)[name], bench.price(more)[name]
                    if low > high * (1 + 1e-9):
                        yield f"{more}: expected {name} of at least {low:g}, got {high:g}"


def _left_out_costs_no_more(bench: Bench) -> Iterator[str]:
    """A block that is left out costs no more than one that is run."""
    for case in bench.cases():
        if RUN not in case.block.knobs:
            continue
        done, left_out = (
            bench.run(replace(case, setting={**case.setting, RUN.name: run})).cost.each()
            for run in (RUN.full, RUN.choices[0])
        )
        for name in done:
            most, amount = (_per_lane(cost[name], len(case.x)) for cost in (done, left_out))
            if (amount > most * (1 + 1e-6)).any():
                yield f"{case}: expected at most {most.tolist()} {name}, got {amount.tolist()}"


def _seed_decides(bench: Bench) -> Iterator[str]:
    """The same seed gives the same output, cost and next state."""
    for case in bench.cases():
        one, two = bench.run(case), bench.run(case)
        pairs = [("the output", one.output, two.output)]
        pairs += [(name, one.after[name], two.after[name]) for name in one.after]
        for name, first in one.cost.each().items():
            again = two.cost.each()[name]
            pairs.append((name, _per_lane(first, len(case.x)), _per_lane(again, len(case.x))))
        for name, first, again in pairs:
            if not torch.equal(first, again):
                yield f"{case}: expected {name} as before, got another"


def _ideal_is_exact(bench: Bench) -> Iterator[str]:
    """Without its faults the machine gives what the block gives by itself, bit for bit."""
    ideal = replace(bench, machine=bench.machine.ideal())
    for case in bench.cases():
        own = restrict(case.setting, case.block)
        if not torch.equal(ideal.run(case).output, case.block(case.x.clone(), own)):
            yield f"{case}: expected the block's own output of ideal(), got another"


def _batch_is_one_by_one(bench: Bench) -> Iterator[str]:
    """Without its faults the machine charges each lane of a batch as if it came alone."""
    machine, rng = bench.machine.ideal(), torch.Generator()
    for case in bench.cases():
        n = len(case.x)
        before = machine.reset(n, rng.manual_seed(bench.seed))
        whole = _run(machine, case, before, rng)
        for lane in range(n):
            alone = replace(case, x=case.x[lane : lane + 1])
            row = {name: value[lane : lane + 1] for name, value in before.items()}
            one = _run(machine, alone, row, rng)
            pairs = [(k, v[lane : lane + 1], one.after[k]) for k, v in whole.after.items()]
            for name, amount in whole.cost.each().items():
                spent = _per_lane(amount, n)[lane : lane + 1]
                pairs.append((name, spent, _per_lane(one.cost.each()[name], 1)))
            for name, together, apart in pairs:
                if not torch.allclose(together, apart, rtol=1e-4, atol=0):
                    yield f"{case}: expected the {name} of lane {lane} alone, got another"


def _lanes_do_not_meet(bench: Bench) -> Iterator[str]:
    """What comes out for a lane is what comes out for it alone, unless it is drawn by chance."""
    machine, rng = bench.machine, torch.Generator()
    for case in bench.cases():
        before = machine.reset(len(case.x), rng.manual_seed(bench.seed))
        unused = rng.manual_seed(bench.seed).get_state()
        whole = _run(machine, case, before, rng).output
        if len(case.x) == 1 or not torch.equal(unused, rng.get_state()):
            continue
        near = 1e-4 * whole.abs().max().item()
        for lane in range(len(case.x)):
            alone = replace(case, x=case.x[lane : lane + 1])
            row = {name: value[lane : lane + 1] for name, value in before.items()}
            one = _run(machine, alone, row, rng).output
            if not torch.allclose(whole[lane : lane + 1], one, rtol=0, atol=near):
                yield f"{case}: expected the output of lane {lane} alone, got another"


def _bills_add_up(bench: Bench) -> Iterator[str]:
    """Parts of a cost are billed as the whole is, and lanes that spend nothing stay as they are."""
    machine, n = bench.machine, max(LANES)
    state = machine.reset(n, torch.Generator().manual_seed(bench.seed))
    amounts = torch.linspace(0, 1, n, dtype=torch.float64)
    part, rest, all_of_it = (
        Cost(*(share * unit * amounts for unit in (1e-3, 2e-3, 1e6, 8.0))) for share in (1, 2, 3)
    )
    one, after = machine.bill(part, state)
    two, after = machine.bill(rest, after)
    whole, expected = machine.bill(all_of_it, state)
    pairs = [(name, (one + two).each()[name], amount) for name, amount in whole.each().items()]
    pairs += [(name, after[name], value) for name, value in expected.items()]
    pairs += [(name, expected[name][:1], value[:1]) for name, value in state.items()]
    for name, got, wanted in pairs:
        got, wanted = torch.as_tensor(got), torch.as_tensor(wanted)
        if not torch.allclose(got, wanted, rtol=1e-5, atol=0, equal_nan=True):
            yield f"bill: expected {name} of {wanted.tolist()}, got {got.tolist()}"


def _conditions_are_met(bench: Bench) -> Iterator[str]:
    """An input that begins under one of the conditions meets that one."""
    machine, conditions = bench.machine, bench.machine.conditions()
    state = machine.reset(max(LANES), torch.Generator().manual_seed(bench.seed))
    for place, condition in enumerate(conditions):
        begun = machine.next_input(under(state, condition))
        if len(conditions) > 1 and not bool((met := machine.condition(begun)).eq(place).all()):
            yield f"under {dict(condition)}: expected condition {place}, got {met.tolist()}"


def _pickles(bench: Bench) -> Iterator[str]:
    """A machine that was pickled and read back prices and runs the same."""
    again = replace(bench, machine=pickle.loads(pickle.dumps(bench.machine)))
    for case in bench.cases():
        if (got := again.price(case)) != (expected := bench.price(case)):
            yield f"{case}: expected {expected}, got {got}"
        if not torch.equal(again.run(case).output, bench.run(case).output):
            yield f"{case}: expected the output as before, got another"


RULES: Final = (
    _knob_names_are_free,
    _state_has_lanes,
    _output_is_the_blocks,
    _costs_are_amounts,
    _price_is_the_most,
    _prices_grow_with_work,
    _left_out_costs_no_more,
    _seed_decides,
    _lanes_do_not_meet,
    _ideal_is_exact,
    _batch_is_one_by_one,
    _bills_add_up,
    _conditions_are_met,
    _pickles,
)


def sentence(rule: Callable[[Bench], Iterator[str]]) -> str:
    """A rule in words."""
    return (inspect.getdoc(rule) or "").removesuffix(".")


def _per_lane(amount: Tensor | float, n: int) -> Tensor:
    return torch.as_tensor(amount, dtype=torch.float64).expand(n)  # [n]


def _kind(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
