"""Random views of training images: shifted and mirrored, on whole batches."""

import torch
from torch import Tensor
from torch.nn import functional


def augment(pixels: Tensor, rng: torch.Generator, *, shift: int, flip: bool) -> Tensor:
    """Each image moved by up to `shift` pixels, its border mirrored, and flipped half of the time.

    Args:
        pixels: [n, C, H, W], any type.
        rng: on the CPU.
        shift: pixels, less than H and W.
        flip: whether left and right may change places (not for digits).

    Returns:
        [n, C, H, W], channels last in memory.
    """
    n, _, height, width = pixels.shape
    offset = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=rng).to(pixels.device)
    rows = offset[0] + torch.arange(height, device=pixels.device)
    columns = offset[1] + torch.arange(width, device=pixels.device)
    if flip:
        mirrored = torch.rand(n, 1, generator=rng).to(pixels.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = functional.pad(pixels.float(), [shift] * 4, mode="reflect").to(pixels.dtype)
    lane = torch.arange(n, device=pixels.device).view(n, 1, 1)
    views = padded.permute(0, 2, 3, 1)[lane, rows.unsqueeze(2), columns.unsqueeze(1)]
    return views.permute(0, 3, 1, 2)


def resize(images: Tensor, side: int) -> Tensor:
    """Float images [n, C, H, W] at side x side pixels; as they are if they have that size."""
    if images.shape[-1] == side:
        return images
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
