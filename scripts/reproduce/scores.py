"""Scores that finished runs on recordings left."""

import json
from pathlib import Path
from typing import Any

from penstock.backbones import InputError


def read_score(run: Path) -> dict[str, Any]:
    """What `penstock train` judged on a recording.

    Raises:
        InputError: if the run was not finished, or learned live.
    """
    path = run / "score.json"
    if not path.is_file():
        raise InputError(
            f"expected a finished run with a score.json, got {run}; make it with penstock train "
            "and --recording"
        )
    score: dict[str, Any] = json.loads(path.read_text())
    return score


def row(score: dict[str, Any], name: str) -> dict[str, Any]:
    """A contender's row of a score."""
    found: dict[str, Any] = next(row for row in score["rows"] if row["name"] == name)
    return found
