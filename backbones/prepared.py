"""A block under one setting as the bare list of its operations, for deployment."""

from collections.abc import Callable
from typing import Any, Final, final

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export
from torch.fx.node import map_arg

from penstock.backbones.backbone import restrict
from penstock.backbones.block import Block
from penstock.backbones.errors import InputError
from penstock.backbones.knob import Setting

Prepared = Callable[[Tensor], Tensor]
"""A block whose setting is fixed: [n, C, H, W] -> [n, C', H', W'], for any n."""

Way = Callable[[Block, Setting, tuple[int, ...]], Prepared]
"""How a block, a setting and the shape of an input become one: `prepare` or `as_it_is`."""

TRACED_LANES: Final = 1024
"""With many lanes a block folds its normalisation into its weights, which costs nothing here."""


@torch.no_grad()
def prepare(block: Block, setting: Setting, shape: tuple[int, ...]) -> Prepared:
    """What a block does to its input under a setting, all the rest computed beforehand.

    Slices of weights, rounded weights and folded normalisations do not depend on the input: they
    are computed here, once, and what remains runs without the block's Python. The result is the
    block's but for the order of sums; weights that change later are not noticed.

    Args:
        block: in evaluation mode.
        setting: numbers; knobs that the block lacks are ignored.
        shape: (C, H, W) of an input, or (columns,).

    Raises:
        InputError: if the block does what `torch.export` cannot follow.
    """
    many = torch.empty(TRACED_LANES, *shape)
    if len(shape) == 3:
        many = many.contiguous(memory_format=torch.channels_last)
    under = _Under(block, restrict(setting, block))
    try:
        bare = _bare(export(under, (many,), dynamic_shapes=({0: Dim.AUTO},)))
    except Exception as error:  # whatever the block's code raises while it is followed
        raise InputError(
            f"{block.name} should be a block that torch.export can follow, and is not "
            f"({type(error).__name__}); run the network without preparing it"
        ) from error
    run: Prepared = bare.forward
    return run


def as_it_is(block: Block, setting: Setting, shape: tuple[int, ...]) -> Prepared:
    """A block under a setting with nothing prepared: what `prepare` is compared with."""
    own = restrict(setting, block)
    return lambda x: block(x, own)


@final
class _Under(nn.Module):
    """A block whose setting is fixed."""

    def __init__(self, block: Block, setting: Setting) -> None:
        super().__init__()
        self.block, self.setting = block, setting

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x, self.setting)
        return y


def _bare(program: ExportedProgram) -> fx.GraphModule:
    """The operations that depend on the input; the others are performed now."""
    kept = {**program.constants, **program.state_dict}
    named = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    known: dict[fx.Node, Any] = {}  # what does not depend on the input
    bare: dict[fx.Node, fx.Node] = {}  # the others, and where they are in the graph that is made
    graph = fx.Graph()
    constants: dict[str, Tensor] = {}

    def operand(node: fx.Node) -> Any:
        if node not in bare:
            value = known[node]
            if not isinstance(value, Tensor):
                return value
            if value.dim() == 4:  # as the activations lie in memory
                value = value.contiguous(memory_format=torch.channels_last)
            constants[node.name] = value
            bare[node] = graph.get_attr(node.name)
        return bare[node]

    for node in program.graph.nodes:
        if node.op == "placeholder":
            if named[node.name] is None:
                bare[node] = graph.placeholder(node.name)
            else:
                known[node] = kept[named[node.name]].detach()
        elif node.op == "output":
            ((result,),) = node.args
            graph.output(operand(result))
        elif all(inner in known for inner in node.all_input_nodes):
            known[node] = node.target(
                *map_arg(node.args, known.__getitem__), **map_arg(node.kwargs, known.__getitem__)
            )
        else:
            bare[node] = graph.node_copy(node, operand)
    return fx.GraphModule(constants, graph)
