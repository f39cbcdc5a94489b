"""A learned policy as the plain layers that it consists of, read without what it was learned by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from penstock.backbones import InputError
from penstock.backbones.saving import read_tensors
from penstock.envs.actions import legal

Choose = Callable[[Tensor], Tensor]
"""Observations [n, F] -> an index per knob, [n, K]."""


@final
@dataclass(frozen=True)
class PolicyNetwork:
    """A multilayer perceptron from observations to choices, asked deterministically.

    Letters: `n` lanes, `F` columns, `H` units, `K` knobs, `T` their choices, `J` combinations of
    choices.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Weight [out, in] and bias [out] of each."""
    algorithm: str
    """What learned it: PPO's has an output a choice, DQN's one a combination."""

    def chooser(self, allowed: Tensor, sizes: Sequence[int]) -> Choose:
        """What the engine makes of this policy's actions, where some choices are allowed.

        Args:
            allowed: the choices of all knobs side by side, [T] bool.
            sizes: how many choices each knob has, T in all.
        """
        if self.algorithm == "dqn":

            def combined(observation: Tensor) -> Tensor:
                together = torch.unravel_index(self._scores(observation).argmax(1), tuple(sizes))
                return legal(torch.stack(together, dim=1), allowed.unsqueeze(0), sizes)

            return combined
        # Of choices that are allowed the best is legal. Knobs with fewer choices than others get
        # some that are never the best, so that one operation finds those of all knobs.
        masked = self.algorithm == "maskable_ppo"
        offered = allowed if masked else torch.ones_like(allowed)
        (weight, bias), knobs, most = self.layers[-1], len(sizes), max(sizes)
        real = torch.arange(most) < torch.tensor(sizes).unsqueeze(1)  # [K, most]
        wide = weight.new_zeros(knobs, most, weight.shape[1])
        base = bias.new_full((knobs, most), -torch.inf)
        wide[real], base[real] = weight, bias.masked_fill(~offered, -torch.inf)
        wide, base = wide.flatten(0, 1), base.flatten()

        def best(observation: Tensor) -> Tensor:
            scores = functional.linear(self._hidden(observation), wide, base)
            return scores.view(-1, knobs, most).argmax(dim=2)

        return best if masked else lambda seen: legal(best(seen), allowed.unsqueeze(0), sizes)

    def _hidden(self, x: Tensor) -> Tensor:
        """What the last layer gets, [n, F] -> [n, H]."""
        for layer in self.layers[:-1]:
            x = functional.linear(x, *layer)
            x = x.relu_() if self.algorithm == "dqn" else x.tanh_()
        return x

    def _scores(self, x: Tensor) -> Tensor:
        """[n, F] -> [n, T] or [n, J]."""
        return functional.linear(self._hidden(x), *self.layers[-1])


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
