"""A Stable-Baselines3 model on disk: safetensors, nothing that could run code when it is read."""

from pathlib import Path

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from penstock.agents.learner import Learner
from penstock.agents.prices import BudgetPrices
from penstock.backbones import InputError
from penstock.backbones.saving import read_tensors, write_tensors


def save_model(
    model: BaseAlgorithm, path: Path, learner: Learner, prices: BudgetPrices | None = None
) -> None:
    """Keep weights, optimiser, counters, prices and the source of randomness."""
    tensors: dict[str, Tensor] = {
        f"weights.{name}": tensor for name, tensor in model.policy.state_dict().items()
    }
    for index, entries in model.policy.optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    if prices is not None:
        tensors |= {f"prices.{name}": tensor for name, tensor in prices.state().items()}
    tensors["random.torch"] = torch.get_rng_state()
    counters = {"steps": str(model.num_timesteps), "updates": str(model._n_updates)}
    write_tensors(path, tensors, {"algorithm": learner.algorithm, **counters})


def restore_model(
    model: BaseAlgorithm, path: Path, learner: Learner, prices: BudgetPrices | None = None
) -> None:
    """Put weights, optimiser, counters and prices back; a replay buffer starts empty."""
    tensors, metadata = read_tensors(path)
    if metadata.get("algorithm") != learner.algorithm:
        raise InputError(
            f"{path} holds a {metadata.get('algorithm')} policy, the experiment says "
            f"{learner.algorithm}; use the experiment that it was trained with"
        )
    weights = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith("weights.")}
    shapes = {name: tensor.shape for name, tensor in model.policy.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise InputError(
            f"{path} was trained with other observations, actions or hidden layers than this "
            "experiment gives; use the experiment and machine that it was trained with"
        )
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name} in {path} holds NaN or infinity; train the policy again")
    model.policy.load_state_dict(weights)
    if prices is not None:
        known = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith("prices.")}
        prices.restore(known)
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer = model.policy.optimizer
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    model.num_timesteps, model._n_updates = int(metadata["steps"]), int(metadata["updates"])
    torch.set_rng_state(tensors["random.torch"])
