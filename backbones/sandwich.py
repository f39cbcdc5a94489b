"""One step of learning: the full network from the labels, two parts of it from the full network.

The sandwich rule and in-place distillation of Yu and Huang, Universally Slimmable Networks (ICCV
2019), the parts being the narrowest network and a random mixture of widths and precisions. Blocks
are skipped image by image in all three, after Huang et al., Deep Networks with Stochastic Depth
(ECCV 2016), but with skipping and complete images in one batch (see `with_skips`).
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from penstock.backbones.backbone import Backbone, Run, run_exactly
from penstock.backbones.calibration import random_settings, with_skips
from penstock.backbones.fitting import Fitting
from penstock.backbones.knob import BITS, FULL, WIDTH, Setting


def learn(
    backbone: Backbone,
    images: Tensor,
    labels: Tensor,
    fitting: Fitting,
    epoch: int,
    key: tuple[int, int],
    device: str,
    run: Run = run_exactly,
) -> Tensor:
    """Add the gradients of one sandwich to the parameters, and say the loss on the labels.

    Args:
        backbone: in training mode.
        images: floats in [0, 1], [n, C, H, W].
        labels: [n].
        fitting: the recipe.
        epoch: counted from 0; at first only the full network and its exits learn.
        key: seed and step: choose the settings of the parts and the blocks that are skipped.
        device: where all of this is.
        run: how blocks are run.
    """
    parts_learn = epoch >= fitting.full_share * fitting.epochs
    skipping = round(len(images) * fitting.skip_share) if parts_learn else 0
    rng, skips = random.Random(hash(key)), torch.Generator().manual_seed(hash(key))
    full = [FULL] * backbone.depth
    masked = with_skips(full, len(images), skipping, fitting.skip_probability, skips)
    with _autocast(fitting, device):
        answers = backbone.answers(images, masked if skipping else full, run=run)
        last = answers.pop(backbone.depth - 1)
        teacher = last.detach().float()
        loss = functional.cross_entropy(last, labels, label_smoothing=fitting.label_smoothing)
        for early in answers.values():
            both = functional.cross_entropy(early, labels) + distillation(early, teacher)
            loss = loss + fitting.exit_weight * both / 2
    loss.backward()  # type: ignore[no-untyped-call]
    if parts_learn:
        n = max(2, round((len(images) - skipping) * fitting.part_share))
        narrowest: Setting = {"width": WIDTH.choices[0], "bits": rng.choice(BITS.choices)}
        mixture = random_settings(backbone.depth, rng)
        stem: Setting = {"bits": rng.choice(BITS.choices)}
        parts: list[tuple[slice, Sequence[Setting]]] = [
            (slice(skipping, skipping + n), [narrowest] * backbone.depth),
            (slice(len(images) - n, None), mixture),
        ]
        for rows, settings in parts:
            masked = with_skips(settings, n, n, fitting.skip_probability, skips)
            with _autocast(fitting, device):
                said = backbone.answers(images[rows], masked, stem=stem, run=run)
                heads = torch.stack([distillation(s, teacher[rows]) for s in said.values()])
            heads.mean().backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of the student's logits against the teacher's probabilities, [n, classes]."""
    return functional.cross_entropy(student, teacher.softmax(dim=1))


def _autocast(fitting: Fitting, device: str) -> torch.autocast:
    kind = torch.device(device).type
    able = torch.cpu.get_capabilities()
    native = kind != "cpu" or bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    wanted = native if fitting.bfloat16 is None else fitting.bfloat16
    return torch.autocast(kind, torch.bfloat16, enabled=wanted)
