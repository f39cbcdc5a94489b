"""The script behind the figures of a split network: it starts, and writes its record."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce" / "split.py"


def test_a_split_is_measured_and_recorded(tmp_path: Path) -> None:
    options = "--images 3 --judged 8 --mbps 20 --rtt-ms 5 --blocks 4 --repeats 3".split()
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    claims = json.loads((tmp_path / "docs" / "results" / "split.json").read_text())
    figures = {claim["claim"]: claim for claim in claims}
    # What a busy computer cannot change: bytes, logits and losses.
    for about in (
        "bytes on the wire",
        "difference of logits",
        "link cut midway",
        "that were counted",
    ):
        (claim,) = (claim for text, claim in figures.items() if about in text)
        assert claim["met"], claim
