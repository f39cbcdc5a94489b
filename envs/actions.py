"""What a policy turns: the knobs offered, actions made legal, and lanes grouped by what they do."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from penstock.backbones import EXIT, RUN, Backbone, InputError, Knob
from penstock.envs.activations import Rows
from penstock.hardware import Machine


def offered_knobs(
    backbone: Backbone, machine: Machine, choices: Mapping[str, Sequence[float]]
) -> tuple[tuple[Knob, ...], dict[str, float]]:
    """The knobs that a policy turns, after `exit`, and those that are fixed at one choice.

    Args:
        backbone: its knobs come first.
        machine: its knobs come after.
        choices: knob name -> the choices offered, a part of the knob's own; one choice fixes it.

    Raises:
        InputError: if there is no such knob, or it lacks such a choice.
    """
    if tuple(choices.get(RUN.name, RUN.choices)) == RUN.choices[:1]:
        raise InputError(
            "a policy may be offered to skip blocks (run = [0, 1]) or not (run = [1]), "
            "got run = [0]; a network that never runs them needs no policy"
        )
    knobs = [k for k in (*backbone.knobs, *machine.knobs) if k.name != EXIT.name]
    known = {knob.name: knob for knob in knobs}
    for name, wanted in choices.items():
        if name not in known:
            raise InputError(
                f"there is no knob {name!r} on this backbone and machine; they have "
                f"{', '.join(known) or 'none'}"
            )
        if not wanted or not set(wanted) <= set(known[name].choices):
            raise InputError(
                f"knob {name!r} can stand at {known[name].choices}, got {list(wanted)}; "
                "offer some of these"
            )
    cut = [
        Knob(k.name, tuple(c for c in k.choices if c in choices.get(k.name, k.choices)))
        for k in knobs
    ]
    fixed = {knob.name: knob.full for knob in cut if len(knob.choices) == 1}
    return tuple(knob for knob in cut if len(knob.choices) > 1), fixed


def legal(actions: Tensor, allowed: Tensor, sizes: Sequence[int]) -> Tensor:
    """Actions with each choice that is not allowed replaced, [N, K].

    The nearest choice before it that is allowed takes its place, or else the nearest behind.

    Args:
        actions: an index per knob, [N, K]; out of range means the nearest end.
        allowed: the choices of all knobs side by side, [N, T] bool.
        sizes: how many choices each knob has, T in all.

    >>> allowed = torch.tensor([[True, False, True]])
    >>> [legal(torch.tensor([[wanted]]), allowed, [3]).item() for wanted in range(3)]
    [0, 0, 2]
    """
    replaced, start = actions.clone(), 0
    for k, size in enumerate(sizes):
        wanted = actions[:, k].clamp(0, size - 1).unsqueeze(1)
        choice = torch.arange(size)
        # Those before first, then those behind, the nearest of each first.
        distance = torch.where(choice <= wanted, wanted - choice, size + choice)
        never = torch.iinfo(torch.int64).max
        distance = torch.where(allowed[:, start : start + size], distance, never)
        replaced[:, k] = distance.argmin(dim=1)
        start += size
    return replaced


def strides(sizes: Sequence[int]) -> Tensor:
    """What each knob's index counts for in the number of a combination, the last knob 1.

    >>> strides([2, 4, 3])
    tensor([12,  3,  1])
    """
    counts = torch.ones(len(sizes), dtype=torch.int64)
    for k in range(len(sizes) - 2, -1, -1):
        counts[k] = counts[k + 1] * sizes[k + 1]
    return counts


def groups(running: Tensor | None, code: Tensor) -> list[tuple[int, Rows]]:
    """The running lanes by code, each code once.

    Args:
        running: [N] bool; None for all, one or more.
        code: what a lane does, [N], not negative.

    >>> groups(torch.tensor([True, False, True]), torch.tensor([4, 7, 2]))
    [(2, tensor([2])), (4, tensor([0]))]
    """
    if running is not None and not running.any():
        return []
    everyone = running is None or bool(running.all())
    if everyone and bool((code == code[0]).all()):
        return [(int(code[0]), slice(None))]
    rows = torch.arange(len(code)) if running is None else running.nonzero().squeeze(1)
    rows = rows[code[rows].argsort(stable=True)]
    counts = code[rows].bincount()
    codes = counts.nonzero().squeeze(1)
    parts = rows.tensor_split(counts[codes].cumsum(dim=0)[:-1].tolist())
    return list(zip(codes.tolist(), parts, strict=True))
