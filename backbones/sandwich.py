"""One step of learning: the full network from the labels, two parts of it from the full network.

The sandwich rule and in-place distillation of Yu and Huang, Universally Slimmable Networks (ICCV
2019), the parts being the narrowest network and a random mixture of all knobs.
"""

import random

import torch
from torch import Tensor
from torch.nn import functional

from penstock.backbones.backbone import Backbone
from penstock.backbones.calibration import random_settings
from penstock.backbones.fitting import Fitting
from penstock.backbones.knob import BITS, WIDTH, Setting


def learn(
    backbone: Backbone,
    images: Tensor,
    labels: Tensor,
    fitting: Fitting,
    epoch: int,
    key: tuple[int, int],
    device: str,
) -> Tensor:
    """Add the gradients of one sandwich to the parameters, and say the full network's loss.

    Args:
        backbone: in training mode.
        images: floats in [0, 1], [n, C, H, W].
        labels: [n].
        fitting: the recipe.
        epoch: counted from 0; at first only the full network and its exits learn.
        key: seed and step: choose the settings of the parts.
        device: where all of this is.
    """
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=_bfloat16(fitting, kind)):
        answers = backbone.answers(images)
        last = answers.pop(backbone.depth - 1)
        teacher = last.detach().float()
        loss = functional.cross_entropy(last, labels, label_smoothing=fitting.label_smoothing)
        for early in answers.values():
            both = functional.cross_entropy(early, labels) + distillation(early, teacher)
            loss = loss + fitting.exit_weight * both / 2
    loss.backward()  # type: ignore[no-untyped-call]
    if epoch >= fitting.full_share * fitting.epochs:
        rng = random.Random(hash(key))
        n = max(2, round(len(images) * fitting.part_share))
        narrowest: Setting = {"width": WIDTH.choices[0], "bits": rng.choice(BITS.choices)}
        mixture = random_settings(backbone.depth, fitting.skip_probability, rng)
        stem: Setting = {"bits": rng.choice(BITS.choices)}
        parts: list[tuple[slice, Setting | list[Setting]]] = [
            (slice(0, n), narrowest),
            (slice(len(images) - n, None), mixture),
        ]
        for rows, settings in parts:
            with torch.autocast(kind, torch.bfloat16, enabled=_bfloat16(fitting, kind)):
                said = backbone.answers(images[rows], settings, stem=stem)
                heads = torch.stack([distillation(s, teacher[rows]) for s in said.values()])
            heads.mean().backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of the student's logits against the teacher's probabilities, [n, classes]."""
    return functional.cross_entropy(student, teacher.softmax(dim=1))


def _bfloat16(fitting: Fitting, kind: str) -> bool:
    if fitting.bfloat16 is not None:
        return fitting.bfloat16
    able = torch.cpu.get_capabilities()
    return kind != "cpu" or bool(able.get("avx512_bf16") or able.get("amx_bf16"))
