"""Where a fit stands, on disk: enough to go on as if nothing had happened."""

from pathlib import Path

from torch.optim import SGD

from penstock.backbones.backbone import Backbone
from penstock.backbones.errors import InputError
from penstock.backbones.saving import read_tensors, write_tensors


def write_checkpoint(
    path: Path, recipe: str, backbone: Backbone, optimizer: SGD, epochs_done: int
) -> None:
    """Keep weights, momenta, the recipe that they follow and the epochs that are done."""
    tensors = {f"weights.{name}": tensor for name, tensor in backbone.state_dict().items()}
    for name, parameter in backbone.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    write_tensors(path, tensors, {"recipe": recipe, "epochs_done": str(epochs_done)})


def restore(path: Path, recipe: str, backbone: Backbone, optimizer: SGD) -> int:
    """Put weights and momenta back, and say how many epochs are done: 0 without a checkpoint.

    Raises:
        InputError: if the checkpoint is damaged, or of another recipe or backbone.
    """
    if not path.exists():
        return 0
    tensors, metadata = read_tensors(path)
    if metadata.get("recipe") != recipe:
        raise InputError(
            f"{path} was made by another recipe, seed or data: {metadata.get('recipe')}; "
            "resume with the same ones, or choose another folder"
        )
    prefix = "weights."
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    shapes = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise InputError(
            f"{path} holds the weights of another backbone than {backbone.call}; "
            "resume with the same one, or choose another folder"
        )
    backbone.load_state_dict(weights)
    for name, parameter in backbone.named_parameters():
        if f"momentum.{name}" in tensors:
            buffer = tensors[f"momentum.{name}"].to(parameter.device)
            optimizer.state[parameter]["momentum_buffer"] = buffer
    return int(metadata["epochs_done"])
