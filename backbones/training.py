"""Fitting a backbone so that every one of its knobs is worth turning.

One set of weights learns to work at all widths, precisions and depths: the full network from the
labels, the rest from the full network. Taken together from stochastic depth (Huang et al., ECCV
2016), the sandwich rule and in-place distillation (Yu and Huang, Universally Slimmable Networks,
ICCV 2019), quantisation-aware training with straight-through rounding, and deep supervision of
exits (Teerapittayanon et al., BranchyNet, ICPR 2016). Training at a growing resolution saves time.
"""

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from penstock.backbones.augmentation import augment, resize
from penstock.backbones.backbone import Backbone
from penstock.backbones.calibration import (
    calibrate_steps,
    measure_images,
    random_settings,
    recalibrate_norms,
)
from penstock.backbones.data import Data, Images
from penstock.backbones.errors import InputError
from penstock.backbones.knob import BITS, FULL, WIDTH, Setting
from penstock.backbones.normalization import SettingNorm
from penstock.backbones.saving import read_tensors, save, write_tensors


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a backbone is fitted."""

    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 0.2
    """Peak of the one-cycle schedule of SGD with Nesterov momentum 0.9."""
    weight_decay: float = 5e-4
    """On everything but normalisation."""
    warm_up: float = 0.25
    """Share of the steps in which the learning rate rises."""
    label_smoothing: float = 0.1
    """Of the full network's labels."""
    exit_weight: float = 0.3
    """Weight of each early exit's loss, half label and half distillation."""
    full_share: float = 0.3
    """Share of the epochs, at the start, in which only the full network and its exits learn."""
    part_share: float = 0.5
    """Share of each batch on which the two partial networks of the sandwich learn."""
    skip_probability: float = 0.2
    """Stochastic depth: how often a skippable block of a partial network is skipped."""
    shift: int = 4
    """Pixels by which images are moved at most."""
    flip: bool = True
    """Whether images are mirrored."""
    start_size: float = 1.0
    """Resolution of the first epoch, as a share of the images'."""
    full_size_from: float = 0.6
    """Share of the epochs after which the resolution has grown to the images' own."""
    size_step: int = 8
    """Resolutions are multiples of this many pixels."""
    bfloat16: bool | None = None
    """Autocast; None: only where the processor has instructions for it."""


def fit(
    backbone: Backbone,
    data: Data,
    fitting: Fitting,
    folder: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
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

    Returns:
        The backbone, in evaluation mode on the CPU.

    Raises:
        InputError: if the images do not fit the backbone, or the checkpoint is of another recipe.
    """
    if data.train.shape != backbone.shape or len(data.train.classes) != backbone.classes:
        raise InputError(
            f"the network takes images {backbone.shape} of {backbone.classes} classes, the data "
            f"has {data.train.shape} of {len(data.train.classes)}; "
            "change the backbone's arguments or the data's size and channels"
        )
    checkpoint = folder / "checkpoint.safetensors"
    recipe = json.dumps({**asdict(fitting), "seed": seed, "images": len(data.train)})
    backbone.to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(backbone, fitting)
    first = _restore(checkpoint, recipe, backbone, optimizer) if resume else 0
    if first == 0:
        measure_images(backbone, data.train.pixels)
    steps_an_epoch = len(data.train) // fitting.batch_size
    total = steps_an_epoch * fitting.epochs
    with (
        SummaryWriter(folder, purge_step=first * steps_an_epoch) as board,
        tqdm(total=total, initial=first * steps_an_epoch, desc="fit", unit="step") as bar,
    ):
        for epoch in range(first, fitting.epochs):
            started = time.perf_counter()
            calibrate_steps(backbone, _some(data.train, 256, device))
            backbone.train()
            loss = torch.zeros(())
            for step, (images, labels) in enumerate(
                _batches(data.train, fitting, epoch, seed, device), epoch * steps_an_epoch
            ):
                _set_rate(optimizer, one_cycle(step / total, fitting))
                optimizer.zero_grad()
                loss = _learn(backbone, images, labels, fitting, epoch, (seed, step), device)
                optimizer.step()
                bar.update()
            at = (epoch + 1) * steps_an_epoch
            board.add_scalar("fit/loss", loss.item(), at)
            board.add_scalar("fit/learning_rate", one_cycle(at / total, fitting), at)
            board.add_scalar("fit/epoch_s", time.perf_counter() - started, at)
            for index, value in accuracies(backbone, data.validation, device=device).items():
                board.add_scalar(f"fit/validation_accuracy_exit_{index}", value, at)
                bar.set_postfix_str(f"epoch {epoch + 1}, validation {value:.3f}")
            _checkpoint(checkpoint, recipe, backbone, optimizer, epoch + 1)
    _finish(backbone, data.train, fitting, seed, device)
    backbone.to("cpu").eval()
    save(backbone, folder / "backbone.safetensors")
    return backbone


def one_cycle(progress: float, fitting: Fitting) -> float:
    """The learning rate after a share of all steps: up in a line, down in a cosine to 0.

    >>> one_cycle(0.25, Fitting(learning_rate=0.2, warm_up=0.25))
    0.2
    """
    if progress < fitting.warm_up:
        return fitting.learning_rate * max(progress / fitting.warm_up, 0.01)
    done = (progress - fitting.warm_up) / (1 - fitting.warm_up)
    return fitting.learning_rate * (1 + math.cos(math.pi * done)) / 2


@torch.no_grad()
def accuracies(
    backbone: Backbone,
    images: Images,
    settings: Setting = FULL,
    *,
    stem: Setting = FULL,
    device: str = "cpu",
) -> dict[int, float]:
    """Share of right answers of every head under one setting: {block index: accuracy}."""
    backbone.eval()
    right: dict[int, int] = {}
    for start in range(0, len(images), 500):
        batch = _floats(images.pixels[start : start + 500].to(device))
        labels = images.labels[start : start + 500].to(device)
        for index, logits in backbone.answers(batch, settings, stem=stem).items():
            hits = int((logits.argmax(dim=1) == labels).sum())
            right[index] = right.get(index, 0) + hits
    return {index: hits / len(images) for index, hits in right.items()}


def _learn(
    backbone: Backbone,
    images: Tensor,
    labels: Tensor,
    fitting: Fitting,
    epoch: int,
    key: tuple[int, int],
    device: str,
) -> Tensor:
    """One sandwich: full network from labels, then narrowest and a random part from the full."""
    with torch.autocast(device, torch.bfloat16, enabled=_bfloat16(fitting, device)):
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
        for part, settings in enumerate((narrowest, mixture)):
            rows = slice(0, n) if part == 0 else slice(len(images) - n, None)
            with torch.autocast(device, torch.bfloat16, enabled=_bfloat16(fitting, device)):
                said = backbone.answers(images[rows], settings, stem=stem)
                parts = torch.stack([distillation(s, teacher[rows]) for s in said.values()])
            parts.mean().backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of the student's logits against the teacher's probabilities, [n, classes]."""
    return functional.cross_entropy(student, teacher.softmax(dim=1))


def _batches(
    images: Images, fitting: Fitting, epoch: int, seed: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in an order of its own, so that a resumed epoch is the same one."""
    rng = torch.Generator().manual_seed(seed * 10_007 + epoch)
    order = torch.randperm(len(images), generator=rng)
    side = _side(images.shape[1], fitting, epoch)
    for start in range(0, len(order) - fitting.batch_size + 1, fitting.batch_size):
        rows = order[start : start + fitting.batch_size]
        pixels = augment(images.pixels[rows], rng, shift=fitting.shift, flip=fitting.flip)
        yield resize(_floats(pixels.to(device)), side), images.labels[rows].to(device)


def _side(full: int, fitting: Fitting, epoch: int) -> int:
    grown = min(1.0, epoch / max(1, fitting.full_size_from * fitting.epochs))
    share = fitting.start_size + (1 - fitting.start_size) * grown
    side = round(full * share / fitting.size_step) * fitting.size_step
    return full if share >= 1 else max(fitting.size_step, min(side, full))


def _floats(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)


def _some(images: Images, count: int, device: str) -> Tensor:
    return _floats(images.pixels[:count].to(device))


def _optimizer(backbone: Backbone, fitting: Fitting) -> SGD:
    norms = [layer for layer in backbone.modules() if isinstance(layer, SettingNorm)]
    free = {parameter for norm in norms for parameter in norm.parameters()}
    decayed = [parameter for parameter in backbone.parameters() if parameter not in free]
    groups = [
        {"params": decayed, "weight_decay": fitting.weight_decay},
        {"params": [parameter for parameter in backbone.parameters() if parameter in free]},
    ]
    return SGD(groups, lr=fitting.learning_rate, momentum=0.9, nesterov=True)


def _set_rate(optimizer: SGD, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _bfloat16(fitting: Fitting, device: str) -> bool:
    if fitting.bfloat16 is not None:
        return fitting.bfloat16
    able = torch.cpu.get_capabilities()
    return device != "cpu" or bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _checkpoint(
    path: Path, recipe: str, backbone: Backbone, optimizer: SGD, epochs_done: int
) -> None:
    tensors = {f"weights.{name}": tensor for name, tensor in backbone.state_dict().items()}
    for name, parameter in backbone.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    write_tensors(path, tensors, {"recipe": recipe, "epochs_done": str(epochs_done)})


def _restore(path: Path, recipe: str, backbone: Backbone, optimizer: SGD) -> int:
    """Epochs done, 0 if there is no checkpoint."""
    if not path.exists():
        return 0
    tensors, metadata = read_tensors(path)
    if metadata.get("recipe") != recipe:
        raise InputError(
            f"{path} was made by another recipe, seed or data: {metadata.get('recipe')}; "
            "resume with the same ones, or choose another folder"
        )
    prefix = "weights."
    backbone.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    for name, parameter in backbone.named_parameters():
        if f"momentum.{name}" in tensors:
            buffer = tensors[f"momentum.{name}"].to(parameter.device)
            optimizer.state[parameter]["momentum_buffer"] = buffer
    return int(metadata["epochs_done"])


def _finish(backbone: Backbone, images: Images, fitting: Fitting, seed: int, device: str) -> None:
    """Calibrate steps and statistics of every setting, on images as they will be met."""
    calibrate_steps(backbone, _some(images, 512, device))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:2560]
    size = min(256, len(order))
    chosen = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    batches = [_floats(images.pixels[rows].to(device)) for rows in chosen]
    with tqdm(total=len(batches), desc="recalibrate", unit="batch") as bar:
        recalibrate_norms(
            backbone,
            batches,
            skip_probability=fitting.skip_probability,
            seed=seed,
            progress=lambda: bar.update() and None,
        )
