"""Bandwidth and round-trip time over time: several traces side by side, each repeated for ever.

Letters: `F` traces, `P` pieces of all of them, `T` pieces of one, `n` lanes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import Tensor

from penstock.backbones.errors import InputError, did_you_mean


@dataclass(frozen=True, slots=True)
class Trace:
    """What one file or one draw of a generator holds; constant between two times."""

    time_s: Tensor
    """[T + 1] rising, from 0 to its end."""
    bandwidth_bps: Tensor
    """[T] bits per second, of the uplink or of what `least_share` and `most_share` are taken of."""
    rtt_s: Tensor | None = None
    """[T] round-trip times, where they are known."""
    least_share: float = 1.0
    """The uplink of a stream is at least this share of `bandwidth_bps`."""
    most_share: float = 1.0
    from_start: bool = False
    """Whether streams begin where it begins, and not anywhere in it."""


PARTS: Final = ("train", "validation", "test")

Part = Literal["train", "validation", "test", "all"]
"""Which traces; "train" stands for those of the images' split wherever images are split."""


class Bandwidth(ABC):
    """Where traces come from: a frozen dataclass that can be hashed, since they are made once."""

    @abstractmethod
    def recordings(self) -> Sequence[Trace]:
        """The traces, one at least."""

    def at(self, part: Part) -> "Bandwidth":
        """The same with the traces for a split of the images; as it is if it tells none apart."""
        return self


def check_part(part: str) -> None:
    """Refuse a part that there is not.

    Raises:
        InputError: with the nearest name.
    """
    if part not in (*PARTS, "all"):
        raise InputError(f"traces have no part {part!r}.{did_you_mean(part, (*PARTS, 'all'))}")


STEPS: Final = 4
"""From mark to piece, before it is searched for by halves."""


@final
class Traces:
    """Recordings as one long row of pieces, so that any number of lanes is looked up at once.

    Args:
        recordings: F of them, one at least.
        floor_bps: no uplink is slower; a transfer over a trace of outages would never end.

    Raises:
        InputError: if there is no recording, or the floor is not positive.
    """

    def __init__(self, recordings: Sequence[Trace], floor_bps: float) -> None:
        if not recordings or floor_bps <= 0:
            raise InputError(
                "a link needs one trace or more and a floor above 0 bit/s, got "
                f"{len(recordings)} traces and {floor_bps:g}; give both"
            )
        clipped = [
            r.bandwidth_bps.double().clamp(min=floor_bps / r.least_share) for r in recordings
        ]
        self._bandwidth_bps = torch.cat(clipped)  # [P]
        lasted = [recording.time_s.double().diff() for recording in recordings]
        self._since_s = _summed(torch.cat(lasted))  # [P + 1]
        self._bits = _summed(self._bandwidth_bps * torch.cat(lasted))  # [P + 1]
        self._seconds, self._amounts = Edges(self._since_s), Edges(self._bits)
        ends = _summed(torch.tensor([len(each) for each in lasted])).long()
        self._start_s, self._start_bits = self._since_s[ends], self._bits[ends]  # [F + 1]
        known = [recording.rtt_s for recording in recordings if recording.rtt_s is not None]
        if known and len(known) < len(recordings):
            raise InputError(
                f"round-trip times are known for all traces or for none, got {len(known)} of "
                f"{len(recordings)}; leave rtt_s out of all"
            )
        self._rtt_s = torch.cat(known).double() if known else None  # [P]
        anywhere = [0.0 if recording.from_start else 1.0 for recording in recordings]
        self._anywhere = torch.tensor(anywhere, dtype=torch.float64)  # [F]
        shares = [(recording.least_share, recording.most_share) for recording in recordings]
        self._shares = torch.tensor(shares, dtype=torch.float64)  # [F, 2]
        self.duration_s = self._start_s.diff()
        """[F] seconds until a trace begins again."""
        self._whole = self._start_bits.diff()  # [F]
        trace = torch.bucketize(self._since_s[:-1], self._start_s[1:], right=True)
        self.slowest_bps = float((self._bandwidth_bps * self._shares[trace, 0]).min())
        """The uplink that a stream can meet at worst."""
        self.longest_rtt_s = None if self._rtt_s is None else float(self._rtt_s.max())
        """The round-trip time that a stream can meet at worst, where it is known."""

    def __len__(self) -> int:
        """F."""
        return len(self._shares)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """[n, 3]: a trace for each of n streams, the second at which it starts, and the share."""
        uniform = torch.rand(n, 3, generator=rng, dtype=torch.float64)
        trace = (uniform[:, 0] * len(self)).long()
        low, high = self._shares[trace].unbind(dim=1)
        start_s = uniform[:, 1] * self.duration_s[trace] * self._anywhere[trace]
        return torch.stack([trace.double(), start_s, low + (high - low) * uniform[:, 2]], dim=1)

    def bandwidth_bps(self, drawn: Tensor, time_s: Tensor) -> Tensor:
        """[n] bits per second of the uplink so many seconds into the streams.

        Args:
            drawn: what `draw` gave, [n, 3].
            time_s: [n].
        """
        return self._bandwidth_bps[self._seconds.piece(self._at(drawn, time_s))] * drawn[:, 2]

    def rtt_s(self, drawn: Tensor, time_s: Tensor) -> Tensor | None:
        """[n] round-trip times then, where they are known."""
        if self._rtt_s is None:
            return None
        return self._rtt_s[self._seconds.piece(self._at(drawn, time_s))]

    def transfer_s(self, drawn: Tensor, time_s: Tensor, bits: Tensor | float) -> Tensor:
        """[n] seconds that so many bits take from then on, while the bandwidth changes."""
        trace, at_s = drawn[:, 0].long(), self._at(drawn, time_s)
        first, whole = self._start_bits[trace], self._whole[trace]
        target = self._bits_until(at_s) - first + bits / drawn[:, 2]
        repeats = (target / whole).floor()
        rest = (first + target - repeats * whole).clamp(max=first + whole)
        piece = self._amounts.piece(rest)
        end_s = self._since_s[piece] + (rest - self._bits[piece]) / self._bandwidth_bps[piece]
        return (end_s - at_s + repeats * self.duration_s[trace]).clamp(min=0)

    def sent_bits(self, drawn: Tensor, time_s: Tensor, seconds: Tensor | float) -> Tensor:
        """[n] bits that leave in so many seconds from then on."""
        trace, at_s = drawn[:, 0].long(), self._at(drawn, time_s)
        start_s, duration_s = self._start_s[trace], self.duration_s[trace]
        into_s = at_s - start_s + seconds
        repeats = (into_s / duration_s).floor()
        end_s = start_s + (into_s - repeats * duration_s)
        bits = self._bits_until(end_s) - self._bits_until(at_s)
        return (bits + repeats * self._whole[trace]) * drawn[:, 2]

    def _at(self, drawn: Tensor, time_s: Tensor) -> Tensor:
        """Where on the long row of pieces the streams stand, [n] seconds."""
        trace = drawn[:, 0].long()
        return self._start_s[trace] + (drawn[:, 1] + time_s) % self.duration_s[trace]

    def _bits_until(self, at_s: Tensor) -> Tensor:
        piece = self._seconds.piece(at_s)
        return self._bits[piece] + self._bandwidth_bps[piece] * (at_s - self._since_s[piece])


@final
class Edges:
    """Where a row of pieces is cut, and the piece in which a value lies.

    A table of evenly spaced marks, four a piece, says where to begin to look: pieces of about the
    same length are found in a step or two, where a search by halves takes sixteen.

    Args:
        edges: rising, [P + 1].
    """

    def __init__(self, edges: Tensor) -> None:
        self._edges = edges
        count = 4 * (len(edges) - 1)
        self._first, self._last = float(edges[0]), count - 1
        self._per_mark = count / max(float(edges[-1] - edges[0]), 1e-300)
        marks = torch.arange(count, dtype=edges.dtype) / self._per_mark + self._first
        # A piece too early at worst, in case of rounding.
        self._begin = (torch.searchsorted(edges, marks, right=True) - 2).clamp(0, len(edges) - 2)
        self._upper = torch.cat([edges[1:-1], edges.new_full((1,), torch.inf)])

    def piece(self, value: Tensor) -> Tensor:
        """The piece of each value, [n]; beyond the ends the first or last.

        >>> Edges(torch.tensor([0.0, 1.0, 5.0])).piece(torch.tensor([0.5, 1.0, 4.9, 7.0]))
        tensor([0, 1, 1, 1])
        """
        mark = ((value - self._first) * self._per_mark).long().clamp(0, self._last)
        piece = self._begin[mark]
        for _ in range(STEPS):
            behind = value >= self._upper[piece]
            if not behind.any():
                return piece
            piece = piece + behind
        place = torch.searchsorted(self._edges, value.contiguous(), right=True) - 1
        return place.clamp(0, len(self._edges) - 2)


def constant(bandwidth_bps: float) -> Trace:
    """A link that never changes."""
    return Trace(torch.tensor([0.0, 1.0]), torch.tensor([bandwidth_bps], dtype=torch.float64))


def _summed(amounts: Tensor) -> Tensor:
    """Running totals from 0, one more than there are amounts."""
    return torch.cat([torch.zeros(1, dtype=torch.float64), amounts.double().cumsum(dim=0)])
