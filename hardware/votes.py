"""Several noisy passes of a whole network that vote on the answer.

After Qin and Vucinic, Noisy Computations during Inference (arXiv 1811.10649); whether they average
probabilities or count votes is not public, so both are here. [reconstruction] The knob `votes` of a
machine is something else: there, the reads of every product are averaged.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from penstock.backbones import FULL, Backbone, InputError, Run, Setting

Kind = Literal["soft", "hard"]


def vote(
    backbone: Backbone,
    images: Tensor,
    run: Run,
    votes: int,
    kind: Kind = "soft",
    setting: Setting = FULL,
) -> Tensor:
    """What so many passes say together: a score for each class, the largest wins.

    Args:
        backbone: in evaluation mode.
        images: floats in [0, 1], [n, C, H, W].
        run: a noisy machine, as `through` gives it.
        votes: passes.
        kind: as of `tally`.
        setting: of all blocks, stem included.

    Returns:
        [n, classes].

    Raises:
        InputError: if there is no vote, or no such kind.
    """
    if votes < 1 or kind not in ("soft", "hard"):
        raise InputError(f"1 or more votes are soft or hard, got {votes} {kind!r}; correct them")
    return tally(passes(backbone, images, run, votes, setting), kind)


@torch.no_grad()
def passes(
    backbone: Backbone, images: Tensor, run: Run, votes: int, setting: Setting = FULL
) -> Tensor:
    """Probabilities that each of so many passes gives, [votes, n, classes]; arguments of `vote`."""
    last = backbone.depth - 1
    return torch.stack(
        [
            backbone.answers(images, setting, stem=setting, run=run)[last].softmax(dim=1)
            for _ in range(votes)
        ]
    )


def tally(probabilities: Tensor, kind: Kind) -> Tensor:
    """Scores [n, classes] of the passes' probabilities [votes, n, classes].

    "soft" is the mean of the probabilities; "hard" the share of passes that a class won, ties going
    to the larger mean.
    """
    soft = probabilities.mean(dim=0)
    if kind == "soft":
        return soft
    votes, _, classes = probabilities.shape
    wins = functional.one_hot(probabilities.argmax(dim=2), classes).sum(dim=0)
    return (wins + soft * votes / (votes + 1)) / votes  # the second is less than one vote
