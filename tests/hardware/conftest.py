"""A table of seconds that nobody measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.backbones import Backbone
from penstock.backbones.prepared import as_it_is
from penstock.hardware.timings import structure
from penstock.scripts.stopwatch import parts


@pytest.fixture(scope="session")
def write_times() -> Callable[[Backbone, Path], str]:
    """(network, path) -> the path of what `penstock profile` would have written."""
    return _write_times


def seconds(setting: dict[str, float], batch: int) -> float:
    """Made up: 1 ms a batch and 1 ms an input at full width, twice that below 32 bits."""
    if setting.get("run", 1) == 0:
        return 0.0
    emulated = 2 if setting.get("bits", 32) < 32 else 1
    return 1e-3 * emulated * (1 + batch * setting.get("width", 1))


def _write_times(backbone: Backbone, path: Path) -> str:
    """What `penstock profile` would write, with those seconds."""
    blocks: dict[str, Any] = {
        part.block.name: {
            "structure": structure(part.block, part.shape),
            "macs": 1.0,
            "times": [
                {"setting": s, "batch": {str(n): {"median_s": seconds(s, n)} for n in (1, 4)}}
                for s in part.settings
            ],
        }
        for part in parts(backbone, as_it_is)
    }
    decision = {"setting": {}, "batch": {str(n): {"median_s": 1e-4 * n} for n in (1, 4)}}
    blocks["policy"] = {"structure": "", "macs": 8000.0, "times": [decision]}
    path.write_text(json.dumps({"batches": [1, 4], "blocks": blocks}))
    return str(path)
