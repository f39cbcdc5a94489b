from collections.abc import Callable, Mapping
from time import process_time
from typing import final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Block, Knob, Setting, every_setting
from penstock.backbones.normalization import SettingNorm
from penstock.backbones.resnet import BasicBlock, Head, Stem

LANES = 3
KINDS: dict[str, tuple[Callable[[], Block], tuple[int, ...]]] = {
    "stem": (lambda: Stem(3, 8, pool=False), (3, 8, 8)),
    "pooling stem": (lambda: Stem(1, 8, pool=True), (1, 8, 8)),
    "identity block": (lambda: BasicBlock(8, 8, stride=1), (8, 8, 8)),
    "wider block": (lambda: BasicBlock(4, 8, stride=1), (4, 8, 8)),
    "strided block": (lambda: BasicBlock(4, 8, stride=2), (4, 7, 7)),
    "head": (lambda: Head(8, 10), (8, 4, 4)),
}
KNOBS = [(kind, knob.name) for kind, (make, _) in KINDS.items() for knob in make().knobs]


def made(kind: str) -> tuple[Block, Tensor]:
    """A block in which every setting has statistics of its own, and lanes that came from a ReLU."""
    rng = torch.Generator().manual_seed(0)
    make, shape = KINDS[kind]
    block = make().eval()
    for layer in block.modules():
        if isinstance(layer, SettingNorm):
            layer.mean.normal_(generator=rng)
            layer.variance.uniform_(0.5, 2, generator=rng)
            layer.bias.data.normal_(generator=rng)
    return block, torch.rand(LANES, *shape, generator=rng)


def knob_of(block: Block, name: str) -> Knob:
    return next(knob for knob in block.knobs if knob.name == name)


@final
class Scale(Block):
    """Multiplies by its choice, so that a mask must multiply by its value."""

    def __init__(self, *choices: float) -> None:
        super().__init__()
        self.knobs = (Knob("scale", choices),)

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        return x * setting.get("scale", self.knobs[0].full)


@final
class Mean(Block):
    """Scales the means over an image: what comes out has fewer dimensions."""

    knobs = (Knob("scale", (1, 2)),)

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        return x.mean(dim=(2, 3)) * setting.get("scale", 2)


def test_a_mask_is_shaped_as_what_comes_out() -> None:
    block, x = Mean(), torch.rand(LANES, 4, 5, 6)
    mixed = block(x, {"scale": torch.linspace(1, 2, LANES)})
    torch.testing.assert_close(mixed, x.mean(dim=(2, 3)) * torch.linspace(1, 2, LANES).view(-1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_the_same_as_numbers_and_as_masks(kind: str) -> None:
    block, x = made(kind)
    with torch.no_grad():
        for setting in every_setting(block.knobs):
            masks = {name: torch.full((LANES,), float(value)) for name, value in setting.items()}
            torch.testing.assert_close(block(x, masks), block(x, setting), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "head"])
@settings(max_examples=10, deadline=None)
@given(pick=st.data())
def test_each_lane_has_a_setting_of_its_own(kind: str, pick: st.DataObject) -> None:
    block, x = made(kind)
    lanes = pick.draw(st.lists(st.sampled_from(list(every_setting(block.knobs))), min_size=LANES))
    masks = {
        knob.name: torch.tensor([float(lane[knob.name]) for lane in lanes[:LANES]])
        for knob in block.knobs
    }
    with torch.no_grad():
        alone = torch.stack([block(x, lane)[i] for i, lane in enumerate(lanes[:LANES])])
        torch.testing.assert_close(block(x, masks), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "name"), KNOBS)
def test_gradient_of_a_mask_is_the_slope_between_its_neighbours(kind: str, name: str) -> None:
    block, x = made(kind)
    low, high = knob_of(block, name).choices[:2]
    mask = torch.tensor([low, (low + high) / 2, high - 1e-3], requires_grad=True)
    block(x, {name: mask}).sum().backward()
    with torch.no_grad():
        gain = (block(x, {name: high}) - block(x, {name: low})).flatten(1).sum(dim=1)
    assert mask.grad is not None and (mask.grad != 0).all()
    torch.testing.assert_close(mask.grad, gain / (high - low), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("kind", "name"), KNOBS)
def test_gradients_reach_a_mask_at_the_full_choice(kind: str, name: str) -> None:
    block, x = made(kind)
    mask = torch.full((LANES,), float(knob_of(block, name).full), requires_grad=True)
    block(x, {name: mask}).sum().backward()
    assert mask.grad is not None and (mask.grad != 0).all()


def test_two_masks_at_once_both_get_gradients() -> None:
    block, x = made("identity block")
    run = torch.tensor([0.2, 0.5, 1.0], requires_grad=True)
    width = torch.tensor([0.3, 0.6, 0.9], requires_grad=True)
    y = block(x, {"run": run, "width": width, "bits": 8})
    y.sum().backward()
    for mask in (run, width):
        assert mask.grad is not None and (mask.grad != 0).all()
    with torch.no_grad():
        half = (block(x, {"width": 0.5, "bits": 8}) + block(x, {"width": 0.75, "bits": 8})) / 2
        mixed = block(
            x, {"run": torch.full((LANES,), 0.5), "width": torch.full((LANES,), 0.625), "bits": 8}
        )
    torch.testing.assert_close(mixed, (x + half) / 2, atol=1e-4, rtol=1e-4)


@settings(deadline=None)
@given(
    choices=st.permutations([1.0, 2.0, 4.0, 8.0]),
    values=st.lists(st.floats(0, 10, width=32), min_size=1, max_size=5),
)
def test_masks_mix_linearly_whatever_the_order_of_choices(
    choices: list[float], values: list[float]
) -> None:
    mask = torch.tensor(values)
    x = torch.ones(len(values), 2)
    y = Scale(*choices)(x, {"scale": mask})
    torch.testing.assert_close(y, mask.clamp(1, 8)[:, None].expand(-1, 2))


def test_knob_with_one_choice() -> None:
    mask = torch.tensor([3.0, 5.0], requires_grad=True)
    y = Scale(3)(torch.ones(2, 2), {"scale": mask})
    y.sum().backward()
    assert y.tolist() == [[3, 3], [3, 3]]
    assert mask.grad is not None and mask.grad.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float64])
def test_masks_of_any_type(dtype: torch.dtype) -> None:
    block, x = made("identity block")
    with torch.no_grad():
        y = block(x, {"run": torch.tensor([1, 0, 1], dtype=dtype)})
        full = block(x, {})
    assert torch.equal(y, torch.stack([full[0], x[1], full[2]]))


@pytest.mark.parametrize(
    ("kind", "name", "known"),
    [
        ("strided block", "run", "width, bits"),
        ("identity block", "depth", "run, width, bits"),
        ("head", "bits", "none"),
    ],
)
def test_mask_for_a_knob_that_is_not_there(kind: str, name: str, known: str) -> None:
    block, x = made(kind)
    with pytest.raises(ValueError, match=f"knobs are {known}; a mask for '{name}' cannot be used"):
        block(x, {name: torch.ones(LANES)})


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"width": 0.3}, r"'width' can stand at .*, got 0.3"), ({"bits": 16}, r"'bits' .* got 16")],
)
def test_number_that_is_no_choice(setting: Setting, message: str) -> None:
    block, x = made("identity block")
    with pytest.raises(ValueError, match=message):
        block(x, setting)


def test_time_falls_with_the_work() -> None:
    block, x = BasicBlock(64, 64, stride=1).eval(), torch.rand(8, 64, 32, 32)

    def fastest_s(setting: Setting) -> float:
        times_s = []
        for _ in range(5):
            started = process_time()
            block(x, setting)
            times_s.append(process_time() - started)
        return min(times_s)

    with torch.no_grad():
        full_s, narrow_s, none_s = (fastest_s(s) for s in ({}, {"width": 0.25}, {"run": 0}))
    assert none_s < narrow_s / 10 < narrow_s < 0.7 * full_s
