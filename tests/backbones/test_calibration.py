import random

import pytest
import torch

from penstock.backbones import BITS, RUN, WIDTH, every_setting, tiny_resnet
from penstock.backbones.calibration import (
    calibrate_steps,
    clip_weights,
    measure_images,
    random_settings,
    recalibrate_norms,
    uniform_settings,
    with_skips,
)
from penstock.backbones.normalization import SettingNorm
from penstock.backbones.precision import Convolution, round_activation
from penstock.backbones.resnet import Stem


def images(n: int = 32) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_every_width_and_precision() -> None:
    assert uniform_settings() == list(every_setting((WIDTH, BITS)))


def test_random_settings_follow_their_generator() -> None:
    one, same, other = (random_settings(50, random.Random(seed)) for seed in (0, 0, 1))
    assert one == same != other
    for knob in (WIDTH, BITS):
        assert {setting[knob.name] for setting in one} == set(knob.choices)


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5])
def test_skips_come_with_their_probability(probability: float) -> None:
    rng = torch.Generator().manual_seed(0)
    settings = [{"width": 0.5}] * 40
    masked = with_skips(settings, 400, 300, probability, rng)
    assert all(setting["width"] == 0.5 for setting in masked)
    runs = torch.stack([torch.as_tensor(setting["run"]) for setting in masked])
    assert runs.shape == (40, 400) and set(runs.flatten().tolist()) <= {0.0, 1.0}
    assert (runs[:, 300:] == 1).all()
    assert float((runs[:, :300] == 0).float().mean()) == pytest.approx(probability, abs=0.03)
    if probability:  # each image has a rate of its own, evenly up to twice the mean
        rates = (runs[:, :300] == 0).float().mean(dim=0)
        assert rates.min() < probability / 3 and rates.max() > 1.6 * probability


def test_steps_are_the_best_for_what_each_layer_reads() -> None:
    backbone = tiny_resnet().train()
    before = {name: parameter.clone() for name, parameter in backbone.named_parameters()}
    calibrate_steps(backbone, images())
    assert backbone.training
    assert all(torch.equal(before[name], p) for name, p in backbone.named_parameters())
    layers = [layer for layer in backbone.modules() if isinstance(layer, Convolution)]
    assert all(not layer._forward_pre_hooks for layer in layers)
    assert all((0 < layer.steps[1]) & (layer.steps[1] < layer.steps[0]) for layer in layers)

    stem, x = backbone.stem, images()
    assert isinstance(stem, Stem)
    x = stem.images(x)
    for bits, step in zip((4, 8), stem.convolution.steps, strict=True):
        errors = [
            float((round_activation(x, step * factor, bits, signed=True) - x).square().mean())
            for factor in (0.8, 1.0, 1.25)
        ]
        assert min(errors) == errors[1]


def test_calibration_brings_coarse_answers_nearer_to_the_exact_ones() -> None:
    torch.manual_seed(0)
    backbone = tiny_resnet().eval()

    def error(bits: int) -> float:
        with torch.no_grad():
            return float((backbone(images(), {"bits": bits}) - backbone(images())).square().mean())

    uncalibrated = {bits: error(bits) for bits in (4, 8)}
    calibrate_steps(backbone, images())
    assert all(error(bits) < uncalibrated[bits] for bits in (4, 8))
    assert error(8) < error(4)


def test_steps_are_shorter_where_bits_flip() -> None:
    backbone = tiny_resnet().eval()
    layers = [layer for layer in backbone.modules() if isinstance(layer, Convolution)]
    calibrate_steps(backbone, images())
    before = [layer.steps.clone() for layer in layers]
    calibrate_steps(backbone, images(), 0.01)
    assert all((layer.steps <= old).all() for layer, old in zip(layers, before, strict=True))
    assert sum(float(layer.steps[1] < old[1]) for layer, old in zip(layers, before, strict=True))


def test_weights_are_clipped_channel_by_channel() -> None:
    backbone = tiny_resnet()
    layer = backbone.stem.convolution
    assert isinstance(layer, Convolution)
    with torch.no_grad():
        layer.weight.fill_(0.1)
        layer.weight[0, 0, 0] = torch.tensor([2.0, -2.0, 0.1])
    # 9 weights: two of magnitude 2, seven of 0.1: root mean square sqrt(8.07 / 9) = 0.94692
    clip_weights(backbone, 2.0)
    first = layer.weight[0, 0, 0].tolist()
    assert first == pytest.approx([1.89385, -1.89385, 0.1], abs=1e-5)
    assert torch.equal(layer.weight[1:], torch.full_like(layer.weight[1:], 0.1))


def test_statistics_are_those_of_the_batches() -> None:
    backbone, batch = tiny_resnet().eval(), images()
    norms = [layer for layer in backbone.modules() if isinstance(layer, SettingNorm)]
    for norm in norms:
        norm.mean.fill_(100)  # to be forgotten
    calls: list[int] = []
    recalibrate_norms(
        backbone,
        [batch],
        skip_share=0.5,
        skip_probability=0.2,
        seed=0,
        progress=lambda: calls.append(1),
    )
    assert calls == [1] and not backbone.training
    assert all(norm.momentum == 0.1 for norm in norms)
    stem = backbone.stem
    assert isinstance(stem, Stem)
    for place, bits in enumerate(BITS.choices):
        with torch.no_grad():
            y = stem.convolution(stem.images(batch), bits)
        mean, variance = y.mean(dim=(0, 2, 3)), y.var(dim=(0, 2, 3))
        torch.testing.assert_close(stem.norm.mean[3, place], mean, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(stem.norm.variance[3, place], variance, atol=1e-4, rtol=1e-4)
    assert all((norm.mean[:, :, 0] != 100).all() for norm in norms if norm is not stem.norm)


def test_recalibration_is_reproducible_and_teaches_nothing() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        backbone = tiny_resnet()
        before = {name: parameter.clone() for name, parameter in backbone.named_parameters()}
        batches = [images(), 1 - images()]
        recalibrate_norms(backbone, batches, skip_share=1.0, skip_probability=0.5, seed=3)
        assert all(torch.equal(before[name], p) for name, p in backbone.named_parameters())
        states.append(backbone.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_statistics_of_the_full_network_alone_are_those_of_its_own_runs() -> None:
    torch.manual_seed(0)
    backbone = tiny_resnet()
    same = [images()] * 8  # so that mixtures would meet every block at its full setting
    recalibrate_norms(backbone, same, skip_share=0.0, skip_probability=0.0, seed=0, mixed=False)
    backbone.eval()
    with torch.no_grad():
        known = backbone(images())
        backbone.train()
        alone = backbone(images())  # by the statistics of the batch itself
    torch.testing.assert_close(known, alone, atol=0.02, rtol=0)  # variances by n and n - 1


def test_every_setting_gives_finite_answers_after_recalibration() -> None:
    backbone = tiny_resnet().eval()
    recalibrate_norms(backbone, [images()], skip_share=0.5, skip_probability=0.2, seed=0)
    with torch.no_grad():
        for setting in every_setting((RUN, WIDTH, BITS)):
            assert torch.isfinite(backbone(images(), setting)).all()


def test_images_are_measured() -> None:
    backbone = tiny_resnet(in_channels=3)
    pixels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    pixels[:2, 0] = 255  # red is 0 or 1; green is constant; blue a third
    pixels[:, 2] = 85
    measure_images(backbone, pixels)
    stem = backbone.stem
    assert isinstance(stem, Stem)
    expected = torch.tensor([0.5, 0, 1 / 3]).view(3, 1, 1)
    torch.testing.assert_close(stem.images.mean, expected)
    deviation = stem.images.deviation.flatten()
    torch.testing.assert_close(deviation, torch.tensor([0.5, 1e-3, 1e-3]), atol=2e-3, rtol=0)
    assert torch.isfinite(stem.images(pixels / 255)).all()
