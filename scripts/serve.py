"""`penstock serve`: host the far half of a split network, or probe the link to one."""

import signal
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Event

import torch

from penstock.backbones import Backbone, InputError
from penstock.hardware.probe import probe
from penstock.hardware.server import MIB, FarHalf, Socket
from penstock.scripts.run import open_backbone

MOST_MIB = 2047
"""gRPC keeps the limit of a message in 32 bits."""


@dataclass(frozen=True)
class Arguments:
    """Host the far half of a split network, or probe the link to one."""

    backbone: str = "cifar10"
    """A backbone that ships, or a .safetensors file."""
    trust: tuple[str, ...] = ()
    """Modules beside Penstock's own whose functions a file may call to build its network."""
    host: str = "127.0.0.1"
    """Address to listen on. Whoever reaches it may ask: nothing is encrypted or authenticated."""
    port: int = 50051
    """0 takes a free one and prints it."""
    device: str = "cpu"
    """Where the network runs, as in "cuda"."""
    most_mib: int = 64
    """Largest message that is taken, in MiB."""
    probe: str | None = None
    """HOST:PORT of a server: do not serve, but measure round trip and throughput to it."""


def run(arguments: Arguments) -> None:
    """Serve until SIGINT or SIGTERM, or probe."""
    if arguments.probe is not None:
        found = probe(arguments.probe)
        print(f"rtt_s = {found.rtt_s:.6f}")
        print(f"bandwidth_bps = {found.bandwidth_bps:.4g}  # {found.payload_bytes} bytes at once")
        return
    half = FarHalf(_network(arguments), arguments.most_mib * MIB)
    socket, stop = Socket(half, arguments.host, arguments.port), Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print(
        f"serving {arguments.backbone} (network {half.network.fingerprint[:12]}) on "
        f"{arguments.host}:{socket.port}; stop with Ctrl-C",
        flush=True,
    )
    if not _loopback(arguments.host):
        print(
            f"penstock: whoever reaches {arguments.host}:{socket.port} may ask, unencrypted; keep "
            "it within a network that you trust",
            file=sys.stderr,
            flush=True,
        )
    stop.wait()
    socket.close()
    print("stopped")


def _network(arguments: Arguments) -> Backbone:
    if not 0 <= arguments.port < 1 << 16 or not 1 <= arguments.most_mib <= MOST_MIB:
        raise InputError(
            f"a port lies from 0 to 65535 and most_mib from 1 to {MOST_MIB}, got "
            f"{arguments.port} and {arguments.most_mib}; correct them"
        )
    backbone = open_backbone(arguments.backbone, arguments.trust)
    try:
        device = torch.device(arguments.device)
        if device.type == "meta":
            raise RuntimeError("numbers on it are not there")
        return backbone.to(device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise InputError(
            f"device {arguments.device!r} should be one of torch's that is here, but: {error}"
        ) from error


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
