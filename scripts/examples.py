"""What a policy decided, stage by stage, and the easiest and the hardest inputs."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from penstock.agents.decided import Decided, matters
from penstock.backbones import RUN, Knob
from penstock.scripts.at_work import AtWork
from penstock.scripts.page import Html, Part, scrolling, small_image, tag

SHOWN: Final = 6
"""Inputs of each kind."""

TINT: Final = "0, 90, 160"
"""Red, green and blue behind shares."""


def by_stage(work: AtWork) -> Html:
    """A table: how many inputs reach each decision, and what is chosen there."""
    lanes, choices = work.lanes, work.decided.choices
    choices = choices[work.decided.exit >= 0]
    first = lanes.source.outline(lanes.stream).first
    over = [
        tag("th", "before", rowspan="2", scope="col", class_="corner"),
        tag("th", "reached", rowspan="2", scope="col"),
    ]
    over += [tag("th", "answers", rowspan="2", scope="col")]
    below = []
    for knob in lanes.offered:
        over.append(
            tag("th", knob.name, colspan=str(len(knob.choices)), class_="group", scope="colgroup")
        )
        for c, choice in enumerate(knob.choices):
            below.append(tag("th", f"{choice:g}", class_="group" if c == 0 else "", scope="col"))
    turned = matters(lanes, choices)
    rows = []
    for s, block in enumerate(first):
        reached = choices[:, s, 0] >= 0
        answers = choices[reached, s, 0] == 0
        cells = [_share(_of(reached)), _share(_of(answers))]
        for k, knob in enumerate(lanes.offered):
            made = choices[turned[:, s, k], s, k + 1]
            for c in range(len(knob.choices)):
                cells.append(_share(_of(made == c), "group" if c == 0 else ""))
        rows.append(tag("tr", tag("th", f"block {block}", scope="row"), *cells))
    head = tag("thead", tag("tr", *over), tag("tr", *below))
    caption = (
        "Shares in %: inputs that reach the decision; of these, those that are answered with the "
        "exit before it; of the others, what is chosen, where that changes what is run."
    )
    return scrolling(tag("table", head, tag("tbody", *rows), class_="heat"), caption)


def examples(work: AtWork, *, hardest: bool) -> Html:
    """Inputs from one end of the scale, with what was decided for each."""
    met = torch.from_numpy(np.unique(work.decided.inputs.numpy()))
    order = met[work.hard[met].argsort(descending=hardest, stable=True)]
    return tag("ul", *(_example(work, int(i)) for i in order[:SHOWN]), class_="examples")


def _example(work: AtWork, which: int) -> Html:
    decided, images = work.decided, work.images
    row = int((decided.inputs == which).nonzero()[0])
    label = images.classes[int(images.labels[which])]
    full = float(work.lanes.full.each()[work.lanes.stream.resource])
    spent = 100 * float(decided.cost[row]) / full
    exit_ = int(decided.exit[row])
    where = f"after block {exit_}" if exit_ >= 0 else "dropped, not answered"
    return tag(
        "li",
        small_image(images.pixels[which], f"an input of class {label}"),
        tag("strong", label),
        _answer(decided, row, images.classes),
        tag("div", f"{where}, " + f"{spent:.0f} % of full".replace(" ", "\u00a0")),
        tag("small", "; ".join(_chosen(work, decided.choices[row]))),
        tag("small", f"entropy {float(work.hard[which]):.2f}"),
    )


def _answer(decided: Decided, row: int, classes: tuple[str, ...]) -> Html:
    right = bool(decided.right[row])
    words: Part = "answered right" if right else "not answered right"
    if decided.said is not None and decided.exit[row] >= 0:
        said = classes[int(decided.said[row])]
        words = f"answered {said}" + ("" if right else ", wrong")
    return tag("div", words, class_="right" if right else "wrong")


def _chosen(work: AtWork, choices: Tensor) -> list[str]:
    """What was run in which blocks, [S, K] indices; blocks with the same choices together."""
    lanes = work.lanes
    first, last = lanes.source.outline(lanes.stream).first, lanes.prices.last.tolist()
    turned = matters(lanes, choices.unsqueeze(0))[0]
    found: dict[str, list[int]] = {}
    for s, chosen in enumerate(choices.tolist()):
        if chosen[0] == 1:
            setting = [
                _in_words(knob, knob.choices[c])
                for knob, c, shown in zip(lanes.offered, chosen[1:], turned[s], strict=True)
                if shown
            ]
            words = ", ".join(word for word in setting if word) or "run"
            found.setdefault(words, []).extend(range(first[s], last[s] + 1))
    return [
        f"block{'s' if len(blocks) > 1 else ''} {_spans(blocks)}: {words}"
        for words, blocks in found.items()
    ]


def _in_words(knob: Knob, choice: float) -> str:
    """A choice; nothing for the usual, to run a block."""
    if knob.name == RUN.name:
        return "" if choice else "skipped"
    return f"{knob.name}\u00a0{choice:g}"


def _spans(blocks: list[int]) -> str:
    """Rising numbers, neighbours as from to."""
    starts = [b for b in blocks if b - 1 not in blocks]
    ends = [b for b in blocks if b + 1 not in blocks]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(f"{a}" if a == b else f"{a}\u2013{b}" for a, b in pairs)


def _share(share: float, kind: str = "") -> Html:
    """A cell that is the darker the more inputs it stands for; a dash where none came."""
    if np.isnan(share):
        return tag("td", "\u2013", class_=kind)
    tint = f"background: rgba({TINT}, {0.45 * share:.2f})"
    return tag("td", f"{100 * share:.0f}", class_=kind, style=tint)


def _of(mask: Tensor) -> float:
    """Share of a mask that holds; NaN of an empty one."""
    return float(mask.double().mean()) if len(mask) else float(torch.nan)
