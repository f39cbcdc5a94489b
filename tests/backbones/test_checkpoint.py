from pathlib import Path

import pytest
import torch
from torch.optim import SGD

from penstock.backbones import Backbone, InputError, tiny_resnet
from penstock.backbones.checkpoint import restore, write_checkpoint


def halfway(seed: int) -> tuple[Backbone, SGD]:
    """A backbone after a step that reached some of its parameters."""
    torch.manual_seed(seed)
    backbone = tiny_resnet()
    optimizer = SGD(backbone.parameters(), lr=0.1, momentum=0.9)
    step(backbone, optimizer)
    return backbone, optimizer


def step(backbone: Backbone, optimizer: SGD) -> None:
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    optimizer.zero_grad()
    backbone.answers(images)[0].square().sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def test_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    one, optimizer_one = halfway(0)
    other, optimizer_other = halfway(1)
    write_checkpoint(tmp_path / "a", "recipe", one, optimizer_one, 7)
    assert restore(tmp_path / "a", "recipe", other, optimizer_other) == 7
    for _ in range(2):
        step(one, optimizer_one)
        step(other, optimizer_other)
    states = one.state_dict(), other.state_dict()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_no_checkpoint_no_epochs(tmp_path: Path) -> None:
    assert restore(tmp_path / "a", "recipe", *halfway(0)) == 0


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", "mine", *halfway(0), 7)
    with pytest.raises(InputError, match="made by another recipe, seed or data: mine; resume with"):
        restore(tmp_path / "a", "yours", *halfway(0))


@pytest.mark.parametrize("other", [{"classes": 3}, {"blocks_per_stage": 2}])
def test_another_backbone_is_refused(tmp_path: Path, other: dict[str, int]) -> None:
    write_checkpoint(tmp_path / "a", "mine", *halfway(0), 7)
    backbone = tiny_resnet(**other)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(InputError, match="weights of another backbone than Call"):
        restore(tmp_path / "a", "mine", backbone, SGD(backbone.parameters()))
    assert all(torch.equal(t, before[name]) for name, t in backbone.state_dict().items())


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", "mine", *halfway(0), 7)
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-1])
    with pytest.raises(InputError, match="cut off or damaged"):
        restore(tmp_path / "a", "mine", *halfway(0))
