"""An experiment that takes seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest

TINY = """
[backbone]
arguments = { depth = 8, width = 0.25, in_channels = 1, size = 8 }
[fitting]
epochs = 2
shift = 1
flip = false
[stream]
choices = { bits = [8], width = [0.5, 1.0] }
[learner]
steps = 2048
lanes = 32
batch_size = 256
hidden = [8]
checkpoint_s = 0.2
"""

RECORDED = """
machine = "microcontroller"
learn_on = "validation"
recording = "{recording}"
streams = 3

[data]
name = "digits"
validation_share = 0.2

[backbone]
weights = "digits"

[stream]
inputs_per_episode = 20
price = [0.02, 4.0]
stages = [0, 4]
choices = {{ bits = [8], run = [1], width = [0.5, 1.0] }}

[learner]
steps = 2048
lanes = 64
horizon = 16
batch_size = 256
epochs = 2
hidden = [8]

[budget]
resource = "energy_j"
limit = {limit}
most = 1.2
relative = true
"""
"""One that learns on a recording."""


@pytest.fixture(scope="session")
def recorded_text() -> Callable[..., str]:
    """(recording, limit=0.5) -> the text of an experiment that learns on that recording."""
    return lambda recording, limit=0.5: RECORDED.format(recording=recording, limit=limit)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path
