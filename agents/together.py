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
    choices = torch.full((depth, n, len(kit.sizes)), -1)
    rows = torch.arange(n)  # [m] which images are under way, in the order of x
    x, said = kit.stem(images), logits
    seen = _nothing_seen(kit).repeat(n, 1)  # [m, F] as the engine's observation
    spent = torch.full((n,), kit.stem_cost, dtype=torch.float64)  # [m]
    for d in range(depth):
        chosen = _decide(kit, d, x, seen, spent)  # [m, K]
        going = chosen[:, 0] != 0
        if not going.all():
            left, stays = rows[~going], going.nonzero().squeeze(1)
            logits[left], exits[left], choices[d, left, 0] = said[~going], d - 1, 0
            if len(stays) == 0:
                return Answers(logits, exits, choices.transpose(0, 1))
            x, chosen = _take(x, stays), chosen[stays]
            rows, seen, spent = rows[stays], seen[stays], spent[stays]
        choices[d].index_copy_(0, rows, chosen)
        combination = chosen[:, 1:] @ kit.stride
        spent = spent + kit.cost[d].index_select(0, combination)
        parts = groups(None, kit.same[d].index_select(0, combination))
        if len(parts) == 1:
            x = kit.blocks[d][parts[0][0]](x)
        else:
            order = together([lanes for _, lanes in parts])
            rows, seen, spent = rows[order], seen[order], spent[order]
            x = torch.cat([kit.blocks[d][m](_take(x, lanes)) for m, lanes in parts])
        head = kit.heads[d]
        if head is None:
            seen[:, kit.layout.answered] = 0
        else:
            said = head(x)
            seen[:, kit.layout.confidence] = confidence(said)
    logits[rows] = said
    return Answers(logits, exits, choices.transpose(0, 1))


def _nothing_seen(kit: Kit) -> Tensor:
    """What the policy sees before anything was run, but for the block that comes next, [F]."""
    row = torch.zeros(len(kit.layout.columns))
    row[kit.layout.confidence] = torch.tensor(UNKNOWN)
    row[kit.layout.where("price")] = kit.price
    return row


def _decide(kit: Kit, d: int, x: Tensor, seen: Tensor, spent: Tensor) -> Tensor:
    """An index per knob before block d, [m, K]; brings what is seen, [m, F], up to date."""
    layout = kit.layout
    seen[:, layout.features] = pooled(x)
    seen[:, layout.block] = 0
    seen[:, layout.block.start + d] = 1
    seen[:, layout.account.start] = (spent * (1 / kit.full_cost)).clamp_(max=2)
    return kit.choose[d](seen)


def _take(x: Tensor, rows: Rows) -> Tensor:
    """Some lanes [m, C, H, W]; with channels last in memory each is one stretch."""
    if isinstance(rows, slice):
        return x
    return x.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
