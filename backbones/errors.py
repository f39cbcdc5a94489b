"""What a user is told when something handed in cannot be used."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something that a user handed in and that cannot be used.

    Its text is one sentence: what was expected, what came, what to do. The command line prints it
    and exits with status 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known names and the nearest of them, to be put after an error's sentence.

    Examples:
        >>> did_you_mean("epoch", ["epochs", "batch_size"])
        " Did you mean 'epochs'? Known: batch_size, epochs."
        >>> did_you_mean("depth", ["epochs", "batch_size"])
        ' Known: batch_size, epochs.'
    """
    names = sorted(set(known))
    nearest = get_close_matches(name, names, n=1)
    return "".join(f" Did you mean {match!r}?" for match in nearest) + (
        f" Known: {', '.join(names)}." if names else ""
    )
