"""A device that may hand an input over to a server: split computing.

After Kang et al., Neurosurgeon (ASPLOS 2017), whose cost model this is; there a rule chooses the
block at which the features leave, here a policy does. Letters: `n` lanes, `E` heads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import final

import torch
from torch import Tensor

from penstock.backbones import Backbone, Block, InputError, Knob, Setting
from penstock.backbones.block import POLICY, STEM
from penstock.hardware.apart import run_apart
from penstock.hardware.cost import RESOURCES, Cost, Job
from penstock.hardware.features import arrived, check_bits, code, coded_bytes
from penstock.hardware.link import Link
from penstock.hardware.machine import Condition, Machine, State
from penstock.hardware.remote import Remote, placeholder


@final
@dataclass(frozen=True)
class Split(Machine):
    """Runs blocks near, until the features leave; then runs the rest of that input far.

        near       what the near machine asks
        leaving    latency = transfer + round trip, energy = radio + idle power while waiting
        far        latency = far latency * (1 + load), energy = idle power * latency
        load       u / (1 - u) for a server that is busy with others a share u of its time and
                   shares itself evenly among all jobs, the mean of an M/M/1 queue [recalled:
                   Kleinrock, Queueing Systems, 1976]; each stream draws its u

    The knob `offload` says at how many bits the features before a block leave; at 0, the last
    choice, they stay. They leave once: behind, blocks and heads of that input run far whatever the
    knob says, until the next stem. Offered at the stem, the image itself leaves. A transfer that is
    not through after `timeout_s` is given up: the input goes on near, and `lost` counts it.

    With a `Remote` as far, the rest of the input is run by that server at the setting given then,
    and latency is what was measured. Bodies behind then give zeros, heads what the server said.

    The state says whether a lane is `away`, how often it `lost` a transfer, the server's `load`,
    and what the link says; those of near and far machine have near_ and far_ before their names.
    Whoever does not compute stands idle: near while features leave or are elsewhere, far while they
    are at home.

    Raises:
        InputError: if bits, busy or timeout_s are out of range, or a machine is none.
    """

    near: Machine
    """Where inputs arrive."""
    far: Machine | Remote
    """Where features may go: a model, or a real server."""
    link: Link
    """Between them."""
    bits: Sequence[int] = (8, 32)
    """At which features may leave, rising: 1 to 8, rounded, and 32, exact."""
    busy: Sequence[float] = (0.0, 0.0)
    """Least and most share of its time that the server is busy with others, below 1."""
    timeout_s: float = 1.0
    """Seconds after which a transfer is given up."""
    period_s: float = 0.0
    """The inputs of a stream come at least so many seconds apart; the link changes meanwhile."""
    count_far: bool = False
    """Whether the far machine's energy and multiplications are counted, beside the device's."""
    rounded: bool = True
    """Whether features lose anything by their bits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for bits in self.bits:
            check_bits(bits)
        if not self.bits or sorted(set(self.bits)) != list(self.bits):
            raise InputError(f"bits are choices that rise, got {list(self.bits)}; sort them")
        if len(self.busy) != 2 or not 0 <= self.busy[0] <= self.busy[1] < 1:
            raise InputError(
                f"busy is the least and the most share of 0 to below 1, got {list(self.busy)}; "
                "correct it"
            )
        if self.timeout_s <= 0 or self.period_s < 0:
            raise InputError(
                "timeout_s is above 0 and period_s at least 0, got "
                f"{self.timeout_s:g} and {self.period_s:g}; correct them"
            )

    @property
    def bound(self) -> bool:
        """Whether a real server has the far half of its network."""
        return isinstance(self.far, Remote)

    def fits(self, backbone: Backbone) -> None:
        """Refuse a network that the server does not run."""
        if isinstance(self.far, Remote):
            for block in (backbone.stem, *backbone.blocks, *backbone.exits.values()):
                self.far.check(block)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`offload`, and those of the near machine."""
        return (Knob("offload", (*self.bits, 0)), *self.near.knobs)

    def reset(self, n: int, rng: torch.Generator) -> State:
        """What n streams meet: link and load are drawn, and nobody is away."""
        low, high = self.busy
        busy = low + (high - low) * torch.rand(n, generator=rng, dtype=torch.float64)
        state = {
            **self.link.begin(n, rng),
            "load": busy / (1 - busy),
            "away": torch.zeros(n),
            "lost": torch.zeros(n, 1),
            "began_s": torch.full((n, 1), -self.period_s, dtype=torch.float64),
            **_prefixed("near_", self.near.reset(n, rng)),
        }
        if isinstance(self.far, Remote):
            network = self.far.network()
            return {**state, "logits": torch.zeros(n, len(network.heads), network.classes)}
        return {**state, **_prefixed("far_", self.far.reset(n, rng))}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Send what is to leave, then run each lane where it is."""
        bits = self._bits(job.setting)
        if job.block.name == STEM:
            state = self.link.look(self._home(state))
            if isinstance(self.far, Machine):
                state = _within("far_", state, self.far.next_input)
        cost = Cost()
        if bits and bool((state["away"] == 0).any()):
            job, cost, state = self._leave(job, bits, state)
            state = self._idle(state, cost.latency_s, self._both)
        places = (state["away"] == 0, self._run_near), (state["away"] > 0, self._run_far)
        y, spent, state = run_apart(job, state, rng, places)
        cost = cost + spent
        return y, cost, self.link.later(state, cost.latency_s)

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """The dearer of near and far, behind the slowest transfer if features may leave."""
        bits = self._bits(setting)
        near = self.near.price(block, setting, shape)
        if block.name == POLICY or (block.name == STEM and not bits):
            return near
        away = Cost()
        if isinstance(self.far, Machine):
            far = self.far.price(block, setting, shape)
            away = self.billed(far, self.busy[1] / (1 - self.busy[1]))
        dearer = Cost(*(max(near.each()[name], away.each()[name]) for name in RESOURCES))
        return dearer + self._longest(shape, bits) if bits else dearer

    def later(self, state: State, seconds: Tensor) -> State:
        """Link, near and far go on."""
        return self.link.look(self.advance(state, seconds))

    def advance(self, state: State, seconds: Tensor | float) -> State:
        """The same, what is seen of the link being left as it was."""
        return self.link.advance(self._idle(state, seconds, self._both), seconds)

    def held(self, setting: Mapping[str, float]) -> dict[str, float]:
        """Features leave before the first block of a decision, or stay for all of it."""
        return {**self.near.held(setting), "offload": 0}

    def ideal(self) -> Machine:
        """Without faults, losses and rounding; a server that cannot be seen becomes as near."""
        near = self.near.ideal()
        far = near if isinstance(self.far, Remote) else self.far.ideal()
        return replace(self, near=near, far=far, rounded=False, timeout_s=inf)

    def _bits(self, setting: Setting) -> int:
        bits = setting.get("offload", 0)
        if isinstance(bits, Tensor):
            raise ValueError("offload is a number for all lanes of a job, got a mask")
        return int(bits)

    def next_input(self, state: State, *, look: bool = True) -> State:
        """The state as the next input of each stream begins, at home; who looks sees the link."""
        state = self._home(state)
        for prefix, machine in self._both:
            state = _within(prefix, state, machine.next_input)
        return self.link.look(state) if look else state

    def bill(self, cost: Cost, state: State) -> tuple[Cost, State]:
        """Of what ran near; link and far go on meanwhile."""
        near, after = self.near.bill(cost, _unprefixed("near_", state))
        state = {**state, **_prefixed("near_", after)}
        state = self._idle(state, near.latency_s, self._both[1:])
        return near, self.link.advance(state, near.latency_s)

    def bill_far(self, cost: Cost, state: State) -> tuple[Cost, State]:
        """Of what ran far, if that is no real server; link and near go on meanwhile."""
        cost, after = self._both[1][1].bill(cost, _unprefixed("far_", state))
        billed = self.billed(cost, state["load"])
        state = self._idle({**state, **_prefixed("far_", after)}, billed.latency_s, self._both[:1])
        return billed, self.link.advance(state, billed.latency_s)

    def conditions(self) -> Sequence[Condition]:
        """Those of near and far machine, in all combinations."""
        found: list[dict[str, float]] = [{}]
        for prefix, machine in self._both:
            own = [{prefix + k: v for k, v in each.items()} for each in machine.conditions()]
            found = [{**one, **other} for one in found for other in own]
        return found

    def condition(self, state: State) -> Tensor:
        """The combination that near and far machine meet."""
        place = torch.zeros_like(state["away"], dtype=torch.int64)
        for prefix, machine in self._both:
            if (count := len(machine.conditions())) > 1:
                place = place * count + machine.condition(_unprefixed(prefix, state))
        return place

    @property
    def bounded_by(self) -> str:
        """The slowest link that can be met, and how long one waits for it."""
        return repr((self.link, self.busy, self.timeout_s, self.count_far))

    @property
    def _both(self) -> Sequence[tuple[str, Machine]]:
        """Near and far, as far as they are modelled, behind what their states' names begin with."""
        near: tuple[str, Machine] = ("near_", self.near)
        return [near, ("far_", self.far)] if isinstance(self.far, Machine) else [near]

    def _home(self, state: State) -> State:
        """The next input of each stream has come, at home, and nobody has looked at the link."""
        starts_s = torch.maximum(state["time_s"], state["began_s"] + self.period_s)
        waited_s = (starts_s - state["time_s"]).squeeze(1)
        state = self._idle(state, waited_s, self._both)
        away = torch.zeros_like(state["away"])
        return {**state, "time_s": starts_s, "began_s": starts_s, "away": away}

    def _idle(
        self, state: State, seconds: Tensor | float, machines: Sequence[tuple[str, Machine]]
    ) -> State:
        """What some machines are like after so many seconds in which they do nothing."""
        for prefix, machine in machines:
            own = _unprefixed(prefix, state)
            if own:
                each = torch.as_tensor(seconds, dtype=torch.float64).expand_as(state["away"])
                state = {**state, **_prefixed(prefix, machine.later(own, each))}
        return state

    def _leave(self, job: Job, bits: int, state: State) -> tuple[Job, Cost, State]:
        """Send the features of all lanes that are at home."""
        home = state["away"] == 0  # [n]
        whole = torch.full((len(job.x),), 8.0 * coded_bytes(tuple(job.x.shape[1:]), bits))
        measured = None
        if isinstance(self.far, Remote):
            *measured, state = self._ask(self.far, job, bits, state)
        left, cost, state = self.send(whole.double(), home, state, measured)
        if self.rounded and isinstance(self.far, Machine):
            rows = left.view(-1, *[1] * (job.x.dim() - 1)).to(job.x.device)
            job = replace(job, x=torch.where(rows, arrived(job.x, bits), job.x))
        return job, cost, state

    def send(
        self,
        whole: Tensor,
        leaving: Tensor,
        state: State,
        measured: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, Cost, State]:
        """Send so many bits [n] of those that leave: who is away now [n] bool, cost and state.

        Args:
            whole: bits of each lane, [n].
            leaving: who sends any, [n] bool.
            state: of the lanes.
            measured: whether it got through [n] and the seconds it took [n]; None asks the link.
        """
        sending_s = self.link.transfer_s(state, whole)
        if measured is None:
            seconds = sending_s + state["rtt_s"]
            through = seconds <= self.timeout_s
        else:
            through, seconds = measured
        seconds = seconds.clamp(max=self.timeout_s)
        sending_s = torch.minimum(sending_s, seconds)
        partly = torch.minimum(self.link.sent_bits(state, sending_s), whole)
        sent = torch.where(through, whole, partly)
        energy_j = self.link.energy_j(sent, sending_s, seconds - sending_s)
        cost = Cost(energy_j * leaving, seconds * leaving, sent_bytes=sent / 8 * leaving)
        left = leaving & through
        state = {
            **state,
            "away": state["away"] + left.to(state["away"]),
            "lost": state["lost"] + (leaving & ~through).to(state["lost"]).unsqueeze(1),
        }
        return left, cost, state

    def _ask(self, far: Remote, job: Job, bits: int, state: State) -> tuple[Tensor, Tensor, State]:
        """Have the server run the rest: whether it did [n], measured seconds [n], and the state."""
        rows = (state["away"] == 0).nonzero().squeeze(1)
        reply = far.ask(job.block, code(job.x[rows], bits), job.setting, self.timeout_s)
        logits = state["logits"].clone()
        if reply.logits is not None:
            logits[rows] = reply.logits
        n = len(job.x)
        through = torch.full((n,), reply.logits is not None)
        seconds = torch.full((n,), reply.seconds, dtype=torch.float64)
        return through, seconds, {**state, "logits": logits}

    def _longest(self, shape: tuple[int, ...], bits: int) -> Cost:
        """The most that sending features of a shape can cost, given up or not."""
        sent_bytes = coded_bytes(shape, bits)
        longest_s = 8 * sent_bytes / self.link.slowest_bps
        most_s = longest_s + self.link.longest_rtt_s
        waiting_s = self.link.longest_rtt_s
        if isinstance(self.far, Remote):
            most_s = waiting_s = self.timeout_s
        energy_j = self.link.energy_j(
            8 * sent_bytes, min(longest_s, self.timeout_s), min(waiting_s, self.timeout_s)
        )
        return Cost(energy_j, min(most_s, self.timeout_s), sent_bytes=sent_bytes)

    def _run_near(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, after = self.near.run(job, _unprefixed("near_", state), rng)
        state = {**state, **_prefixed("near_", after)}
        return y, cost, self._idle(state, cost.latency_s, self._both[1:])

    def _run_far(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        if isinstance(self.far, Remote):
            self.far.check(job.block)
            heads = self.far.network().heads
            if job.block.name in heads:
                logits = state["logits"][:, heads.index(job.block.name)]
                return logits.to(job.x.device), Cost(), state
            return placeholder(job.block, job.x), Cost(), state
        y, cost, after = self.far.run(job, _unprefixed("far_", state), rng)
        billed, state = self.billed(cost, state["load"]), {**state, **_prefixed("far_", after)}
        return y, billed, self._idle(state, billed.latency_s, self._both[:1])

    def billed(self, far: Cost, load: Tensor | float) -> Cost:
        """What of the far machine's cost is the device's, or counted with it."""
        latency_s = far.latency_s * (1 + load)
        waiting = Cost(self.link.energy_j(0.0, 0.0, latency_s), latency_s)
        return waiting + Cost(far.energy_j, macs=far.macs) if self.count_far else waiting


def _within(prefix: str, state: State, change: Callable[[State], State]) -> State:
    """A state of which the part of one machine is changed."""
    return {**state, **_prefixed(prefix, change(_unprefixed(prefix, state)))}


def _prefixed(prefix: str, state: State) -> Mapping[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def _unprefixed(prefix: str, state: State) -> Mapping[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
