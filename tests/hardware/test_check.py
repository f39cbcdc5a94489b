from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import pytest
import torch
from torch import Tensor

from penstock.backbones import Block, InputError, Knob, Setting, resnet
from penstock.hardware import Cost, Digital, Job, Machine, State, build_machine, check_machine
from penstock.hardware.check import rules
from penstock.hardware.machine import Condition

DIGITAL = Digital(
    mac_j={4: 1e-12, 8: 2e-12, 32: 3e-11},
    sram_j_per_byte=1e-12,
    memory_j_per_byte=1e-10,
    macs_per_s={4: 2e9, 8: 1e9, 32: 1e8},
    memory_bytes_per_s=1e9,
    launch_s=1e-5,
)


@final
@dataclass(frozen=True)
class Noisy(Machine):
    """Adds noise of deviation 0.1 to every output, for twice the energy."""

    inner: Machine

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = self.inner.run(job, state, rng)
        noise = torch.randn(y.shape, generator=rng)
        return y + 0.1 * noise, replace(cost, energy_j=2 * cost.energy_j), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        price = self.inner.price(block, setting, shape)
        return replace(price, energy_j=2 * price.energy_j)

    def ideal(self) -> Machine:
        return self.inner.ideal()


def same_run(y: Tensor, cost: Cost, state: State) -> tuple[Any, Any, Any]:
    return y, cost, state


def same_price(price: Cost, setting: Setting) -> Cost:
    return price


def same_bill(cost: Cost, state: State) -> tuple[Cost, State]:
    return cost, state


def no_state(n: int) -> dict[str, Any]:
    return {}


@final
@dataclass(frozen=True)
class Altered(Machine):
    """A right machine of which one thing is altered."""

    run_to: Callable[[Tensor, Cost, State], tuple[Any, Any, Any]] = same_run
    price_to: Callable[[Cost, Setting], Cost] = same_price
    state: Callable[[int], dict[str, Any]] = no_state
    own_knobs: tuple[Knob, ...] = ()
    bill_to: Callable[[Cost, State], tuple[Cost, State]] = same_bill
    under: Sequence[Condition] = ({},)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        return self.own_knobs

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.state(n)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = DIGITAL.run(job, state, rng)
        return self.run_to(y, cost, state)

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.price_to(DIGITAL.price(block, setting, shape), setting)

    def bill(self, cost: Cost, state: State) -> tuple[Cost, State]:
        return self.bill_to(cost, state)

    def conditions(self) -> Sequence[Condition]:
        return self.under


def fail(y: Tensor, cost: Cost, state: State) -> tuple[Any, Any, Any]:
    raise RuntimeError("out of smoke")


@pytest.mark.parametrize(
    "machine",
    [
        DIGITAL,
        Noisy(DIGITAL),
        Noisy(Noisy(DIGITAL)),
        Noisy(build_machine("edge")),
        Altered(),
        Altered(own_knobs=(Knob("votes", (1, 3)),)),
    ],
    ids=lambda machine: type(machine).__name__,
)
def test_right_machines_pass(machine: Machine) -> None:
    check_machine(machine)


def test_another_backbone_can_be_used_and_is_left_as_it_was() -> None:
    backbone = resnet(8, 0.5, in_channels=3, size=8)
    check_machine(Noisy(DIGITAL), backbone=backbone)
    assert backbone.training


def test_the_check_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    check_machine(DIGITAL)
    assert torch.equal(torch.get_rng_state(), before)


def test_wrappers_compose() -> None:
    stem = resnet(8).stem.eval()
    x = torch.rand(2, 3, 32, 32)
    outputs, energies = [], []
    for machine in (DIGITAL, Noisy(DIGITAL), Noisy(Noisy(DIGITAL))):
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            y, cost, _ = machine.run(Job(stem, x, {"bits": 8}), machine.reset(2, rng), rng)
        assert cost == machine.price(stem, {"bits": 8}, (3, 32, 32))
        outputs.append(y)
        energies.append(cost.energy_j)
    assert energies == [energies[0], 2 * energies[0], 4 * energies[0]]
    once, twice = ((y - outputs[0]).std().item() for y in outputs[1:])
    assert once == pytest.approx(0.1, rel=0.05)
    assert twice == pytest.approx(0.1 * 2**0.5, rel=0.05)


BROKEN: dict[str, tuple[Machine, str, str]] = {
    "takes a block's knob name": (
        Altered(own_knobs=(Knob("width", (1, 2)),)),
        "have names of their own",
        "expected a name other than bits, exit, run, width, got 'width'",
    ),
    "takes a knob name twice": (
        Altered(own_knobs=(Knob("votes", (1, 3)), Knob("votes", (1, 3)))),
        "have names of their own",
        "got 'votes'",
    ),
    "state is of other lanes": (
        Altered(state=lambda n: {"time_s": torch.zeros(n + 1)}),
        "one row a lane",
        "Stem under {} with 1 lane: expected 'time_s' as a tensor of 1 rows, got a tensor [2]",
    ),
    "state is a number": (
        Altered(state=lambda n: {"time_s": 0.0}),
        "one row a lane",
        "got float",
    ),
    "state grows": (
        Altered(run_to=lambda y, cost, state: (y, cost, {"time_s": torch.zeros(len(y))})),
        "a run keeps its keys",
        "expected [] after the run, got ['time_s']",
    ),
    "run fails": (Altered(run_to=fail), "one row a lane", "got RuntimeError: out of smoke"),
    "output lacks a channel": (
        Altered(run_to=lambda y, cost, state: (y[:, 1:], cost, state)),
        "the shape that the block gives",
        "Stem under {} with 1 lane: expected a tensor [1, 8, 8, 8], got a tensor [1, 7, 8, 8]",
    ),
    "output is not finite": (
        Altered(run_to=lambda y, cost, state: (y / 0, cost, state)),
        "is finite",
        "expected finite numbers, got",
    ),
    "cost is a table": (
        Altered(run_to=lambda y, cost, state: (y, cost.each(), state)),
        "A cost is a Cost",
        "expected a Cost, got dict",
    ),
    "cost is negative": (
        Altered(run_to=lambda y, cost, state: (y, replace(cost, sent_bytes=-1.0), state)),
        "finite amounts of at least 0",
        "expected finite sent_bytes of at least 0, got -1.0",
    ),
    "cost is not a number": (
        Altered(run_to=lambda y, cost, state: (y, replace(cost, energy_j=float("nan")), state)),
        "finite amounts of at least 0",
        "expected finite energy_j of at least 0, got nan",
    ),
    "cost is of other lanes": (
        Altered(run_to=lambda y, cost, state: (y, replace(cost, macs=torch.ones(1, 9)), state)),
        "each a number or one a lane",
        "expected macs as a number or a tensor [1], got a tensor [1, 9]",
    ),
    "a lane costs more than the price": (
        Altered(
            run_to=lambda y, cost, state: (
                y,
                replace(cost, energy_j=cost.energy_j * torch.linspace(1, 1.1, len(y))),
                state,
            )
        ),
        "the run never costs more",
        "Stem under {} with 4 lanes: expected at most the price of",
    ),
    "price is a tensor": (
        Altered(price_to=lambda price, setting: replace(price, macs=torch.tensor(1e12))),
        "known in numbers before the run",
        "expected macs as a finite number, got a tensor [] ",
    ),
    "price falls with width": (
        Altered(
            price_to=lambda price, setting: replace(
                price, latency_s=1 + 1 / float(setting.get("width", 1))
            )
        ),
        "never lowers price",
        "BasicBlock under {'width': 0.5} with 1 lane: expected latency_s of at least 5, got 3",
    ),
    "a block left out costs more": (
        Altered(
            run_to=lambda y, cost, state: (y, Cost() if cost.macs else Cost(1.0), state),
            price_to=lambda price, setting: Cost(1.0, 1.0, 1e9),
        ),
        "left out costs no more",
        "BasicBlock under {} with 1 lane: expected at most [0.0] energy_j, got [1.0]",
    ),
    "draws from the global generator": (
        Altered(run_to=lambda y, cost, state: (y + torch.randn(y.shape), cost, state)),
        "The same seed gives the same output",
        "Stem under {} with 1 lane: expected the output as before, got another",
    ),
    "has faults without a fault": (
        Altered(run_to=lambda y, cost, state: (y + 1e-6, cost, state)),
        "bit for bit",
        "Stem under {} with 1 lane: expected the block's own output of ideal(), got another",
    ),
    "asks more for fewer bits of its own": (
        Altered(
            own_knobs=(Knob("adc_bits", (4, 8)),),
            price_to=lambda price, s: replace(
                price, energy_j=price.energy_j * (4 if s.get("adc_bits") == 4 else 2)
            ),
        ),
        "never lowers price",
        "'adc_bits': 8} with 1 lane: expected energy_j of at least",
    ),
    "mixes lanes": (
        Altered(run_to=lambda y, cost, state: (y + 0.1 * y.mean(), cost, state)),
        "what comes out for it alone",
        "Stem under {} with 4 lanes: expected the output of lane 0 alone, got another",
    ),
    "charges lanes for their company": (
        Altered(
            run_to=lambda y, cost, state: (y, replace(cost, energy_j=cost.energy_j / len(y)), state)
        ),
        "as if it came alone",
        "Stem under {} with 4 lanes: expected the energy_j of lane 0 alone, got another",
    ),
    "charges for the bill": (
        Altered(bill_to=lambda cost, state: (replace(cost, macs=cost.macs + 10.0), state)),
        "billed as the whole is",
        "bill: expected macs of [10.0, 1000010.0, 2000010.",
    ),
    "grows old for nothing": (
        Altered(
            state=lambda n: {"age": torch.ones(n)},
            bill_to=lambda cost, state: (cost, {"age": torch.full_like(state["age"], 2.0)}),
        ),
        "stay as they are",
        "bill: expected age of [1.0], got [2.0]",
    ),
    "does not know its conditions": (
        Altered(state=lambda n: {"age": torch.ones(n)}, under=({"age": 0.0}, {"age": 9.0})),
        "meets that one",
        "under {'age': 9.0}: expected condition 1, got [0, 0, 0, 0]",
    ),
    "cannot be pickled": (
        Altered(run_to=lambda y, cost, state: (y, cost, state)),
        "pickled and read back",
        "expected no exception, got",
    ),
}


@pytest.mark.parametrize(("machine", "rule", "breach"), list(BROKEN.values()), ids=list(BROKEN))
def test_broken_machines_break_their_rule(machine: Machine, rule: str, breach: str) -> None:
    with pytest.raises(InputError) as caught:
        check_machine(machine)
    said = str(caught.value)
    sentence = next(sentence for sentence in rules() if rule in sentence)
    assert said.startswith(f'Altered breaks the rule "{sentence}": ')
    assert breach in said


def test_every_rule_is_broken_by_some_machine() -> None:
    assert all(any(rule in s for _, rule, _ in BROKEN.values()) for s in rules())


def test_what_is_no_machine_is_named() -> None:
    with pytest.raises(InputError, match="a Machine can be checked, got str"):
        check_machine("phone")  # type: ignore[arg-type]
