from collections.abc import Mapping
from typing import final

import pytest
import torch
from torch import Tensor

from penstock.backbones import Backbone, Block, InputError, Knob, every_setting, tiny_resnet
from penstock.backbones.prepared import as_it_is, prepare


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = tiny_resnet().train()
        with torch.no_grad():
            for _ in range(3):  # statistics other than 0 and 1
                net(torch.rand(16, 1, 8, 8))
    return net.eval()


@torch.no_grad()
def test_a_prepared_block_does_what_the_block_does(backbone: Backbone) -> None:
    x = torch.rand(3, 1, 8, 8)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    for block in (backbone.stem, *(backbone.block(d) for d in range(3)), backbone.head(2)):
        assert block is not None
        knobs = [Knob(k.name, (k.choices[0], k.full)) for k in block.knobs]
        for setting in every_setting(knobs):
            shape = tuple(x.shape[1:])
            run, plain = prepare(block, setting, shape), as_it_is(block, setting, shape)
            for n in (1, 3):
                torch.testing.assert_close(run(x[:n]), plain(x[:n]), rtol=1e-4, atol=1e-5)
        x = block(x, {})
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


def test_what_does_not_depend_on_the_input_is_computed_beforehand(backbone: Backbone) -> None:
    x = torch.rand(2, 8, 8, 8)
    run = prepare(backbone.block(0), {"width": 0.5, "bits": 8}, (8, 8, 8))
    before = run(x)
    changed = tiny_resnet().eval()
    changed.load_state_dict(backbone.state_dict())
    again = prepare(changed.block(0), {"width": 0.5, "bits": 8}, (8, 8, 8))
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.zero_()
    assert torch.equal(again(x), before)


def test_a_skipped_block_gives_its_input_back(backbone: Backbone) -> None:
    x = torch.rand(2, 8, 8, 8)
    assert prepare(backbone.block(0), {"run": 0, "exit": 1}, (8, 8, 8))(x) is x


@final
class Counting(Block):
    """Looks at a number of its input in Python, where no trace can follow."""

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        return x * float(x.sum().item() > 0)


def test_a_block_that_cannot_be_followed_is_named() -> None:
    with pytest.raises(InputError, match=r"block should be a block that torch.export can follow"):
        prepare(Counting(), {}, (2, 4, 4))
