"""What a long script finds on its way, kept on disk: killed, it goes on from there."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from penstock.scripts.run import write_json

_Found = TypeVar("_Found", bound=list[float] | dict[str, float])


@dataclass(frozen=True)
class Kept:
    """One file for each thing found."""

    folder: Path
    """Of all that was found by the same script from the same files with the same options. It does
    not know of code: remove it when what is measured has changed."""

    def __call__(self, name: str, find: Callable[[], _Found]) -> _Found:
        """What is known by this name, or else what is found now."""
        path = self.folder / f"{name.replace(',', '').replace(' ', '-')}.json"
        if not path.exists():
            write_json(path, find())
        found: _Found = json.loads(path.read_text())
        return found
