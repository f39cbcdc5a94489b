from collections.abc import Mapping
from typing import final

import pytest
import torch
from torch import Tensor

from penstock.backbones import EXIT, FULL, Backbone, Block, Knob, Setting, restrict, tiny_resnet
from penstock.backbones.resnet import Head


@final
class Add(Block):
    """Adds its choice."""

    def __init__(self, *choices: float) -> None:
        super().__init__()
        self.knobs = (Knob("add", choices),) if choices else ()

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        assert setting.keys() <= {knob.name for knob in self.knobs}
        return x + setting.get("add", self.knobs[0].full if self.knobs else 0.0)


def chain(*blocks: Block, heads: list[Block | None] | None = None) -> Backbone:
    heads = heads or [*[None] * (len(blocks) - 1), Add()]
    return Backbone(Add(), blocks, heads, shape=(1, 1, 1), classes=1)


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_every_head_answers_and_the_last_one_finally() -> None:
    backbone = tiny_resnet(blocks_per_stage=2).eval()
    answers = backbone.answers(images())
    assert list(answers) == [1, 3, 5]
    assert torch.equal(backbone(images()), answers[5])
    assert [backbone.head(i) is not None for i in range(6)] == [False, True] * 3


def test_heads_read_the_activations_of_their_block() -> None:
    backbone = chain(Add(1, 2), Add(1, 2), Add(1, 2), heads=[Add(), None, Add()])
    said = backbone.answers(torch.zeros(1, 1, 1, 1))
    assert {index: y.item() for index, y in said.items()} == {0: 2, 2: 6}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [(FULL, 4), ({"add": 1}, 2), ([{"add": 1}, {}], 3), ([{}, {"add": 1}], 3)],
)
def test_settings_for_all_blocks_or_one_a_block(
    settings: Setting | list[Setting], expected: float
) -> None:
    assert chain(Add(1, 2), Add(1, 2))(torch.zeros(1, 1, 1, 1), settings).item() == expected


def test_knobs_that_a_block_lacks_stand_at_full() -> None:
    assert chain(Add(), Add(1, 2))(torch.zeros(1, 1, 1, 1), {"add": 1, "bits": 4}).item() == 1
    assert restrict({"add": 1, "bits": 4}, Add(1, 2)) == {"add": 1}
    assert restrict({"add": 1}, Add()) == {}


def test_stem_has_a_setting_of_its_own() -> None:
    backbone = tiny_resnet().eval()
    with torch.no_grad():
        full, coarse = backbone(images()), backbone.answers(images(), stem={"bits": 4})[2]
        blocks = backbone(images(), {"bits": 4})
    assert not torch.equal(full, coarse) and not torch.equal(coarse, blocks)


def test_a_mask_through_the_whole_network_is_each_lane_by_itself() -> None:
    backbone, x = tiny_resnet().eval(), images()
    lanes: list[Setting] = [{}, {"run": 0}, {"width": 0.25}, {"run": 0, "width": 0.5}]
    masks = {
        "run": torch.tensor([1.0, 0, 1, 0], requires_grad=True),
        "width": torch.tensor([1.0, 1, 0.25, 0.5], requires_grad=True),
    }
    logits = backbone(x, masks)
    alone = torch.stack([backbone(x, lane)[i] for i, lane in enumerate(lanes)])
    torch.testing.assert_close(logits, alone, atol=1e-4, rtol=1e-4)
    logits.square().sum().backward()
    assert all(m.grad is not None and (m.grad != 0).all() for m in masks.values())


def test_knobs_in_order_of_appearance() -> None:
    assert chain(Add(), Add(1, 2)).knobs == (EXIT, Knob("add", (1, 2)))


def test_one_knob_has_the_same_choices_everywhere() -> None:
    with pytest.raises(ValueError, match=r"'add' has choices \(1, 2\) .* and \(1, 3\) in another"):
        _ = chain(Add(1, 2), Add(1, 3)).knobs


def test_as_many_heads_as_blocks_and_one_at_the_end() -> None:
    with pytest.raises(ValueError, match=r"2 blocks need as many heads \(or None\), got 1"):
        chain(Add(), Add(), heads=[Add()])
    with pytest.raises(ValueError, match="the last block needs a head, got None"):
        chain(Add(), Add(), heads=[Head(1, 1), None])
    with pytest.raises(ValueError, match="the last block needs a head"):
        Backbone(Add(), [], [], shape=(1, 1, 1), classes=1)


def test_as_many_settings_as_blocks() -> None:
    with pytest.raises(ValueError, match="2 blocks need as many settings, got 3"):
        chain(Add(), Add()).answers(torch.zeros(1, 1, 1, 1), [{}, {}, {}])
