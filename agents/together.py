"""Many images through a deployed network at once, each group of equal decisions as one batch.

Letters: `n` images, `m` those not answered yet, `K` knobs, `D` blocks.
"""

import torch
from torch import Tensor

from penstock.agents.kit import Answers, Kit
from penstock.envs.actions import groups
from penstock.envs.activations import Rows, together
from penstock.envs.observation import UNKNOWN, confidence, pooled


def answer_together(kit: Kit, images: Tensor) -> Answers:
    """What a network and its policy make of images [n, C, H, W]."""
    n, depth = len(images), kit.depth
    logits = torch.empty(n, kit.classes)
    exits = torch.full((n,), depth - 1)
    choices = torch.full((n, depth, len(kit.sizes)), -1)
    rows = torch.arange(n)  # [m] which images are under way, in the order of x
    x, said = kit.stem(images), logits
    sure = torch.tensor(UNKNOWN).repeat(n, 1)  # [m, 5]
    spent = torch.full((n,), kit.stem_cost, dtype=torch.float64)  # [m]
    for d in range(depth):
        chosen = _decide(kit, d, x, sure, spent)  # [m, K]
        going = chosen[:, 0] != 0
        if not going.all():
            left, stays = rows[~going], going.nonzero().squeeze(1)
            logits[left], exits[left], choices[left, d, 0] = said[~going], d - 1, 0
            if len(stays) == 0:
                return Answers(logits, exits, choices)
            x, chosen = _take(x, stays), chosen[stays]
            rows, sure, spent = rows[stays], sure[stays], spent[stays]
        choices[:, d].index_copy_(0, rows, chosen)
        combination = (chosen[:, 1:] * kit.stride).sum(dim=1)
        spent = spent + kit.cost[d].index_select(0, combination)
        everyone = torch.ones_like(rows, dtype=torch.bool)
        parts = groups(everyone, kit.same[d].index_select(0, combination))
        if len(parts) == 1:
            x = kit.blocks[d][parts[0][0]](x)
        else:
            order = together([lanes for _, lanes in parts])
            rows, sure, spent = rows[order], sure[order], spent[order]
            x = torch.cat([kit.blocks[d][m](_take(x, lanes)) for m, lanes in parts])
        head = kit.heads[d]
        if head is None:
            sure[:, -1] = 0
        else:
            said = head(x)
            sure = confidence(said)
    logits[rows] = said
    return Answers(logits, exits, choices)


def _decide(kit: Kit, d: int, x: Tensor, sure: Tensor, spent: Tensor) -> Tensor:
    """An index per knob before block d, [m, K], from what the engine's observation holds."""
    m, depth = len(x), kit.depth
    account = torch.zeros(m, depth + 3)  # the block, spent, price, inputs_left
    account[:, d] = 1
    account[:, depth] = (spent / kit.full_cost).clamp(0, 2)
    account[:, depth + 1] = kit.price
    observation = torch.cat([pooled(x), sure, account], dim=1)
    return kit.policy.choose(observation, kit.allowed[d].expand(m, -1), kit.sizes)


def _take(x: Tensor, rows: Rows) -> Tensor:
    """Some lanes [m, C, H, W]; with channels last in memory each is one stretch."""
    if isinstance(rows, slice):
        return x
    return x.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
