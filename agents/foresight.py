"""What still lies ahead of an input: the answers that can be reached, and the ways to them.

Letters: `n` inputs under way, `V` nodes of the tree of decisions, `A` answers, `R` resources, `S`
stages, `M` combinations of choices, `K` knobs with exit first, `T` their choices.
"""

from typing import final

import torch
from torch import Tensor

from penstock.agents.plan_costs import PlanCosts
from penstock.agents.standing import Conditions, in_time, nodes, payable, recorded
from penstock.envs import Lanes
from penstock.envs.actions import strides
from penstock.envs.tree import Tree


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

    Answers are those of the whole recording, so that they are numbered alike whatever a stream
    offers. A way is open if every step of it is offered.

    Args:
        lanes: an engine that replays a recording.
    """

    def __init__(self, lanes: Lanes) -> None:
        recording = recorded(lanes)
        tree, prices = recording.tree, lanes.prices
        sizes = [len(knob.choices) for knob in lanes.offered]
        m = torch.arange(len(prices.settings)).unsqueeze(1)
        self._stride = strides(sizes)
        self._indices = m // self._stride % torch.tensor(sizes, dtype=torch.int64)  # [M, K - 1]
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(dim=0)[: len(sizes)]
        self._places = 2 + starts + self._indices  # [M, K - 1] in the masks
        kept = recording.combinations(lanes.offered, prices.settings[-1])
        self.children = tree.children[:, kept].contiguous()
        """[V, M]: where each combination that is offered leads."""
        self.staying = tree.children[:, recording.staying[kept]].contiguous()
        """[V, M]: the same where the transfer is given up."""
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
            offered = ((self.children[parent] == node) & self._free[parent]).any()
            barred[node] = barred[parent] + (not offered)
        self._barred = barred  # [V]
        alike = self.children.unsqueeze(2) == self.children.unsqueeze(1)  # [V, M, M]
        self._same = (alike & self._free.unsqueeze(1)).to(torch.int8).argmax(dim=2)  # [V, M]
        self.distinct = self._free & (self._same == m.T)
        """[V, M] bool: combinations without those that do what one before them does."""
        led = self.distinct & (self.children > 0)
        self._decision = torch.zeros(len(tree), dtype=torch.int64)  # 1 + m that led to a node
        self._decision[self.children[led]] = 1 + m.T.expand_as(led)[led]
        self.costs = PlanCosts(lanes, self.answers)
        """Of the ways."""
        self.stem = self.costs.stem
        """[R]: taken before anything can be decided."""

    def below(self, node: Tensor) -> Tensor:
        """Whether each answer can be reached, [n, A] bool; the node's own is, if it has one."""
        open_way = self._barred[self.answers] == self._barred[node].unsqueeze(1)
        return (self._way[self.stage[node]] == node.unsqueeze(1)) & open_way

    def cost(self, node: Tensor, now: Conditions) -> Tensor:
        """What it still takes to answer there, [n, A, R]; infinite where the way is closed."""
        closed = ~self.below(node).unsqueeze(2)
        return self.costs.ahead(node, now).masked_fill_(closed, torch.inf)

    def whole_cost(self, inputs: Tensor, now: Conditions) -> Tensor:
        """What it takes to answer inputs [n], the stem included, [n, A, R]; as in `cost`."""
        closed = ~self.below(torch.zeros_like(inputs)).unsqueeze(2)
        return self.costs.whole(inputs, now).masked_fill_(closed, torch.inf)

    def allowed(self, node: Tensor, masks: Tensor) -> Tensor:
        """Whether the first step of the way to each answer may be taken, [n, A] bool.

        Args:
            node: [n].
            masks: of choices, as the engine gives them, [n, T].
        """
        reached = torch.zeros(len(node), len(self.stage), dtype=torch.int8)
        permitted = self._permitted(masks) & masks[:, 1:2]
        reached.scatter_reduce_(1, self.children[node], permitted.to(torch.int8), "amax")
        first = self._way[self.stage[node] + 1]
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
        ways = (self.children[node] == first.unsqueeze(1)) & self._permitted(masks)
        going = self.answers[answer] != node
        return self._actions(going, ways.to(torch.int8).argmax(dim=1))

    def likeliest(self, node: Tensor, logits: Tensor, masks: Tensor) -> Tensor:
        """The decision with the highest logit of those that are allowed, [n, K].

        Args:
            node: [n].
            logits: to answer, then of each combination that is `distinct`, [n, 1 + M].
            masks: of choices, [n, T].
        """
        ways = logits[:, 1:].gather(1, self._same[node])
        ways = ways.masked_fill(~self._permitted(masks), -torch.inf)
        stays = logits[:, 0].masked_fill(~masks[:, 0], -torch.inf)
        best, combination = ways.max(dim=1)
        return self._actions(masks[:, 1] & (best > stays), combination)

    def by_decision(self, node: Tensor, score: Tensor) -> Tensor:
        """The best score of the plans behind each decision, [n, 1 + M]; -infinity for none.

        Args:
            node: [n].
            score: of plans, [n, A]; what it says of answers that are not below does not matter.
        """
        first = self._way[self.stage[node] + 1]
        decision = self._decision[first.clamp(min=0)] * (first >= 0)  # 0: to answer here
        score = score.masked_fill(~self.below(node), -torch.inf)
        best = torch.full((len(node), 1 + self.children.shape[1]), -torch.inf, dtype=score.dtype)
        return best.scatter_reduce_(1, decision, score, "amax")

    def paths(self) -> Tensor:
        """What to do in each stage for each answer, without looking where one stands, [A, S, K].

        From where an answer is given on, and where nobody offers the way, it is to exit.
        """
        stages = len(self._way) - 2
        steps = []
        for stage in range(stages):
            at, child = self._way[stage], self._way[stage + 1]
            ways = (self.children[at] == child.unsqueeze(1)) & self._free[at]
            going = (child >= 0) & ways.any(dim=1)
            steps.append(self._actions(going, ways.to(torch.int8).argmax(dim=1)))
        return torch.stack(steps, dim=1)

    def fork(self, first: int, second: int) -> int:
        """The last node that lies on the ways to both of two answers."""
        one, other = self._way[:, first], self._way[:, second]
        return int(one[(one == other) & (one >= 0)][-1])

    def child(self, node: Tensor, action: Tensor) -> Tensor:
        """Where actions [n, K] lead from nodes [n], if they go on and nothing fails, [n]."""
        return self.children[node, (action[:, 1:] * self._stride).sum(dim=1)]

    def _actions(self, going: Tensor, combination: Tensor) -> Tensor:
        """An index per knob, [n, K]: who goes on [n] bool, and with which combination [n]."""
        return torch.cat([going.long().unsqueeze(1), self._indices[combination]], dim=1)

    def _permitted(self, masks: Tensor) -> Tensor:
        """Which combinations masks [n, T] permit, [n, M] bool."""
        return masks[:, self._places].all(dim=2)


def plan_scores(
    ahead: Foresight, lanes: Lanes, worth: Tensor, charge: Tensor, now: Conditions
) -> Tensor:
    """Worth minus what it costs, of all plans that may be begun, [N, A]; -infinity of others.

    An answer that comes too late is worth nothing; a plan that a hard budget cuts short is begun
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
    return score.masked_fill(~some, -torch.inf)


def best_step(
    ahead: Foresight, lanes: Lanes, worth: Tensor, charge: Tensor, now: Conditions
) -> Tensor:
    """The first step of the plan with the best of `plan_scores`, whose arguments it has, [N, K]."""
    best = plan_scores(ahead, lanes, worth, charge, now).argmax(dim=1)
    return ahead.action(nodes(lanes), best, lanes.allowed)
