"""Pictures as files."""

from pathlib import Path

from matplotlib.figure import Figure

from penstock.backbones import InputError


def write_picture(path: Path, figure: Figure) -> None:
    """Write a PNG beside its place, then rename, so that none is ever half there.

    Raises:
        InputError: if the place cannot be written.
    """
    beside = path.with_name(f".{path.name}")
    try:
        figure.savefig(beside, format="png", dpi=150)
        beside.replace(path)
    except OSError as error:
        raise InputError(
            f"the picture {path} cannot be written ({error.strerror}); choose a place with --out"
        ) from error
