"""Fitting a backbone so that every one of its knobs is worth turning.

One set of weights learns to work at all widths, precisions and depths: the full network from the
labels, the rest from the full network. Taken together from stochastic depth (Huang et al., ECCV
2016), the sandwich rule and in-place distillation (Yu and Huang, Universally Slimmable Networks,
ICCV 2019), quantisation-aware training with straight-through rounding, and deep supervision of
exits (Teerapittayanon et al., BranchyNet, ICPR 2016). Training at a growing resolution saves time.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from penstock.backbones.augmentation import augment, resize
from penstock.backbones.backbone import Backbone, Run, RunAt, exactly_at, run_exactly
from penstock.backbones.calibration import (
    calibrate_steps,
    clip_weights,
    measure_images,
    recalibrate_norms,
)
from penstock.backbones.checkpoint import restore, write_checkpoint
from penstock.backbones.compatible import check_images
from penstock.backbones.data import Data, Images
from penstock.backbones.errors import InputError
from penstock.backbones.evaluating import evaluating
from penstock.backbones.fitting import Fitting, one_cycle, side
from penstock.backbones.knob import FULL, Setting
from penstock.backbones.normalization import SettingNorm
from penstock.backbones.sandwich import distillation, learn
from penstock.backbones.saving import save

__all__ = ["Fitting", "accuracies", "distillation", "fit", "one_cycle"]


def fit(
    backbone: Backbone,
    data: Data,
    fitting: Fitting,
    folder: Path | str,
    *,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    run_at: RunAt = exactly_at,
    about: str = "",
) -> Backbone:
    """Train a backbone and leave it as `backbone.safetensors` in a folder.

    Writes a checkpoint an epoch, from which a resumed run goes on exactly as if it had not been
    interrupted; scalars go to TensorBoard in the same folder.

    Args:
        backbone: changed in place.
        data: trained on `data.train`; `data.validation` is only watched.
        fitting: the recipe.
        folder: made if need be.
        seed: of order, augmentation and sampled settings; the weights come as they are.
        device: where to train.
        resume: go on from the folder's checkpoint, if there is one.
        run_at: says for each share of the steps how blocks are run; a machine that disturbs them
            (`penstock.hardware.Exposure`) makes a network that survives it. What is watched and
            measured at the end is run as at the end of the steps.
        about: that in words; a checkpoint of other words is not resumed.

    Returns:
        The backbone, in evaluation mode on the CPU.

    Raises:
        InputError: if the images do not fit the backbone or are fewer than a batch, or the
            checkpoint is of another recipe or backbone.
    """
    check_fit(backbone, data, fitting)
    folder = Path(folder)
    checkpoint = folder / "checkpoint.safetensors"
    how = {"network": str(backbone.call), "seed": seed, "images": len(data.train), "run": about}
    recipe = json.dumps({**asdict(fitting), **how})
    backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(backbone, fitting)
    first = restore(checkpoint, recipe, backbone, optimizer) if resume else 0
    if first == 0:
        measure_images(backbone, data.train.pixels)
    steps_an_epoch = len(data.train) // fitting.batch_size
    total = steps_an_epoch * fitting.epochs
    with (
        SummaryWriter(folder, purge_step=first * steps_an_epoch + 1) as board,
        tqdm(total=total, initial=first * steps_an_epoch, desc="fit", unit="step") as bar,
    ):
        for epoch in range(first, fitting.epochs):
            started = time.perf_counter()
            calibrate_steps(backbone, _some(data.train, 256, device), fitting.bit_error_rate)
            backbone.train()
            loss = torch.zeros(())
            for step, (images, labels) in enumerate(
                _batches(data.train, fitting, epoch, seed, device), epoch * steps_an_epoch
            ):
                _set_rate(optimizer, one_cycle(step / total, fitting))
                optimizer.zero_grad()
                run = run_at(step / total, _draws(seed, step))
                loss = learn(backbone, images, labels, fitting, epoch, (seed, step), device, run)
                optimizer.step()
                if fitting.weight_clip is not None:
                    clip_weights(backbone, fitting.weight_clip)
                bar.update()
            at = (epoch + 1) * steps_an_epoch
            board.add_scalar("fit/loss", loss.item(), at)
            board.add_scalar("fit/learning_rate", one_cycle(at / total, fitting), at)
            board.add_scalar("fit/epoch_s", time.perf_counter() - started, at)
            run = run_at(at / total, _draws(seed, total))
            watched = accuracies(backbone, data.validation, device=device, run=run)
            for index, value in watched.items():
                board.add_scalar(f"fit/validation_accuracy_exit_{index}", value, at)
                bar.set_postfix_str(f"epoch {epoch + 1}, validation {value:.3f}")
            board.flush()
            write_checkpoint(checkpoint, recipe, backbone, optimizer, epoch + 1)
    run = run_at(1.0, _draws(seed, total + 1))
    _finish(backbone, data.train, fitting, seed, device, run)
    backbone.to("cpu").eval()
    save(backbone, folder / "backbone.safetensors")
    return backbone


def check_fit(backbone: Backbone, data: Data, fitting: Fitting) -> None:
    """Find out whether `fit` can begin.

    Raises:
        InputError: if the images do not fit the backbone or the recipe.
    """
    check_images(data.train, backbone)
    if fitting.shift >= backbone.shape[1]:
        raise InputError(
            f"images of {backbone.shape[1]} pixels are shifted by fewer, got a shift of "
            f"{fitting.shift}; lower it"
        )
    if len(data.train) < fitting.batch_size:
        raise InputError(
            f"a batch of {fitting.batch_size} needs as many training images, got "
            f"{len(data.train)}; give more images or a smaller batch_size"
        )


@torch.no_grad()
def accuracies(
    backbone: Backbone,
    images: Images,
    settings: Setting | Sequence[Setting] = FULL,
    *,
    stem: Setting = FULL,
    device: str = "cpu",
    run: Run = run_exactly,
) -> dict[int, float]:
    """Share of right answers of every head: {block index: accuracy}; arguments as of `answers`."""
    right: dict[int, int] = {}
    with evaluating(backbone):
        for start in range(0, len(images), 500):
            batch = _floats(images.pixels[start : start + 500].to(device))
            labels = images.labels[start : start + 500].to(device)
            for index, logits in backbone.answers(batch, settings, stem=stem, run=run).items():
                hits = int((logits.argmax(dim=1) == labels).sum())
                right[index] = right.get(index, 0) + hits
    return {index: hits / len(images) for index, hits in right.items()}


def _batches(
    images: Images, fitting: Fitting, epoch: int, seed: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in an order of its own, so that a resumed epoch is the same one."""
    rng = torch.Generator().manual_seed(seed * 10_007 + epoch)
    order = torch.randperm(len(images), generator=rng)
    pixels_wide = side(images.shape[1], fitting, epoch)
    for start in range(0, len(order) - fitting.batch_size + 1, fitting.batch_size):
        rows = order[start : start + fitting.batch_size]
        pixels = augment(images.pixels[rows], rng, shift=fitting.shift, flip=fitting.flip)
        yield resize(_floats(pixels.to(device)), pixels_wide), images.labels[rows].to(device)


def _floats(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)


def _some(images: Images, count: int, device: str) -> Tensor:
    return _floats(images.pixels[:count].to(device))


def _optimizer(backbone: Backbone, fitting: Fitting) -> SGD:
    norms = [layer for layer in backbone.modules() if isinstance(layer, SettingNorm)]
    free = {parameter for norm in norms for parameter in norm.parameters()}
    decayed = [parameter for parameter in backbone.parameters() if parameter not in free]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": fitting.weight_decay},
        {"params": [parameter for parameter in backbone.parameters() if parameter in free]},
    ]
    return SGD(groups, lr=fitting.learning_rate, momentum=0.9, nesterov=True)


def _set_rate(optimizer: SGD, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _finish(
    backbone: Backbone, images: Images, fitting: Fitting, seed: int, device: str, run: Run
) -> None:
    """Calibrate steps and statistics of every setting, on images as they will be met."""
    calibrate_steps(backbone, _some(images, 512, device), fitting.bit_error_rate)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:2560]
    size = min(256, len(order))
    chosen = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    batches = [_floats(images.pixels[rows].to(device)) for rows in chosen]
    with tqdm(total=len(batches), desc="recalibrate", unit="batch") as bar:
        recalibrate_norms(
            backbone,
            batches,
            skip_share=fitting.skip_share,
            skip_probability=fitting.skip_probability,
            seed=seed,
            mixed=fitting.full_share < 1,
            progress=bar.update,
            run=run,
        )


def _draws(seed: int, step: int) -> torch.Generator:
    """Of a machine in one step."""
    return torch.Generator().manual_seed(hash((seed, step, 1)))
