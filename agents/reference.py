"""What the full network's answers are worth: the mark against which a policy's are counted."""

import torch
from torch import Tensor
from tqdm import tqdm

from penstock.envs import Lanes, Recording

BATCH = 500
"""Images at a time."""


@torch.no_grad()
def full_worth(lanes: Lanes) -> Tensor:
    """The worth of the full network's answer to every image of an engine, [I] float32.

    Full is the dearest choice offered of every knob; a machine's faults are left out.
    """
    if isinstance(lanes.source, Recording):
        return lanes.source.full_worth(lanes.stream.worth)
    images, setting = lanes.images, lanes.prices.settings[-1]
    worth: list[Tensor] = []
    with tqdm(total=len(images), desc="reference", unit="image") as bar:
        for start in range(0, len(images), BATCH):
            pixels = images.pixels[start : start + BATCH].to(lanes.device).float() / 255
            x = pixels.contiguous(memory_format=torch.channels_last)
            answers = lanes.backbone.answers(x, setting, stem=setting)
            logits = answers[lanes.backbone.depth - 1].cpu()
            worth.append(lanes.stream.value(logits, images.labels[start : start + BATCH]).float())
            bar.update(len(x))
    return torch.cat(worth)
