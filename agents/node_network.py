"""A perceptron that is asked at nodes of a tree of decisions.

Letters: `n` rows, `V` nodes, `C` columns of what is given, `O` outputs.
"""

from typing import final

from torch import Tensor, nn


@final
class NodeNetwork(nn.Module):
    """Two hidden layers, each of which is told the node.

        z1 = relu(W1 x + node1[node]),   z2 = relu(W2 z1 + node2[node]),   output = W3 z2 + b3

    Nodes enter by one-hot vectors, whose products with weights are rows of a table, at first 0.

    Args:
        nodes: V.
        columns: C.
        outputs: O.
        hidden: units of each layer.
    """

    def __init__(self, nodes: int, columns: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(columns, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, outputs)
        self.places = nn.ModuleList(nn.Embedding(nodes, hidden) for _ in range(2))
        for place in self.places:
            nn.init.zeros_(place.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, node: Tensor) -> Tensor:
        """What is given [n, C] at nodes [n] -> [n, O]."""
        first, second = (place(node) for place in self.places)
        z: Tensor = (self.first(x) + first).relu()
        output: Tensor = self.third((self.second(z) + second).relu())
        return output


def copied(model: nn.Module) -> dict[str, Tensor]:
    """Its weights as they are now, whatever becomes of it."""
    return {name: value.clone() for name, value in model.state_dict().items()}
