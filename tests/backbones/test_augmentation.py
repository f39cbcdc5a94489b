import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from penstock.backbones.augmentation import augment, resize


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(n: int, channels: int = 3, height: int = 8, width: int = 8) -> Tensor:
    return torch.randint(0, 256, (n, channels, height, width), generator=rng(), dtype=torch.uint8)


def views(image: Tensor, shift: int, flip: bool) -> set[bytes]:
    """Every view that an image [C, H, W] may become."""
    height, width = image.shape[1:]
    padded = pad(image[None].float(), [shift] * 4, mode="reflect")[0].to(image.dtype)
    crops = [
        padded[:, y : y + height, x : x + width]
        for y in range(2 * shift + 1)
        for x in range(2 * shift + 1)
    ]
    crops += [crop.flip(2) for crop in crops] if flip else []
    return {crop.contiguous().numpy().tobytes() for crop in crops}


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 8, 8), (3, 5, 7)])
def test_views_are_shifted_and_mirrored_images(
    shift: int, flip: bool, channels: int, height: int, width: int
) -> None:
    images = pixels(20, channels, height, width)
    augmented = augment(images, rng(), shift=shift, flip=flip)
    assert augmented.shape == images.shape and augmented.dtype == torch.uint8
    assert augmented.is_contiguous(memory_format=torch.channels_last)
    for before, after in zip(images, augmented, strict=True):
        assert after.contiguous().numpy().tobytes() in views(before, shift, flip)


def test_every_view_is_seen() -> None:
    image = pixels(1)
    augmented = augment(image.expand(600, -1, -1, -1), rng(), shift=1, flip=True)
    seen = {view.contiguous().numpy().tobytes() for view in augmented}
    assert seen == views(image[0], shift=1, flip=True) and len(seen) == 18


def test_half_of_the_images_are_mirrored() -> None:
    image = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4).expand(1000, 1, 4, 4)
    augmented = augment(image, rng(), shift=0, flip=True)
    mirrored = (augmented[:, 0, 0, 0] == 3).float().mean()
    assert mirrored.item() == pytest.approx(0.5, abs=0.06)


def test_nothing_asked_nothing_done() -> None:
    images = pixels(5)
    assert torch.equal(augment(images, rng(), shift=0, flip=False), images)


def test_views_follow_their_generator() -> None:
    images, shared = pixels(10), rng()
    one = augment(images, rng(), shift=2, flip=True)
    assert torch.equal(one, augment(images, rng(), shift=2, flip=True))
    assert torch.equal(one, augment(images, shared, shift=2, flip=True))
    assert not torch.equal(one, augment(images, shared, shift=2, flip=True))


def test_floats_are_moved_too() -> None:
    images = pixels(5) / 255
    expected = augment(pixels(5), rng(), shift=2, flip=True) / 255
    torch.testing.assert_close(augment(images, rng(), shift=2, flip=True), expected)


@pytest.mark.parametrize("side", [4, 7, 12])
def test_resized_images_keep_their_mean(side: int) -> None:
    images = pixels(50) / 255
    resized = resize(images, side)
    assert resized.shape == (50, 3, side, side)
    assert resized.mean().item() == pytest.approx(images.mean().item(), abs=0.01)
    assert 0 <= resized.min() and resized.max() <= 1


def test_images_of_that_size_are_not_touched() -> None:
    images = pixels(2) / 255
    assert resize(images, 8) is images
