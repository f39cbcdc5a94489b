"""Where lanes stand: what deciders may read of an engine beside its observation.

Letters: `N` lanes, `A` answers, `R` resources, `S` stages.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from penstock.backbones import InputError
from penstock.envs import Lanes, Recording
from penstock.envs.replay import Replay
from penstock.hardware import RESOURCES, Split

ENERGY, LATENCY = RESOURCES.index("energy_j"), RESOURCES.index("latency_s")
MACS, SENT = RESOURCES.index("macs"), RESOURCES.index("sent_bytes")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What streams meet now, as far as it is known or believed; [n] each."""

    bps: Tensor  # bits per second of the uplink
    rtt_s: Tensor
    load: Tensor  # of the far machine


def recorded(lanes: Lanes) -> Recording:
    """The recording that an engine replays.

    Raises:
        InputError: if it runs the network itself.
    """
    if not isinstance(lanes.source, Recording):
        raise InputError(
            "looking ahead needs what was recorded of every decision, got the network itself; "
            "record it first (penstock record)"
        )
    return lanes.source


def nodes(lanes: Lanes) -> Tensor:
    """The node of the recording's tree at which each lane stands, [N]; of lanes that rest, any."""
    recorded(lanes)
    assert isinstance(lanes._runner, Replay)
    return lanes._runner._node


def rows(lanes: Lanes) -> Tensor:
    """Which row of the recording each lane carries, [N]; of lanes that rest, any."""
    recorded(lanes)
    assert isinstance(lanes._runner, Replay)
    return lanes._runner._base // lanes._runner._nodes


def stages(lanes: Lanes) -> Tensor:
    """The stage that comes next on each lane, [N], as the observation shows it."""
    return lanes.observation[:, lanes.layout.block].argmax(dim=1)


def seen(lanes: Lanes) -> Tensor:
    """What is seen of the network, [N, 21 + S], as `Recording.seen` has it."""
    return lanes.observation[:, : lanes.layout.block.stop]


def conditions(lanes: Lanes) -> Conditions:
    """What lanes show of their link and of the far machine's load, [N] each."""
    if not isinstance(lanes.machine, Split):
        zero = torch.zeros(lanes.n, dtype=torch.float64)
        return Conditions(zero + 1, zero, zero)
    names = ("log10_bps", "rtt_s", "load")
    shown = [lanes.observation[:, lanes.layout.where(f"machine_{name}")] for name in names]
    log10_bps, rtt_s, load = (values.double() for values in shown)
    return Conditions(10**log10_bps, rtt_s, load)


def met(lanes: Lanes, n: int, seed: int) -> Conditions:
    """What n streams meet as they start, drawn."""
    if not isinstance(lanes.machine, Split):
        zero = torch.zeros(n, dtype=torch.float64)
        return Conditions(zero + 1, zero, zero)
    state = lanes.machine.reset(n, torch.Generator().manual_seed(seed))
    return Conditions(10 ** state["log10_bps"], state["rtt_s"], state["load"])


def charged(lanes: Lanes, price: Tensor) -> Tensor:
    """What a unit of each resource costs, [n, R], at prices [n] for the full network's cost."""
    charge = torch.zeros(len(price), len(RESOURCES), dtype=torch.float64)
    place = RESOURCES.index(lanes.stream.resource)
    charge[:, place] = price / float(lanes.full.rows()[place])
    return charge


def shown_price(lanes: Lanes, price: Tensor) -> Tensor:
    """Where prices lie in the stream's range, 0 the lowest and 1 the highest, logarithmic."""
    low, high = lanes.stream.price
    return (price / low).log() / max(log(high / low), 1e-9)


def in_time(lanes: Lanes, cost: Tensor) -> Tensor:
    """Whether plans that cost so much [N, A, R] answer before the deadline, [N, A] bool."""
    arrivals = lanes.stream.arrivals
    if arrivals is None or not arrivals.hurried:
        return torch.ones(cost.shape[:2], dtype=torch.bool)
    delay = lanes.observation[:, lanes.layout.where("delay")].double().unsqueeze(1)
    return delay * arrivals.deadline_s + cost[:, :, LATENCY] <= arrivals.deadline_s


def payable(lanes: Lanes, cost: Tensor) -> Tensor:
    """Whether hard budgets and the battery pay for the whole of plans [N, A, R], [N, A] bool.

    Masks pay for the next step and the cheapest way from there: a plan that is dearer would be
    begun and cut short.
    """
    pays = torch.ones(cost.shape[:2], dtype=torch.bool)
    left = lanes.ledger.affordable(slice(None), lanes.timeline.position)
    if left is not None:
        pays &= (cost[:, :, lanes.ledger.resources] <= left.unsqueeze(1)).all(dim=2)
    if lanes.stream.battery is not None:
        drain_j = cost[:, :, ENERGY] + lanes.timeline.idle_w * cost[:, :, LATENCY]
        pays &= drain_j <= lanes.timeline.charge_j.unsqueeze(1)
    return pays
