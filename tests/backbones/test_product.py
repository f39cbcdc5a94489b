import pytest
import torch
from torch import Tensor, nn

from penstock.backbones import (
    Backbone,
    Block,
    InputError,
    Product,
    Setting,
    matrices,
    run_block,
    tiny_resnet,
    work,
)
from penstock.backbones.resnet import BasicBlock, Head, Stem


class Plain(Block):
    """Layers that know nothing of Penstock."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 3)

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        y = self.norm(self.convolution(x)).relu().mean(dim=(2, 3))
        z: Tensor = self.linear(y)
        return z


class Depthwise(Block):
    """Every channel by itself, then tokens: the features of a linear layer lie last."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.linear = nn.Linear(6, 5)

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        tokens = self.convolution(x).flatten(2).transpose(1, 2)
        z: Tensor = self.linear(tokens).mean(dim=1)
        return z


class Series(Block):
    """A convolution over time."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(2, 4, 3, stride=2, padding=1)

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        y: Tensor = self.convolution(x)
        return y


class Widened(Block):
    """What machines cannot perform: products with weights that torch has ways of its own for."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer: nn.Module
        if kind == "attention":
            self.layer = nn.MultiheadAttention(6, 2, batch_first=True)
        elif kind == "gru":
            self.layer = nn.GRUCell(6, 6)
        else:
            self.layer = nn.ConvTranspose1d(6, 6, 3)
        self.kind, self.weight = kind, nn.Parameter(torch.rand(6, 6))

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        y: Tensor
        match self.kind:
            case "attention":
                y = self.layer(x, x, x)[0]
            case "gru":
                y = self.layer(x[:, 0])
            case "matmul":
                y = x @ self.weight
            case "transposed":
                y = x @ self.weight.T
            case "part":
                y = torch.matmul(x, other=self.weight[:, :5])
            case "tensordot":
                y = torch.tensordot(x, self.weight.t(), dims=1)
            case "einsum":
                y = torch.einsum("nti,oi->nto", x, self.weight)
            case _:
                y = self.layer(x)
        return y


@pytest.fixture
def network() -> Backbone:
    torch.manual_seed(0)
    return tiny_resnet(blocks_per_stage=2).eval()


KINDS = [
    (Stem(1, 4, pool=True), (1, 8, 8)),
    (BasicBlock(4, 4, stride=1), (4, 6, 6)),
    (BasicBlock(4, 8, stride=2), (4, 6, 6)),
    (Head(4, 10), (4, 3, 3)),
    (Plain(), (2, 6, 6)),
    (Depthwise(), (6, 4, 4)),
    (Series(), (2, 9)),
]


@pytest.mark.parametrize(("block", "shape"), KINDS, ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("bits", [8, 32])
def test_exact_products_change_no_bit(
    block: Block, shape: tuple[int, ...], grad: bool, bits: int
) -> None:
    setting = {"bits": bits} if block.knobs else {}
    x = torch.rand(3, *shape)
    with torch.set_grad_enabled(grad):
        block.eval()
        assert torch.equal(run_block(block, x, setting, lambda p: p.exact()), block(x, setting))


@pytest.mark.parametrize(("block", "shape"), KINDS, ids=lambda k: type(k).__name__)
def test_finishing_the_raw_sums_gives_the_same(block: Block, shape: tuple[int, ...]) -> None:
    x = torch.rand(3, *shape)
    with torch.no_grad():
        block.eval()
        y = run_block(block, x, {}, lambda product: product.finish(product.raw()))
        torch.testing.assert_close(y, block(x, {}), atol=1e-5, rtol=1e-5)


def test_products_are_named_by_their_place_in_the_network(network: Backbone) -> None:
    names: list[str] = []

    def note(product: Product) -> Tensor:
        names.append(product.name)
        return product.exact()

    network.answers(
        torch.rand(2, 1, 8, 8), run=lambda block, x, setting: run_block(block, x, setting, note)
    )
    assert names[:4] == [
        "stem.convolution",
        "blocks.0.first",
        "blocks.0.second",
        "blocks.1.first",
    ]
    assert names[-1] == "exits.5.linear"
    assert len(names) == len(set(names)) == 1 + 6 * 2 + 2 + 3


def test_plain_layers_are_performed_too() -> None:
    names: list[str] = []

    def note(product: Product) -> Tensor:
        names.append(product.name)
        return product.exact()

    run_block(Plain().eval(), torch.rand(2, 2, 6, 6), {}, note)
    assert names == ["block.convolution", "block.linear"]


@pytest.mark.parametrize(
    "kind",
    "attention gru matmul transposed part tensordot einsum conv_transpose1d".split(),
)
@pytest.mark.parametrize("grad", [False, True])
def test_weights_in_any_other_product_are_refused(kind: str, grad: bool) -> None:
    block, x = Widened(kind).eval(), torch.rand(2, 6, 6)
    with (
        torch.set_grad_enabled(grad),
        pytest.raises(InputError, match=r"linear layers and of conv.* in block; write .* nn"),
    ):
        run_block(block, x, {}, lambda product: product.exact())


class Twice(Block):
    """A layer that is used twice, parts of a layer, and weights that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.sliced = nn.Linear(4, 4), nn.Linear(4, 8)
        self.scaled = nn.Linear(4, 4)

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        y: Tensor = self.shared(self.shared(x).relu())
        y = nn.functional.linear(y, self.sliced.weight[:4]).relu()
        for factor in (2, 3):
            y = nn.functional.linear(y, factor * self.scaled.weight)
        return y


def test_no_two_products_have_one_name() -> None:
    names: list[str] = []

    def note(product: Product) -> Tensor:
        names.append(product.name)
        return product.exact()

    block = Twice().eval()
    for _ in range(2):
        names.clear()
        run_block(block, torch.rand(2, 4), {}, note)
        expected = ["block.shared", "block.shared#2", "block.sliced", "block", "block#2"]
        assert names == expected


def test_a_skipped_block_has_no_product() -> None:
    def never(product: Product) -> Tensor:
        raise AssertionError(product.name)

    x = torch.rand(2, 4, 6, 6)
    assert run_block(BasicBlock(4, 4, stride=1), x, {"run": 0}, never) is x


def test_operands_are_whole_multiples_of_their_step() -> None:
    seen: list[Product] = []

    def note(product: Product) -> Tensor:
        seen.append(product)
        return product.exact()

    block = BasicBlock(4, 4, stride=1).eval()
    with torch.no_grad():
        run_block(block, torch.rand(2, 4, 6, 6), {"bits": 8, "width": 0.5}, note)
    for product in seen:
        for operand in (product.x, product.weight):
            assert operand.step is not None
            codes = operand.values / operand.step
            torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
            low, high = (-127, 127) if operand.signed else (0, 255)
            assert low <= codes.min().round() and codes.max().round() <= high
    assert [p.weight.values.shape[:2] for p in seen] == [(2, 4), (4, 2)]


def test_gradients_flow_through_a_disturbed_product() -> None:
    block = BasicBlock(4, 4, stride=1).train()
    y = run_block(
        block,
        torch.rand(2, 4, 6, 6),
        {},
        lambda p: p.with_values(weight=p.weight.values + 0.1).exact() + 1.0,
    )
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert block.first.weight.grad is not None
    assert block.first.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("block", "shape"), KINDS, ids=lambda k: type(k).__name__)
def test_matrices_add_up_to_the_work(block: Block, shape: tuple[int, ...]) -> None:
    found, asked = matrices(block, {}, shape), work(block, {}, shape)
    assert sum(m.macs for m in found) == asked.macs
    assert sum(m.rows * m.columns for m in found) * 4 == asked.weight_bytes
    assert sum(m.inputs for m in found) * 4 == asked.input_bytes
    assert sum(m.outputs for m in found) * 4 == asked.output_bytes


def test_matrix_by_hand() -> None:
    # 4 channels of 3x3 taps in, 8 out; 6x6 pixels become 3x3.
    first = matrices(BasicBlock(4, 8, stride=2), {"bits": 8}, (4, 6, 6))[0]
    assert (first.rows, first.columns, first.vectors, first.taps) == (36, 8, 9, 9)
    assert (first.inputs, first.weight_bits, first.activation_bits) == (144, 8, 8)
