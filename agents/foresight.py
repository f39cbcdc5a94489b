"""What still lies ahead of an input: the answers that can be reached, the way, and what it costs.

Letters: `n` inputs under way, `V` nodes of the tree of decisions, `A` answers, `R` resources, `S`
stages, `M` combinations of choices, `K` knobs with exit first, `T` their choices.
"""

from typing import final

import torch
from torch import Tensor

from penstock.agents.standing import LATENCY, Conditions, in_time, nodes, payable, recorded
from penstock.envs import Lanes
from penstock.envs.actions import strides
from penstock.envs.tree import Tree
from penstock.hardware import RESOURCES, Cost, Split


def answers(tree: Tree, exits: Tensor) -> Tensor:
    """The nodes at which an input can be answered, [A]: a head was just run.

    Args:
        tree: of the decisions.
        exits: whether there is a head behind each stage, [S] bool.
    """
    behind = torch.cat([torch.zeros(1, dtype=torch.bool), exits])
    return behind[tree.stage].nonzero().squeeze(1)


def ancestors(tree: Tree) -> Tensor:
    """The node on the way to each at which a stage comes next, [S + 2, V]; -1 where it is past."""
    own = torch.arange(len(tree))
    depth = int(tree.stage[-1])
    way = torch.full((depth + 2, len(tree)), -1)
    at = own
    for _ in range(depth + 1):
        way[tree.stage[at], own] = at
        at = torch.where(at > 0, tree.parent[at], 0)
    return way


@final
class Foresight:
    """Open-loop plans: to go from a node to an answer whatever is seen on the way.

    A plan's cost is what was recorded near, on average over inputs, what was recorded far as it is
    billed now, the transfer at the bandwidth believed, and every decision on the way, the one that
    answers included. A transfer takes bits / bandwidth + a round trip: that it may be given up, and
    that the bandwidth changes meanwhile, is left out, and so is the cost of turning knobs. Answers
    are those of the whole recording, so that they are numbered alike whatever a stream offers.

    Args:
        lanes: an engine that replays a recording.
    """

    def __init__(self, lanes: Lanes) -> None:
        recording = recorded(lanes)
        tree, prices = recording.tree, lanes.prices
        self._knobs = len(lanes.knobs)
        sizes = [len(knob.choices) for knob in lanes.offered]
        m = torch.arange(len(prices.settings)).unsqueeze(1)
        self._stride = strides(sizes)
        self._indices = m // self._stride % torch.tensor(sizes, dtype=torch.int64)  # [M, K - 1]
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(dim=0)[: len(sizes)]
        self._places = 2 + starts + self._indices  # [M, K - 1] in the masks
        self._children = offered_children(lanes)  # [V, M]
        self._free = self._permitted(prices.free)[tree.stage.clamp(max=prices.stages - 1)]  # [V, M]
        self.stage = tree.stage
        """[V]: that comes next."""
        self.answers = answers(tree, recording.table.exits)
        """[A] nodes."""
        self._ancestors = ancestors(tree)
        self._way = self._ancestors[:, self.answers].contiguous()  # [S + 2, A]
        barred = torch.zeros(len(tree), dtype=torch.int64)  # steps on the way that nobody offers
        for node in range(1, len(tree)):
            parent = int(tree.parent[node])
            offered = ((self._children[parent] == node) & self._free[parent]).any()
            barred[node] = barred[parent] + (not offered)
        self._barred = barred  # [V]
        here, there = (
            cost.mean(dim=0) if cost.dim() == 3 else cost
            for cost in (recording.here, recording.there)
        )
        self.stem = here[0]
        """[R]: taken before anything can be decided."""
        self._recording, self._here = recording, _summed(tree, here)
        decided = tree.stage.unsqueeze(1) * prices.decision
        self._near = self._here + decided  # [V, R]
        self._far, self._bits = (
            _summed(tree, there),
            _summed(tree, recording.sent_bits.unsqueeze(1)).squeeze(1),
        )
        leaving = (tree.stage[self.answers] < prices.stages).unsqueeze(1)
        self._end = self._near[self.answers] + leaving * prices.decision  # [A, R]
        self._split = lanes.machine if isinstance(lanes.machine, Split) else None

    def below(self, node: Tensor) -> Tensor:
        """Whether each answer can be reached, [n, A] bool; the node's own is, if it has one."""
        open_way = self._barred[self.answers] == self._barred[node].unsqueeze(1)
        return (self._way[self.stage[node]] == node.unsqueeze(1)) & open_way

    def cost(self, node: Tensor, now: Conditions) -> Tensor:
        """What it still takes to answer there, [n, A, R]; infinite where the way is closed."""
        cost = self._end - self._near[node].unsqueeze(1)
        if self._split is not None:
            far = self._far[self.answers] - self._far[node].unsqueeze(1)
            bits = self._bits[self.answers] - self._bits[node].unsqueeze(1)
            cost = cost + away(self._split, far, bits, now)
        return cost.masked_fill_(~self.below(node).unsqueeze(2), torch.inf)

    def whole_cost(self, inputs: Tensor, now: Conditions) -> Tensor:
        """What it takes to answer inputs [n], from stem to answer, [n, A, R]; as in `cost`.

        Each input costs its own where the recording has costs that differ.
        """
        root = torch.zeros_like(inputs)
        if self._recording.here.dim() == 2:
            return self.cost(root, now) + self.stem
        here, there = (
            _summed(self._recording.tree, each[inputs], stem=True)[:, self.answers]
            for each in (self._recording.here, self._recording.there)
        )
        cost = here + self._end - self._here[self.answers]
        if self._split is not None:
            bits = self._bits[self.answers].expand(len(inputs), -1)
            cost = cost + away(self._split, there, bits, now)
        return cost.masked_fill_(~self.below(root).unsqueeze(2), torch.inf)

    def front_and_rest(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """What plans from the root take near, [k, R], and what they leave to the far machine.

        The second is MACs, stages and bytes that are sent, [k, 3] float64.

        Args:
            chosen: answers, [k].
        """
        node = self.answers[chosen]
        tree = self._recording.tree
        gone = _summed(tree, tree.away.long().unsqueeze(1)).squeeze(1)
        macs = self._far[node, RESOURCES.index("macs")]
        left = torch.stack([macs, gone[node].double(), self._bits[node] / 8], dim=1)
        return self._end[chosen] - self._near[0], left

    def allowed(self, node: Tensor, masks: Tensor) -> Tensor:
        """Whether the first step of the way to each answer may be taken, [n, A] bool.

        Args:
            node: [n].
            masks: of choices, as the engine gives them, [n, T].
        """
        reached = torch.zeros(len(node), len(self.stage), dtype=torch.int8)
        permitted = self._permitted(masks) & masks[:, 1:2]
        reached.scatter_reduce_(1, self._children[node], permitted.to(torch.int8), "amax")
        first = self._toward(node)
        going = reached.gather(1, first.clamp(min=0)) > 0
        own = self.answers == node.unsqueeze(1)
        return torch.where(own, masks[:, :1], going & (first >= 0)) & self.below(node)

    def action(self, node: Tensor, answer: Tensor, masks: Tensor) -> Tensor:
        """The first step to an answer, [n, K].

        Args:
            node: [n].
            answer: which, as `allowed` allows it, [n] of 0 to A - 1.
            masks: of choices, [n, T].
        """
        first = self._ancestors[self.stage[node] + 1, self.answers[answer]]
        ways = (self._children[node] == first.unsqueeze(1)) & self._permitted(masks)
        chosen = self._indices[ways.to(torch.int8).argmax(dim=1)]
        going = self.answers[answer] != node
        return torch.cat([going.long().unsqueeze(1), chosen], dim=1)

    def child(self, node: Tensor, action: Tensor) -> Tensor:
        """Where actions [n, K] lead from nodes [n], if they go on and nothing fails, [n]."""
        m = (action[:, 1:] * self._stride).sum(dim=1)
        return self._children[node, m]

    def sent_bits(self, node: Tensor) -> Tensor:
        """What leaves in the last step to nodes, [n]."""
        return self._recording.sent_bits[node]

    def step_s(self, node: Tensor, child: Tensor, load: Tensor) -> Tensor:
        """What deciding and computing take from nodes to their children, sending apart, [n]."""
        far_s = self._far[child, LATENCY] - self._far[node, LATENCY]
        return self._near[child, LATENCY] - self._near[node, LATENCY] + far_s * (1 + load)

    def paths(self) -> Tensor:
        """What to do in each stage for each answer, without looking where one stands, [A, S, K].

        From where an answer is given on, and where nobody offers the way, it is to exit.
        """
        stages = len(self._way) - 2
        actions = torch.zeros(len(self.answers), stages, self._knobs, dtype=torch.int64)
        for stage in range(stages):
            at, child = self._way[stage], self._way[stage + 1]
            ways = (self._children[at] == child.unsqueeze(1)) & self._free[at]
            going = (child >= 0) & ways.any(dim=1)
            actions[:, stage, 0] = going
            actions[:, stage, 1:] = self._indices[ways.to(torch.int8).argmax(dim=1)]
        return actions

    def _toward(self, node: Tensor) -> Tensor:
        """The next node on the way to each answer, [n, A]."""
        return self._way[self.stage[node] + 1]

    def _permitted(self, masks: Tensor) -> Tensor:
        """Which combinations masks [n, T] permit, [n, M] bool."""
        return masks[:, self._places].all(dim=2)


def offered_children(lanes: Lanes) -> Tensor:
    """The node to which each combination that is offered leads, [V, M]."""
    recording = recorded(lanes)
    kept = recording.combinations(lanes.offered, lanes.prices.settings[-1])
    return recording.tree.children[:, kept].contiguous()


def best_step(
    ahead: Foresight, lanes: Lanes, worth: Tensor, charge: Tensor, now: Conditions
) -> Tensor:
    """The first step of the plan with the highest worth minus what it costs, [N, K].

    An answer that comes too late is worth nothing; a plan that a hard budget cuts short is taken
    only where there is no other.

    Args:
        ahead: of the same engine.
        lanes: N of them.
        worth: expected of each answer, [N, A] or [A].
        charge: for a unit of each resource, [N, R].
        now: what the link and the far machine are believed to be.
    """
    node = nodes(lanes)
    cost = ahead.cost(node, now)
    # Ways that are closed cost infinitely much, of which a charge of nothing makes no number.
    paid = torch.bmm(cost.nan_to_num(posinf=0.0), charge.unsqueeze(2)).squeeze(2)
    score = worth * in_time(lanes, cost) - paid
    allowed = ahead.allowed(node, lanes.allowed)
    whole = allowed & payable(lanes, cost)
    some = torch.where(whole.any(dim=1, keepdim=True), whole, allowed)
    return ahead.action(node, score.masked_fill(~some, -torch.inf).argmax(dim=1), lanes.allowed)


def away(split: Split, far: Tensor, bits: Tensor, now: Conditions) -> Tensor:
    """What the device is billed for a transfer and for what runs far, [n, A, R].

    Args:
        split: bills.
        far: what the far machine takes, [n, A, R].
        bits: that leave, [n, A].
        now: of n inputs.
    """
    bps, rtt_s, load = (each.unsqueeze(1) for each in (now.bps, now.rtt_s, now.load))
    sending_s, waiting_s = bits / bps, rtt_s * (bits > 0)
    energy_j = split.link.energy_j(bits, sending_s, waiting_s)
    sending = Cost(energy_j, sending_s + waiting_s, sent_bytes=bits / 8)
    return (split.billed(Cost(*far.unbind(dim=2)), load) + sending).rows()


def _summed(tree: Tree, amounts: Tensor, *, stem: bool = False) -> Tensor:
    """What the whole way to each node takes, given what the last step does, [.., V, R].

    Args:
        tree: of decisions.
        amounts: [.., V, R].
        stem: whether what was taken before any decision is counted.
    """
    total = amounts.clone()
    total[..., 0, :] *= stem
    for node in range(1, len(tree)):
        total[..., node, :] += total[..., int(tree.parent[node]), :]
    return total
