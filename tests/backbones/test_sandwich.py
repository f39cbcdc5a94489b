import pytest
import torch

from penstock.backbones import Backbone, tiny_resnet
from penstock.backbones.fitting import Fitting
from penstock.backbones.resnet import Stem
from penstock.backbones.sandwich import distillation, learn

HEAD = "exits.2.linear.weight"
FITTING = Fitting(epochs=10, full_share=0.3, bfloat16=False)


def learned(epoch: int, key: tuple[int, int] = (0, 0), fitting: Fitting = FITTING) -> Backbone:
    torch.manual_seed(0)
    backbone = tiny_resnet().train()
    images, labels = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    loss = learn(backbone, images, labels, fitting, epoch, key, "cpu")
    assert loss.isfinite() and not loss.requires_grad
    return backbone


def gradients(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}


def test_at_first_the_full_network_learns_alone() -> None:
    early, late = gradients(learned(epoch=2)), gradients(learned(epoch=3))
    assert early.keys() == late.keys() == dict(tiny_resnet().named_parameters()).keys()
    used = [(name, grad) for name, grad in early.items() if name.startswith("blocks.1.first_norm")]
    assert all((grad[:3] == 0).all() and (grad[3] != 0).any() for _, grad in used)
    assert all((late[name][0] != 0).any() for name, _ in used)  # the narrowest, in each sandwich
    assert torch.equal(early[HEAD], gradients(learned(0))[HEAD])


def test_parts_use_few_bits_and_leave_statistics_for_them() -> None:
    seen = torch.zeros(3, dtype=torch.bool)
    for step in range(8):
        stem = learned(epoch=5, key=(0, step)).stem
        assert isinstance(stem, Stem)
        seen |= (stem.norm.mean[3] != 0).any(dim=1)
    assert seen.all()


def test_same_key_same_step() -> None:
    one, same, other = (gradients(learned(5, key)) for key in ((0, 1), (0, 1), (0, 2)))
    assert all(torch.equal(grad, same[name]) for name, grad in one.items())
    assert not all(torch.equal(grad, other[name]) for name, grad in one.items())


def test_bfloat16_is_close() -> None:
    exact, coarse = (
        gradients(learned(0, fitting=Fitting(bfloat16=bfloat16)))[HEAD]
        for bfloat16 in (False, True)
    )
    assert coarse.dtype == torch.float32 and not torch.equal(exact, coarse)
    assert torch.nn.functional.cosine_similarity(exact.flatten(), coarse.flatten(), 0) > 0.99
    for grad in gradients(learned(5, fitting=Fitting(bfloat16=True))).values():
        assert grad.isfinite().all()


def test_distillation_is_least_at_the_teacher() -> None:
    teacher = torch.tensor([[2.0, 0.0, -1.0]])
    at = teacher.clone().requires_grad_()
    distillation(at, teacher).backward()  # type: ignore[no-untyped-call]
    assert at.grad is not None
    torch.testing.assert_close(at.grad, torch.zeros(1, 3))
    for student in (torch.zeros(1, 3), 2 * teacher, -teacher):
        assert distillation(student, teacher) > distillation(teacher, teacher)
    chances = teacher.softmax(dim=1)
    entropy = -(chances * chances.log()).sum().item()
    assert distillation(teacher, teacher).item() == pytest.approx(entropy)
