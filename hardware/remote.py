"""The far half of a split network on a real server, asked over gRPC.

gRPC is imported where a connection is made, in this file and in `server`.
"""

from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any, Final, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from penstock.backbones import Block, InputError, Setting
from penstock.hardware.features import Coded
from penstock.hardware.fingerprint import fingerprint
from penstock.hardware.wire import (
    ASKING,
    ECHOING,
    GREETING,
    Answer,
    Network,
    Question,
    numbers,
)

GREETING_S: Final = 10.0
"""Seconds in which a server must have said who it is."""

REFUSALS: Final = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED")
"""Answers that trying again would not change; all others mean that link or server failed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question."""

    logits: Tensor | None
    """[n, E, classes], or None if the link or the server failed."""
    seconds: float
    """From before the features were packed until the answer was read, measured."""


@final
@dataclass(frozen=True)
class Remote:
    """A server started by `penstock serve`, as the far half of a `Split`.

    It runs everything behind the block at which the features arrive, with the setting given then.
    The connection is made at the first question, once in a process, and again after it broke.
    """

    address: str
    """Host and port, as in "127.0.0.1:50051"."""

    def network(self) -> Network:
        """What the server runs; asked once in a process.

        Raises:
            InputError: if nobody answers, or it is no server of ours.
        """
        return _network(self.address)

    def check(self, block: Block) -> None:
        """Refuse a server with other weights than a block has here.

        Raises:
            InputError: if it does.
        """
        served = self.network().blocks.get(block.name)
        if served is None or served != fingerprint(block):
            _network.cache_clear()  # the next to ask may find another server there
            other = "has no such block" if served is None else f"has fingerprint {served[:12]}"
            raise InputError(
                f"the server at {self.address} should run the same network, but {block.name} has "
                f"fingerprint {fingerprint(block)[:12]} here and the server {other}; start it with "
                "the same weights"
            )

    def ask(self, block: Block, coded: Coded, setting: Setting, timeout_s: float) -> Reply:
        """Send features, wait for what every head behind says.

        Args:
            block: the first that runs there.
            coded: its input.
            setting: for all that runs there; names that the network lacks are ignored.
            timeout_s: seconds until it is given up.

        Raises:
            InputError: if the server refuses, or answers what was not asked.
        """
        self.check(block)
        began, network = perf_counter(), self.network()
        question = Question(network.fingerprint, block.name, coded, numbers(setting)).to_bytes()
        if len(question) > network.most_bytes:
            raise InputError(
                f"the server at {self.address} takes messages of {network.most_bytes} bytes, got "
                f"features of {len(question)}; send fewer lanes at once, or start it with a higher "
                "--most-mib"
            )
        data = self.call(ASKING, question, timeout_s)
        logits = None if data is None else Answer.from_bytes(data).logits
        seconds = perf_counter() - began
        expected = (len(coded.codes), len(network.heads), network.classes)
        if logits is not None and (
            tuple(logits.shape) != expected or not logits.is_floating_point()
        ):
            raise InputError(
                f"the server at {self.address} should answer with logits {expected}, got "
                f"{tuple(logits.shape)} of {logits.dtype}; install the same release on both sides"
            )
        return Reply(logits, seconds)

    def echo(self, payload: bytes, timeout_s: float) -> float | None:
        """Seconds until a payload has arrived and that is known here; None if it failed."""
        began = perf_counter()
        data = self.call(ECHOING, payload, timeout_s)
        return None if data is None else perf_counter() - began

    def call(self, method: str, message: bytes, timeout_s: float) -> bytes | None:
        """One exchange; None if the link or the server failed.

        Raises:
            InputError: if the server refuses.
        """
        import grpc

        try:
            data: bytes = _channel(self.address).unary_unary(method)(message, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code().name in REFUSALS:
                _network.cache_clear()
                raise InputError(
                    f"the server at {self.address} refuses: {error.details()}"
                ) from None
            return None
        return data


_shapes: WeakKeyDictionary[Block, dict[tuple[int, ...], tuple[int, ...]]] = WeakKeyDictionary()


def placeholder(block: Block, x: Tensor) -> Tensor:
    """Zeros [n, ...] of the shape that a block gives, for what was computed elsewhere."""
    known = _shapes.setdefault(block, {})
    shape = tuple(x.shape[1:])
    if shape not in known:
        with torch.no_grad():
            known[shape] = tuple(block(x.new_zeros(1, *shape), {}).shape[1:])
    return x.new_zeros(len(x), *known[shape])


@cache
def _network(address: str) -> Network:
    data = Remote(address).call(GREETING, b"", GREETING_S)
    if data is None:
        raise InputError(
            f"expected a server at {address}, and none answers; start one with penstock serve, or "
            "correct the address"
        )
    return Network.from_bytes(data)


@cache
def _channel(address: str) -> Any:
    import grpc

    # A proxy of the web would not know the way; a lost server is looked for every second.
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.max_receive_message_length", -1),
    ]
    return grpc.insecure_channel(address, options=options)
