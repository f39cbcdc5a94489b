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


@torch.no_grad()
def vote(
    backbone: Backbone,
    images: Tensor,
    run: Run,
    votes: int,
    kind: Literal["soft", "hard"] = "soft",
    setting: Setting = FULL,
) -> Tensor:
    """What so many passes say together: a score for each class, the largest wins.

    Args:
        backbone: in evaluation mode.
        images: floats in [0, 1], [n, C, H, W].
        run: a noisy machine, as `through` gives it.
        votes: passes.
        kind: "soft" is the mean of the probabilities; "hard" the share of passes that a class won,
            ties going to the larger mean.
        setting: of all blocks, stem included.

    Returns:
        [n, classes].

    Raises:
        InputError: if there is no vote, or no such kind.
    """
    if votes < 1 or kind not in ("soft", "hard"):
        raise InputError(f"1 or more votes are soft or hard, got {votes} {kind!r}; correct them")
    soft = hard = torch.zeros(len(images), backbone.classes, device=images.device)
    for _ in range(votes):
        answers = backbone.answers(images, setting, stem=setting, run=run)
        probability = answers[backbone.depth - 1].softmax(dim=1)
        soft = soft + probability
        hard = hard + functional.one_hot(probability.argmax(dim=1), backbone.classes)
    # A sum of probabilities over votes + 1 is less than one vote.
    return soft / votes if kind == "soft" else (hard + soft / (votes + 1)) / votes
