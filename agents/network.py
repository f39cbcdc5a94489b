"""A learned policy as the plain layers that it consists of, read without what it was learned by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from penstock.backbones import InputError
from penstock.backbones.saving import read_tensors
from penstock.envs.actions import legal


@final
@dataclass(frozen=True)
class PolicyNetwork:
    """A multilayer perceptron from observations to choices, asked deterministically.

    Letters: `n` lanes, `F` columns, `K` knobs, `T` their choices, `J` combinations of choices.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Weight [out, in] and bias [out] of each."""
    algorithm: str
    """What learned it: PPO's has an output a choice, DQN's one a combination."""

    def choose(self, observation: Tensor, allowed: Tensor, sizes: Sequence[int]) -> Tensor:
        """An index per knob, [n, K]: what the engine makes of this policy's action.

        Args:
            observation: [n, F].
            allowed: the choices of all knobs side by side, [n, T] bool.
            sizes: how many choices each knob has, T in all.
        """
        scores = self._scores(observation)
        if self.algorithm == "maskable_ppo":
            # Of choices that are allowed the best is legal.
            return _best(scores.masked_fill(~allowed, -torch.inf), sizes)
        if self.algorithm == "ppo":
            return legal(_best(scores, sizes), allowed, sizes)
        together = torch.unravel_index(scores.argmax(dim=1), tuple(sizes))
        return legal(torch.stack(together, dim=1), allowed, sizes)

    def _scores(self, x: Tensor) -> Tensor:
        """[n, F] -> [n, T] or [n, J]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = functional.linear(x, *layer)
            x = x.relu_() if self.algorithm == "dqn" else x.tanh_()
        return functional.linear(x, *last)


def read_network(path: Path) -> PolicyNetwork:
    """The policy in a run's `policy.safetensors`.

    Raises:
        InputError: if there is no whole file of that kind.
    """
    tensors, metadata = read_tensors(path)
    algorithm = metadata.get("algorithm", "")
    hidden = "weights.q_net.q_net." if algorithm == "dqn" else "weights.mlp_extractor.policy_net."
    names = {name.removesuffix(".weight") for name in tensors if name.endswith(".weight")}
    layers = sorted(
        (name for name in names if name.startswith(hidden)),
        key=lambda name: int(name.removeprefix(hidden)),
    )
    layers += ["weights.action_net"] * (algorithm != "dqn")
    try:
        pairs = tuple((tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in layers)
    except KeyError as error:
        raise InputError(
            f"{path} should hold a policy with {error}, and does not; make it with penstock train"
        ) from error
    return PolicyNetwork(pairs, algorithm)


def _best(scores: Tensor, sizes: Sequence[int]) -> Tensor:
    """The index of each knob's highest score: [n, T] -> [n, K]."""
    parts: Sequence[Tensor] = torch.split_with_sizes(scores, list(sizes), dim=1)
    return torch.stack([part.argmax(dim=1) for part in parts], dim=1)
