"""When a file was changed, for what is read once and kept."""

from pathlib import Path


def changed_ns(path: str) -> int:
    """Nanoseconds since 1970; 0 where nothing is, so that reading it says what is missing."""
    there = Path(path)
    return there.stat().st_mtime_ns if there.exists() else 0
