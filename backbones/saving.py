"""Weights on disk as safetensors, with the call that builds the network in the metadata."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from penstock.backbones.backbone import Backbone, Call
from penstock.backbones.errors import InputError, did_you_mean


def build(call: Call) -> Backbone:
    """The backbone that a call describes, with fresh weights.

    Raises:
        InputError: if the builder cannot be found, does not take the arguments, or builds
            something else.
    """
    try:
        builder = resolve_name(call.builder)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f'a backbone\'s builder is named "module:function", got {call.builder!r} ({error}); '
            "check the spelling and that the module can be imported"
        ) from error
    try:
        backbone = builder(**call.arguments)
    except TypeError as error:
        raise InputError(
            f"the builder {call.builder!r} does not take {dict(call.arguments)}: {error}"
        ) from error
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"the builder {call.builder!r} should return a Backbone, got {type(backbone).__name__}"
        )
    return backbone


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file whole or not at all: beside it first, then in its place.

    Raises:
        InputError: if it cannot be written there; what was there before stays.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.touch()
            usual = beside.stat().st_mode  # safetensors lets nobody but the owner read
            save_file(plain, beside, metadata=dict(metadata))
            beside.chmod(usual)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} should be a file that can be written, but writing it says: {error}; "
            "choose another place or make room"
        ) from error


def read_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        InputError: if there is no such file, or it is cut off or damaged.
    """
    if not Path(path).is_file():
        raise InputError(f"expected a safetensors file at {path}, found none; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} should be a whole safetensors file, but reading it says: {error}; "
            "it is cut off or damaged, copy or make it again"
        ) from error


def save(backbone: Backbone, path: Path | str, *, half: bool = False) -> None:
    """Write a backbone that `load` gives back.

    Args:
        backbone: one that knows the call it was built with.
        path: the file to write.
        half: store half the bytes: parameters as float16, which rounds each to 11 significant
            bits, and statistics as bfloat16, 8 bits, as a variance or a step may lie outside
            float16's range.

    Raises:
        ValueError: if the backbone's `call` is None.
    """
    if backbone.call is None:
        raise ValueError("a backbone is saved with its Call, got None; pass call= to Backbone")
    tensors = backbone.state_dict()
    if half:
        tensors |= {name: parameter.half() for name, parameter in backbone.named_parameters()}
        tensors |= {name: buffer.bfloat16() for name, buffer in backbone.named_buffers()}
    arguments = json.dumps(dict(backbone.call.arguments))
    write_tensors(path, tensors, {"builder": backbone.call.builder, "arguments": arguments})


def load(path: Path | str, *, trusted: tuple[str, ...] = ("penstock.backbones",)) -> Backbone:
    """The backbone in a file, in evaluation mode, as float32.

    Args:
        path: a file that `save` wrote.
        trusted: modules whose functions a file may call; name your own to load your own.

    Raises:
        InputError: if the file is missing, damaged, of an untrusted builder, does not fit the
            network, or holds a number that is not finite.
    """
    tensors, metadata = read_tensors(path)
    call = _call(path, metadata)
    module, _, function = call.builder.partition(":")
    # With a dot in it, "penstock.backbones:saving.os.system" would leave the trusted module.
    if module not in trusted or not function.isidentifier():
        raise InputError(
            f"{path} wants to be built by {call.builder!r}, and only functions of "
            f"{', '.join(trusted)} are trusted here; name that module as trusted if it is yours"
        )
    backbone = build(call)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(
                f"weights should be finite, {name} in {path} holds NaN or infinity; fit it again"
            )
    expected = backbone.state_dict()
    wrong = [k for k in expected if k not in tensors or tensors[k].shape != expected[k].shape]
    if wrong or len(tensors) != len(expected):
        raise InputError(
            f"{path} does not hold the weights of {call.builder}({dict(call.arguments)}): "
            f"{len(tensors)} tensors for {len(expected)}, first that differs: "
            f"{(wrong or sorted(set(tensors) - set(expected)))[0]}"
        )
    backbone.load_state_dict({k: tensors[k].to(v.dtype) for k, v in expected.items()})
    return backbone.eval()


def _call(path: Path | str, metadata: Mapping[str, str]) -> Call:
    try:
        call = Call(metadata["builder"], json.loads(metadata["arguments"]))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} should name its builder and arguments in the metadata, got "
            f"{dict(metadata)}; write it with penstock.backbones.save"
        ) from error
    if not isinstance(call.arguments, dict):
        raise InputError(
            f"{path} should name the builder's arguments as a JSON object, got "
            f"{metadata['arguments']}; write it with penstock.backbones.save"
        )
    return call


def shipped(name: str) -> Backbone:
    """A fitted backbone that comes with Penstock, by name.

    It was fitted on the training images of seed 0: with `load_data("digits", seed=1)` some of its
    own images would stand among the test images.

    Raises:
        InputError: if there is none of that name.
    """
    folder = Path(__file__).parent / "weights"
    known = sorted(path.stem for path in folder.glob("*.safetensors"))
    if name not in known:
        raise InputError(f"no backbone named {name!r} ships here.{did_you_mean(name, known)}")
    return load(folder / f"{name}.safetensors")
