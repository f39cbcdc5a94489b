"""Labelled images in memory, split for fitting, choosing and judging.

Letters: `N` images, `C` channels (1 grey, 3 RGB), `H` rows and `W` columns of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import groupby, islice
from math import prod
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from penstock.backbones import hub
from penstock.backbones.errors import InputError

Fit: TypeAlias = Callable[[Tensor], Tensor]
"""Pixels `[n, C, H, W]` uint8 in; the same images in the shape that is wanted out."""

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601, as in JPEG and Pillow)."""

TEST_SHARE = 0.2
"""What is split off as test images where the data come without any."""

BATCH_BYTES = 2**22
"""Pixels that are fitted at once: enough to hide PyTorch's overhead, little beside the whole."""


@dataclass(frozen=True, slots=True)
class Images:
    """Pictures of one shape, each of one class.

    Raises:
        InputError: if the tensors are not as stated here, or a label has no class.
    """

    pixels: Tensor  # [N, C, H, W] uint8
    labels: Tensor  # [N] int64, indices of classes
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.pixels.dim() != 4 or self.pixels.dtype != torch.uint8:
            raise InputError(
                f"pixels must be uint8 of shape [N, C, H, W], got {self.pixels.dtype} of shape "
                f"{list(self.pixels.shape)}; scale them to 0..255 and stack them"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.pixels.shape[:1]:
            raise InputError(
                f"labels must be int64 of shape [{len(self.pixels)}], one an image, got "
                f"{self.labels.dtype} of shape {list(self.labels.shape)}; give one an image"
            )
        if len(self) == 0:
            return
        least, most = int(self.labels.min()), int(self.labels.max())
        if least < 0 or most >= len(self.classes):
            raise InputError(
                f"labels must lie in 0..{len(self.classes) - 1} for {len(self.classes)} classes, "
                f"got {least}..{most}; name every class or mend the labels"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of every image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def take(self, indices: Tensor | Sequence[int]) -> Images:
        """The images at these places, in this order, copied.

        Args:
            indices: `[n]` places in `0..N-1`, or a mask `[N]` of booleans.
        """
        chosen = torch.as_tensor(indices, device=self.labels.device)
        chosen = chosen if chosen.dtype == torch.bool else chosen.long()
        return Images(self.pixels[chosen], self.labels[chosen], self.classes)


@dataclass(frozen=True, slots=True)
class Data:
    """Images to fit with, to choose by, and to judge by: no image is in two of them."""

    train: Images
    validation: Images
    test: Images


def load_data(
    name: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    seed: int = 0,
    validation_share: float = 0.1,
) -> Data:
    """Read images by name, and take validation images from the training split.

    Validation images never come from the test split. Where there is no test split, a seeded 20 %
    of the images becomes one first.

    Args:
        name: `"digits"` (1797 grey 8x8 digits that come with scikit-learn, without a test split),
            a folder, a parquet file, or a data set of the Hugging Face hub
            (`penstock.backbones.hub` says how each must look).
        size: rows and columns of every image; others are resized to this square, whatever their
            proportions. None keeps the size that all images have.
        channels: 1 for grey, 3 for RGB, or None to keep what the images have.
        seed: picks the validation images, and the test images where the data come without any.
        validation_share: of the training images, in (0, 1).

    Raises:
        InputError: if an argument is out of range, or the data cannot be found or read.

    Examples:
        >>> data = load_data("digits")
        >>> len(data.train), len(data.validation), len(data.test), data.train.shape
        (1294, 144, 359, (1, 8, 8))
    """
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1 pixel, got {size}; leave it out to keep sizes")
    if channels not in (None, 1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (RGB), got {channels}; choose one")
    if not 0 < validation_share < 1:
        raise InputError(
            f"validation_share must lie between 0 and 1, got {validation_share}; 0.1 is usual"
        )
    fit = partial(_fitted, size=size, channels=channels)
    rng = torch.Generator().manual_seed(seed)
    train, test = (_digits(fit), None) if name == "digits" else _found(name, fit)
    if test is None:
        train, test = _split(train, TEST_SHARE, rng)
    train, validation = _split(train, validation_share, rng)
    return Data(train, validation, test)


def _found(name: str, fit: Fit) -> tuple[Images, Images | None]:
    encoded, encoded_test = hub.find(name)
    train = _decoded(encoded, encoded, fit)
    if encoded_test is None:
        return train, None
    # the training split says which classes there are: a small test split may lack one
    test = _decoded(encoded_test, encoded, fit)
    if test.shape != train.shape:
        raise InputError(
            f"{encoded_test.source} must have images of shape {train.shape} as for training, got "
            f"{test.shape}; give size and channels to make them alike"
        )
    return train, test


def _decoded(encoded: hub.Encoded, train: hub.Encoded, fit: Fit) -> Images:
    """All images, fitted in batches as they are decoded, so that large ones never pile up."""
    places = {value: place for place, value in enumerate(train.classes)}
    labels = torch.tensor([places[value] for value in encoded.labels])
    pixels, done = torch.empty(0), 0
    for shape, alike in groupby(_raw(encoded), key=lambda image: image[0]):
        while batch := list(islice(alike, max(1, BATCH_BYTES // prod(shape)))):
            flat = torch.frombuffer(bytearray().join(b for _, b, _ in batch), dtype=torch.uint8)
            fitted = fit(flat.view(-1, *shape).permute(0, 3, 1, 2))
            if not done:
                pixels = fitted.new_empty((len(labels), *fitted.shape[1:]))
            if fitted.shape[1:] != pixels.shape[1:]:
                raise InputError(
                    f"images must all have one shape [C, H, W], got {list(fitted.shape[1:])} in "
                    f"{batch[0][2]} after {list(pixels.shape[1:])}; give size and channels to "
                    "make them alike"
                )
            pixels[done : done + len(batch)] = fitted
            done += len(batch)
    return Images(pixels, labels, tuple(train.classes.values()))


def _raw(encoded: hub.Encoded) -> Iterator[tuple[tuple[int, int, int], bytes, str]]:
    """Each image's `(H, W, C)`, its bytes in that order, and what to call it in an error."""
    from tqdm import tqdm

    count = len(encoded.labels)
    images = tqdm(encoded.images, "decoding", count, False, unit="image", delay=2, disable=None)
    for row, image in enumerate(images):
        where = str(image) if isinstance(image, Path) else f"row {row} of {encoded.source}"
        yield *_opened(image, where), where


def _opened(image: BytesIO | Path | None, where: str) -> tuple[tuple[int, int, int], bytes]:
    """An image's `(H, W, C)` and bytes, upright: one channel if it is grey, three if not."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    expected = f"{where} must hold an image of 8 bits a channel that Pillow can decode"
    if image is None:
        raise InputError(f"{expected}, got nothing; leave it out")
    try:
        with Image.open(image) as file:
            upright: Image.Image = file
            if file.mode.startswith(("I", "F")):  # convert() would cut their values off at 255
                raise ValueError(f"mode {file.mode}")
            ImageOps.exif_transpose(upright, in_place=True)
            if file.mode not in ("L", "RGB"):
                upright.info.pop("transparency", None)  # dropped anyway; Pillow would warn
                upright = upright.convert("L" if file.mode in ("1", "LA") else "RGB")
            return (upright.height, upright.width, len(upright.getbands())), upright.tobytes()
    # what Pillow raises for damaged files of one format or another
    except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        came = "no format it knows" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{expected}, got {came}; convert it, mend it or leave it out") from error


def _digits(fit: Fit) -> Images:
    """1797 digits of 8x8 pixels in 17 greys (UCI, Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.images)[:, None] * (255 / 16)
    return Images(
        fit(pixels.round().to(torch.uint8)),
        torch.from_numpy(digits.target).long(),
        tuple(map(str, digits.target_names)),
    )


def _split(images: Images, share: float, rng: torch.Generator) -> tuple[Images, Images]:
    """What stays, and a random share of the images."""
    count = round(len(images) * share)
    if not 0 < count < len(images):
        raise InputError(
            f"a share of {share:g} of {len(images)} images must leave some on both sides, got "
            f"{count} of them; give more images or another share"
        )
    order = torch.randperm(len(images), generator=rng)
    return images.take(order[count:]), images.take(order[:count])


def _fitted(pixels: Tensor, *, size: int | None, channels: int | None) -> Tensor:
    """Pixels `[N, C, H, W]` of the size and channels asked for, untouched where they are."""
    if channels is not None and pixels.shape[1] != channels:
        if channels == 3:
            pixels = pixels.expand(-1, 3, -1, -1)
        else:
            luma = torch.tensor(LUMA).view(1, 3, 1, 1)
            pixels = (pixels * luma).sum(1, keepdim=True).round().to(torch.uint8)
    if size is not None and tuple(pixels.shape[2:]) != (size, size):
        resized = interpolate(pixels.float(), (size, size), mode="bilinear", antialias=True)
        pixels = resized.round().clamp(0, 255).to(torch.uint8)
    return pixels
