"""What was logged while a policy learned, read back from TensorBoard's events."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Curve = tuple[Sequence[int], Sequence[float]]
"""Steps of learning, and a value at each."""

WANTED: Final = ("policy/", "cost/", "price/")


def read_curves(folder: Path) -> dict[str, Curve]:
    """Scalars of a run by name, as far as there are two entries or more."""
    # All scalars, and of pictures and texts no more than it takes.
    sizes = {"scalars": 0, "images": 1, "tensors": 1}
    events = EventAccumulator(str(folder), size_guidance=sizes)
    events.Reload()
    found = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
    return {
        name: ([entry.step for entry in entries], [entry.value for entry in entries])
        for name, entries in found.items()
        if name.startswith(WANTED) and len(entries) > 1
    }


def price_names(curves: Mapping[str, Any]) -> list[str]:
    """The prices that were moved while a policy learned, by rising budget."""
    names = [n for n in curves if n.startswith("price/") and n != "price/overshoot"]
    return sorted(names, key=lambda name: float(name.partition("/")[2]))
