"""Traces from files: measured bandwidth, split into training, validation and test by file."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path
from typing import Final, final

import torch

from penstock.backbones.errors import InputError
from penstock.hardware.traces import PARTS, Bandwidth, Part, Trace, check_part

SHARES: Final = (0.6, 0.2, 0.2)
"""Of the files, for each of the parts."""


@final
@dataclass(frozen=True)
class Recorded(Bandwidth):
    """Bandwidth from CSV files, of one of three formats, told apart by their columns.

    - `time_s, bandwidth_bps[, rtt_s]`: your own; the bandwidth holds from a row to the next, the
      last row only says when the trace ends.
    - `Timestamp, .., DL_bitrate, ..`: the 5G data set of UCC (Raca et al., MMSys 2020) as it is
      published, kbit/s. Name a folder below its `Download`: the others are of video players, which
      do not measure capacity. Its uplink column is acknowledgement traffic; the uplink is modelled
      as a share of the downlink. Its round trips are not read: many rows have none. Rows in which
      the phone was idle (`State`) count as the bandwidth that they state.
    - `timestamp, downlink_kbps, ..`: the same in one folder; only files named download_* are read.

    Data sets have licences of their own; none ships with Penstock.
    """

    path: str
    """A folder of .csv files, or one file."""
    part: Part = "train"
    """Which of the files; "all" does not split. One file alone is not split. "train" follows the
    split of the images where there is one: what learned on some traces is judged on others."""
    seed: int = 0
    """Of the split."""
    least_share: float = 0.1
    """Uplink over measured downlink, at least. [estimate] No public uplink trace was found."""
    most_share: float = 0.5
    """At most; each stream draws its own. [estimate]"""

    def __post_init__(self) -> None:
        if not 0 < self.least_share <= self.most_share:
            raise InputError(
                "shares of the downlink are 0 < least_share <= most_share, got "
                f"{self.least_share:g} and {self.most_share:g}; correct them"
            )
        check_part(self.part)

    def at(self, part: Part) -> "Recorded":
        """With the files of a split, unless others than those to train on were asked for."""
        return replace(self, part=part) if self.part == "train" else self

    def recordings(self) -> list[Trace]:
        """Read the files of this part.

        Raises:
            InputError: if there are no traces, or a file is not one.
        """
        read = ((file, self._read(file)) for file in _files(Path(self.path)))
        found = {file: recording for file, recording in read if recording is not None}
        if not found:
            raise InputError(
                f"{self.path} should hold .csv files with the columns time_s, bandwidth_bps, or "
                "Timestamp, DL_bitrate (in a folder below Download), or download_*.csv with "
                "timestamp, downlink_kbps, and holds none; name another folder"
            )
        if self.part == "all" or Path(self.path).is_file():
            return list(found.values())
        return [found[file] for file in split_files(list(found), self.seed)[self.part]]

    def _read(self, file: Path) -> Trace | None:
        """A file as a recording; None if it does not measure capacity."""
        columns = _columns(file)
        if {"time_s", "bandwidth_bps"} <= columns.keys():
            return _own(file, columns)
        if {"timestamp", "downlink_kbps"} <= columns.keys():
            if not file.name.startswith("download"):
                return None
            return self._downlink(file, columns, "timestamp", "downlink_kbps")
        if {"Timestamp", "DL_bitrate"} <= columns.keys():
            return self._downlink(file, columns, "Timestamp", "DL_bitrate")
        raise InputError(
            f"{file} should have the columns time_s, bandwidth_bps or Timestamp, DL_bitrate or "
            f"timestamp, downlink_kbps, got {', '.join(columns)}; rename them"
        )

    def _downlink(
        self, file: Path, columns: dict[str, list[str]], stamp: str, bitrate: str
    ) -> Trace:
        stamps = [columns[stamp][0], columns[stamp][-1]]
        try:
            start, end = (datetime.strptime(stamp, "%Y.%m.%d_%H.%M.%S") for stamp in stamps)
        except ValueError as error:
            raise InputError(
                f"{file} should have stamps as 2020.02.27_20.35.57, got {stamps}; correct them"
            ) from error
        rows = len(columns[stamp])
        # Stamps are whole seconds of samples a little more than a second apart: 0, 1 or 2 apart.
        step_s = max(1.0, (end - start).total_seconds() / max(1, rows - 1))
        kbps = torch.tensor(_numbers(file, bitrate, columns), dtype=torch.float64)
        time_s = step_s * torch.arange(rows + 1, dtype=torch.float64)
        return Trace(time_s, 1e3 * kbps, None, self.least_share, self.most_share)


def split_files(files: Sequence[Path], seed: int) -> dict[str, list[Path]]:
    """Files by part, none in two: the same for the same names and seed, wherever they lie.

    Two seconds of one drive are alike; so a trace is never cut in two. Three files or more give
    each part at least one.
    """
    order = sorted(files, key=lambda file: sha256(f"{seed}:{file.name}".encode()).digest())
    each = max(1, round(SHARES[1] * len(order))), max(1, round(SHARES[2] * len(order)))
    ends = (0, len(order) - sum(each), len(order) - each[1], len(order))
    if ends[1] < 1:
        raise InputError(
            f"training, validation and test take three traces or more, got {len(order)}; "
            'add files, or use part = "all"'
        )
    return {
        part: sorted(order[start:end])
        for part, (start, end) in zip(PARTS, pairwise(ends), strict=True)
    }


def _own(file: Path, columns: dict[str, list[str]]) -> Trace:
    time_s = _numbers(file, "time_s", columns)
    if len(time_s) < 2 or any(b <= a for a, b in pairwise(time_s)):
        raise InputError(f"{file} should have two or more rising time_s; sort its rows")
    rtt_s = _numbers(file, "rtt_s", columns)[:-1] if "rtt_s" in columns else None
    return Trace(
        torch.tensor(time_s, dtype=torch.float64) - time_s[0],
        torch.tensor(_numbers(file, "bandwidth_bps", columns)[:-1], dtype=torch.float64),
        None if rtt_s is None else torch.tensor(rtt_s, dtype=torch.float64),
    )


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("*.csv"))


def _columns(file: Path) -> dict[str, list[str]]:
    """Column name -> its cells, at least one."""
    try:
        with file.open(encoding="utf-8", newline="") as text:
            rows = list(csv.reader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} should be a CSV file, but reading it says: {error}") from error
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise InputError(f"{file} should have a header and rows as long as it; correct the file")
    names, *body = rows
    return {
        name.strip(): list(cells)
        for name, cells in zip(names, zip(*body, strict=True), strict=True)
    }


def _numbers(file: Path, name: str, columns: dict[str, list[str]]) -> list[float]:
    try:
        numbers = [float(cell) for cell in columns[name]]
    except ValueError as error:
        raise InputError(f"{file} should have numbers in {name}, and {error}") from error
    least = -inf if name == "time_s" else 0.0
    if any(not isfinite(number) or number < least for number in numbers):
        raise InputError(
            f"{file} should have finite numbers of at least {least:g} in {name}; correct it"
        )
    return numbers
