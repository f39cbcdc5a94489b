"""What a device and the server of its far half say to each other: safetensors, and words in JSON.

Nothing that is read can run code. Letters: `n` lanes, `E` heads of the network.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from penstock.backbones import InputError, Setting
from penstock.hardware.features import FLOAT_BITS, Coded, check_bits
from penstock.hardware.fingerprint import digest

VERSION: Final = 1
"""Of these messages; both sides refuse another."""

GREETING: Final = "/penstock.Far/greet"
"""No request -> `Network`."""
ASKING: Final = "/penstock.Far/answer"
"""`Question` -> `Answer`."""
ECHOING: Final = "/penstock.Far/echo"
"""Anything -> nothing: how long that takes is what a probe wants to know."""

MOST_CODES: Final = 1 << 26
"""In one question, as codes of few bits are unpacked to many bytes."""


@dataclass(frozen=True, slots=True)
class Network:
    """What a server runs."""

    blocks: Mapping[str, str]
    """Name -> fingerprint, of stem, blocks and heads."""
    heads: tuple[str, ...]
    """Names of the E heads, in the order of answers."""
    classes: int
    most_bytes: int
    """Of a message that it takes."""

    @property
    def fingerprint(self) -> str:
        """Of the whole network."""
        return digest(f"{name} {each}".encode() for name, each in sorted(self.blocks.items()))

    def to_bytes(self) -> bytes:
        """As a message."""
        words = {
            "blocks": dict(self.blocks),
            "heads": list(self.heads),
            "classes": self.classes,
            "most_bytes": self.most_bytes,
        }
        return _message({}, words)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Network":
        """From a message.

        Raises:
            InputError: if it is none.
        """
        _, words = _read(data)
        try:
            blocks = {str(name): str(each) for name, each in dict(words["blocks"]).items()}
            heads = tuple(map(str, words["heads"]))
            return cls(blocks, heads, int(words["classes"]), int(words["most_bytes"]))
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"a greeting lacks something, or holds what it should not: {error!r}"
            ) from error


@dataclass(frozen=True, slots=True)
class Question:
    """Features that leave, and what is to be done with them."""

    network: str
    """Fingerprint of the network that they belong to."""
    block: str
    """The first that runs there."""
    coded: Coded
    setting: Mapping[str, float]
    """For all that runs there."""

    def to_bytes(self) -> bytes:
        """As a message."""
        coded = self.coded
        codes = coded.codes.cpu()
        tensors = {"codes": codes if coded.bits >= 8 else _pack(codes, coded.bits)}
        if coded.bits != FLOAT_BITS:
            tensors |= {"low": coded.low.cpu(), "step": coded.step.cpu()}
        # With the same layout in memory both sides run the same kernels, to the last bit.
        last = codes.dim() == 4 and codes.is_contiguous(memory_format=torch.channels_last)
        words = {
            "network": self.network,
            "block": self.block,
            "setting": dict(self.setting),
            "bits": coded.bits,
            "shape": list(codes.shape),
            "channels_last": last,
        }
        return _message(tensors, words)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Question":
        """From a message.

        Raises:
            InputError: if it is none.
        """
        tensors, words = _read(data)
        try:
            return cls(str(words["network"]), str(words["block"]), *_features(tensors, words))
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise InputError(
                f"a question lacks something, or holds what it should not: {error!r}"
            ) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What the heads say."""

    logits: Tensor
    """[n, E, classes]; 0 for heads before the block at which the features came."""

    def to_bytes(self) -> bytes:
        """As a message."""
        return _message({"logits": self.logits.cpu()}, {})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Answer":
        """From a message.

        Raises:
            InputError: if it is none.
        """
        tensors, _ = _read(data)
        if "logits" not in tensors:
            raise InputError(f"an answer holds logits, got {sorted(tensors) or 'nothing'}")
        return cls(tensors["logits"])


def numbers(setting: Setting) -> dict[str, float]:
    """A setting that can be sent.

    Raises:
        ValueError: if it holds a mask.
    """
    if any(isinstance(value, Tensor) for value in setting.values()):
        raise ValueError("a server runs settings of numbers, got a mask; pass one choice")
    return {name: float(value) for name, value in setting.items()}


def _features(
    tensors: Mapping[str, Tensor], words: Mapping[str, Any]
) -> tuple[Coded, dict[str, float]]:
    """What a question holds; whatever is wrong with it raises."""
    bits, shape = int(words["bits"]), tuple(map(int, words["shape"]))
    check_bits(bits)
    codes = tensors["codes"] if bits >= 8 else _unpack(tensors["codes"], bits, shape)
    grid = (len(codes), *[1] * (codes.dim() - 1))
    low, step = tensors.get("low", torch.zeros(grid)), tensors.get("step", torch.ones(grid))
    kind = torch.float32 if bits == FLOAT_BITS else torch.uint8
    if codes.shape != shape or codes.dtype != kind or len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"codes {tuple(codes.shape)} of {codes.dtype} for {shape} at {bits} bits")
    if {low.shape, step.shape} != {grid} or {low.dtype, step.dtype} != {torch.float32}:
        raise ValueError(f"grids {tuple(low.shape)} and {tuple(step.shape)} for {shape}")
    if words["channels_last"] and codes.dim() == 4:
        codes = codes.contiguous(memory_format=torch.channels_last)
    setting = {str(name): float(value) for name, value in dict(words["setting"]).items()}
    return Coded(codes, low, step, bits), setting


def _message(tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> bytes:
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    return save(plain, {"penstock": json.dumps({"version": VERSION, **words})})


def _read(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        tensors = load(data)
        # The header, in JSON behind its length, is not given by the library; it was checked by it.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        words = json.loads(header["__metadata__"]["penstock"])
        version = words["version"]
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"expected a message of penstock, got something else: {error}") from error
    if version != VERSION:
        raise InputError(
            f"device and server speak version {VERSION} and {version} of penstock's messages; "
            "install the same release on both"
        )
    return tensors, words


def _pack(codes: Tensor, bits: int) -> Tensor:
    """Codes of less than 8 bits one behind the other, as bytes."""
    planes = np.unpackbits(codes.contiguous().numpy().reshape(-1, 1), axis=1)[:, 8 - bits :]
    return torch.from_numpy(np.packbits(planes))


def _unpack(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    count = prod(shape)
    right = packed.dtype == torch.uint8 and packed.shape == (-(-count * bits // 8),)
    if not right or min(shape) < 1 or count > MOST_CODES:
        raise ValueError(f"{tuple(packed.shape)} {packed.dtype} for codes {shape} of {bits} bits")
    planes = np.unpackbits(packed.numpy(), count=count * bits).reshape(count, bits)
    whole = np.pad(planes, ((0, 0), (8 - bits, 0)))
    return torch.from_numpy(np.packbits(whole, axis=1)).view(shape)
