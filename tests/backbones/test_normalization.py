import pytest
import torch

from penstock.backbones import BITS, WIDTH
from penstock.backbones.normalization import ImageNorm, SettingNorm


def batch(mean: float, deviation: float, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(16, 4, 8, 8, generator=rng) * deviation + mean


def test_images_are_centred() -> None:
    norm = ImageNorm(2)
    norm.mean.copy_(torch.tensor([0.5, 0.25]).view(2, 1, 1))
    norm.deviation.copy_(torch.tensor([0.5, 0.25]).view(2, 1, 1))
    images = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(3, 2, 5, 5)
    assert norm(images)[:, :, 0, 0].tolist() == [[1, -1]] * 3


def test_training_brings_each_channel_to_mean_0_and_variance_1() -> None:
    y = SettingNorm(4).train()(batch(3, 2), 1.0, 32)
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(dim=(0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)


@pytest.mark.parametrize("width", WIDTH.choices)
@pytest.mark.parametrize("bits", BITS.choices)
def test_only_the_statistics_of_the_setting_move(width: float, bits: int) -> None:
    norm = SettingNorm(4).train()
    norm(batch(3, 2)[:, :3], width, bits)
    at = WIDTH.index(width), BITS.index(bits)
    moved = norm.mean != 0
    assert moved[at].tolist() == [True, True, True, False]  # the first three channels were used
    assert moved.sum() == 3
    torch.testing.assert_close(norm.mean[at][:3], torch.full((3,), 0.3), atol=0.05, rtol=0)


def test_gradients_reach_the_affine_map_of_the_width_alone() -> None:
    norm = SettingNorm(4).train()
    norm(batch(3, 2)[:, :2], 0.5, 8).square().sum().backward()
    assert norm.weight.grad is not None
    assert (norm.weight.grad != 0).nonzero().tolist() == [[1, 0], [1, 1]]


def test_evaluation_uses_the_statistics_and_leaves_them() -> None:
    norm = SettingNorm(4).eval()
    norm.mean[3, 2] = 3
    norm.variance[3, 2] = 4
    x = batch(3, 2)
    torch.testing.assert_close(norm(x, 1.0, 32), (x - 3) / 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(norm(x, 1.0, 8), x, atol=1e-4, rtol=1e-4)
    assert (norm.mean[3, 2] == 3).all()


def test_forgotten_statistics_become_plain_averages() -> None:
    norm = SettingNorm(4).train()
    norm(batch(100, 1), 1.0, 32)
    norm.forget()
    batches = [batch(mean, 1 + mean, seed) for seed, mean in enumerate((0.0, 1.0, 5.0))]
    for x in batches:
        norm(x, 1.0, 32)
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in batches]).mean(dim=0)
    variance = torch.stack([x.var(dim=(0, 2, 3)) for x in batches]).mean(dim=0)
    torch.testing.assert_close(norm.mean[3, 2], mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(norm.variance[3, 2], variance, atol=1e-4, rtol=1e-4)
    assert (norm.mean[3, :2] == 0).all()


@pytest.mark.parametrize(("width", "bits"), [(0.3, 32), (1.0, 16)])
def test_setting_without_statistics(width: float, bits: float) -> None:
    with pytest.raises(ValueError, match="can stand at"):
        SettingNorm(4)(batch(0, 1), width, bits)
