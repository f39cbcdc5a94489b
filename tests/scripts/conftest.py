"""An experiment that takes seconds."""

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


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path
