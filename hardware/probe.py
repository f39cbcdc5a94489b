"""What a link to a server carries, measured."""

from dataclasses import dataclass
from statistics import median
from typing import Final

from penstock.backbones import InputError
from penstock.hardware.remote import Remote

LEAST_S: Final = 0.05
"""A payload is doubled until it takes so much longer than none."""

FIRST_BYTES: Final = 1 << 14
MOST_BYTES: Final = 1 << 24

TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Probe:
    """Medians over the repeats."""

    rtt_s: float
    """From asking with nothing to the answer, the server's own handling included."""
    bandwidth_bps: float
    """Bits per second towards the server, what gRPC adds to them not counted."""
    payload_bytes: int
    """That the bandwidth was measured with."""


def probe(address: str, repeats: int = 9) -> Probe:
    """Measure round trip and throughput to a server of `penstock serve`.

    Args:
        address: host and port, as in "127.0.0.1:50051".
        repeats: of each measurement.

    Raises:
        InputError: if nobody answers, or the link fails on the way.
    """
    remote = Remote(address)
    most_bytes = min(MOST_BYTES, remote.network().most_bytes)
    rtt_s, payload_bytes = _median_s(remote, 0, repeats), FIRST_BYTES
    longer_s = _median_s(remote, payload_bytes, 1) - rtt_s
    while longer_s < LEAST_S and 2 * payload_bytes <= most_bytes:
        payload_bytes *= 2
        longer_s = _median_s(remote, payload_bytes, 1) - rtt_s
    longer_s = _median_s(remote, payload_bytes, repeats) - rtt_s
    return Probe(rtt_s, 8 * payload_bytes / max(longer_s, 1e-6), payload_bytes)


def _median_s(remote: Remote, payload_bytes: int, repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        taken_s = remote.echo(bytes(payload_bytes), TIMEOUT_S)
        if taken_s is None:
            raise InputError(
                f"the link to {remote.address} should carry {payload_bytes} bytes within "
                f"{TIMEOUT_S:g} s and failed; check it and probe again"
            )
        seconds.append(taken_s)
    return median(seconds)
