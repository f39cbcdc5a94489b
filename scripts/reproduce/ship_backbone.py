"""Put the backbone of a run folder into the package, as float16.

penstock train digits --out runs/demo
python scripts/reproduce/ship_backbone.py runs/demo digits
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from penstock.backbones import save
from penstock.scripts.guard import guarded
from penstock.scripts.run import open_run


@dataclass(frozen=True)
class Arguments:
    """Ship the backbone of a run."""

    run: Positional[Path]
    """A run folder."""
    name: Positional[str]
    """What `shipped` will know it by."""


def main() -> None:
    """Load, save."""
    arguments = tyro.cli(Arguments)
    path = Path("backbones/weights") / f"{arguments.name}.safetensors"
    save(open_run(arguments.run).backbone(), path, half=True)
    print(path)


if __name__ == "__main__":
    sys.exit(guarded(main))
