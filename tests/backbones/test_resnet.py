from collections.abc import Mapping
from typing import Any

import pytest
import torch

from penstock.backbones import (
    BITS,
    EXIT,
    RUN,
    WIDTH,
    Call,
    InputError,
    build,
    resnet,
    staged_resnet,
    tiny_resnet,
    work,
)
from penstock.backbones.normalization import SettingNorm


def images(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("depth", range(8, 111, 6))
def test_every_depth_learns_forward_and_backward(depth: int) -> None:
    backbone = resnet(depth, 0.25, in_channels=1, size=8, classes=3)
    assert backbone.depth == (depth - 2) // 2
    answers = backbone.answers(images(2, backbone.shape))
    ends = [backbone.depth // 3 * (stage + 1) - 1 for stage in range(3)]
    assert list(answers) == ends
    total = torch.stack(list(answers.values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    without = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("size", [8, 9, 15, 28, 32, 63, 64])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("pool", [False, True])
def test_every_image_shape(size: int, in_channels: int, pool: bool) -> None:
    backbone = staged_resnet(
        [4, 8], [1, 1], [1, 2], in_channels=in_channels, size=size, pool=pool
    ).eval()
    assert backbone.shape == (in_channels, size, size)
    with torch.no_grad():
        logits = backbone(images(2, backbone.shape), {"width": 0.5, "bits": 8, "run": 0})
        stem = backbone.stem(images(2, backbone.shape), {})
    assert logits.shape == (2, 10) and torch.isfinite(logits).all()
    assert stem.shape[2:] == (size // 2, size // 2) if pool else (size, size)


def test_stages_halve_the_resolution_and_double_the_channels() -> None:
    backbone = resnet(14, 1.5).eval()
    x, shapes = backbone.stem(images(1, backbone.shape), {}), []
    for index in range(backbone.depth):
        x = backbone.block(index)(x, {})
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(24, 32, 32)] * 2 + [(48, 16, 16)] * 2 + [(96, 8, 8)] * 2


def test_weights_of_resnet_20() -> None:
    # He et al. count 0.27 million: stem 432, stages 6 * 2304, 4608 + 5 * 9216, 18432 + 5 * 36864,
    # and the last head 650. Here the two 1x1 shortcuts, 512 and 2048, come on top.
    convolutions = 432 + 6 * 2304 + 4608 + 5 * 9216 + 18432 + 5 * 36864 + 512 + 2048
    counted = {n: p.numel() for n, p in resnet(20).named_parameters() if "norm" not in n}
    heads = sum(count for name, count in counted.items() if name.startswith("exits"))
    assert sum(counted.values()) - heads == convolutions
    assert heads == 17 * 10 + 33 * 10 + 65 * 10


def test_knobs() -> None:
    backbone = resnet(14, 0.25)
    assert backbone.knobs == (EXIT, RUN, WIDTH, BITS)
    assert backbone.stem.knobs == (BITS,)
    can_skip = [RUN in backbone.block(index).knobs for index in range(backbone.depth)]
    assert can_skip == [True, True, False, True, False, True]


def test_what_is_skipped_is_not_done() -> None:
    backbone = resnet(8, 1, size=8).eval()
    block, x = backbone.block(0), torch.rand(2, 16, 8, 8)
    assert block(x, {"run": 0}) is x
    assert block(x, {"run": 0, "width": 0.25, "bits": 4}) is x
    assert work(block, {"run": 0}, (16, 8, 8)).none
    macs = [work(block, {"width": width}, (16, 8, 8)).macs for width in WIDTH.choices]
    assert macs == [macs[-1] * width for width in WIDTH.choices]


@pytest.mark.parametrize("width", WIDTH.choices)
def test_narrow_block_uses_the_first_hidden_channels_alone(width: float) -> None:
    block, x = resnet(8, 1, size=8).eval().block(1), torch.rand(2, 16, 8, 8)
    hidden = round(32 * width)
    with torch.no_grad():
        before = block(x, {"width": width})
        weights = block.state_dict()
        weights["first.weight"][hidden:] = torch.nan
        weights["second.weight"][:, hidden:] = torch.nan
        after = block(x, {"width": width})
        full = block(x, {})
    assert torch.equal(before, after)
    assert torch.isfinite(full).all() == (width == 1)


def test_input_is_left_as_it_was() -> None:
    backbone = tiny_resnet().eval()
    x = images(2, backbone.shape)
    before = x.clone()
    hidden = torch.rand(2, 8, 8, 8)
    kept = hidden.clone()
    with torch.no_grad():
        backbone(x, {"bits": 4})
        backbone.block(0)(hidden, {"bits": 4, "width": 0.5})
    assert torch.equal(x, before) and torch.equal(hidden, kept)


@pytest.mark.parametrize("depth", [-4, 2, 7, 9, 20.5, 116])
def test_depth_outside_the_family(depth: int) -> None:
    with pytest.raises(InputError, match=rf"8, 14, 20, \.\.\. 110 \(6n \+ 2\), got {depth}"):
        resnet(depth)


@pytest.mark.parametrize("arguments", [{"size": 7}, {"size": 65}, {"in_channels": 2}])
def test_images_outside_the_family(arguments: Mapping[str, Any]) -> None:
    with pytest.raises(InputError, match=r"8 to 64 pixels with 1 or 3 channels, got \d+ pixels"):
        resnet(8, **arguments)


@pytest.mark.parametrize(
    "arguments", [{}, {"in_channels": 3, "size": 32, "classes": 7, "blocks_per_stage": 2}]
)
def test_tiny_resnet_knows_how_it_was_built(arguments: Mapping[str, Any]) -> None:
    backbone = tiny_resnet(**arguments)
    assert backbone.depth == 3 * arguments.get("blocks_per_stage", 1)
    assert backbone.classes == arguments.get("classes", 10)
    assert backbone.call is not None
    again = build(backbone.call)
    assert again.call == backbone.call and again.shape == backbone.shape
    shapes = [{n: t.shape for n, t in b.state_dict().items()} for b in (backbone, again)]
    assert shapes[0] == shapes[1]


def test_stages_of_ones_own() -> None:
    stages: dict[str, Any] = {
        "channels": [4, 8, 12],
        "blocks": [1, 2, 1],
        "strides": [1, 2, 1],
        "exits": [0, 2],
        "pool": True,
    }
    backbone = staged_resnet(**stages, in_channels=1, size=9, classes=3).eval()
    x, shapes = backbone.stem(images(2, backbone.shape), {}), []
    for index in range(backbone.depth):
        x = backbone.block(index)(x, {})
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 4, 4), (8, 2, 2), (8, 2, 2), (12, 2, 2)]
    assert list(backbone.answers(images(2, backbone.shape))) == [0, 2, 3]
    assert backbone.call == Call(
        "penstock.backbones:staged_resnet", {**stages, "in_channels": 1, "size": 9, "classes": 3}
    )
    again = build(backbone.call)
    assert {n: t.shape for n, t in again.state_dict().items()} == {
        n: t.shape for n, t in backbone.state_dict().items()
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"channels": [4]}, "one number of 1 or more for each stage"),
        ({"channels": [], "blocks": [], "strides": []}, "one number of 1 or more"),
        ({"blocks": [1, 0]}, "one number of 1 or more"),
        ({"strides": [1, 3]}, "strides are 1 or 2 and exits lie from 0 to 2"),
        ({"exits": [3]}, r"from 0 to 2, got strides=\[1, 2\] and exits=\[3\]"),
    ],
)
def test_stages_that_make_no_network(wrong: dict[str, Any], said: str) -> None:
    right: dict[str, Any] = {"channels": [4, 8], "blocks": [1, 2], "strides": [1, 2]}
    with pytest.raises(InputError, match=said):
        staged_resnet(**{**right, **wrong})


@pytest.mark.parametrize("bits", BITS.choices)
@pytest.mark.parametrize("width", WIDTH.choices)
def test_folded_normalisation_changes_nothing(bits: float, width: float) -> None:
    torch.manual_seed(0)
    backbone = resnet(8, 0.5, size=32)
    for layer in backbone.modules():
        if isinstance(layer, SettingNorm):
            layer.mean.normal_()
            layer.variance.uniform_(0.5, 2)
            layer.weight.data.normal_()
            layer.bias.data.normal_()
    backbone.eval()
    x, setting = images(16, backbone.shape), {"width": width, "bits": bits}
    with_gradients = backbone(x, setting)
    with torch.no_grad():
        folded = backbone(x, setting)
    assert not torch.equal(folded, with_gradients)  # another order of additions: it was folded
    # Rounded, a sum at the edge of a level may fall on the other side: a few logits move a bit.
    near = torch.isclose(folded, with_gradients, atol=1e-4, rtol=1e-4).float().mean()
    assert near == 1 if bits == 32 else near >= 0.9
    torch.testing.assert_close(folded, with_gradients, atol=2e-3, rtol=0)
