"""Where the weak cells of a memory are, and how often a weak cell fails.

Four models after Koppula et al., EDEN (MICRO 2019): weak cells anywhere; more of them on some
bitlines (columns), or on some wordlines (rows); failures that depend on the stored bit. Only that
structure is known, formulas and numbers are not [reconstruction].
"""

from dataclasses import dataclass
from typing import Final, Literal

from penstock.backbones.errors import InputError, did_you_mean

CACHE_LINE_BITS: Final = 512
"""Of 64 bytes; what is stored begins at such a line."""


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """Where weak cells are, and what a read of one does.

    A cell is weak with probability P, a weak cell fails at a read with probability F, each read by
    itself. The bit error rate is P F on average over the cells of a subarray.

    >>> ErrorModel(fails_at_0=0.8, fails_at_1=0.2).weak_share(1e-3)
    0.002
    """

    pattern: Literal["uniform", "bitline", "wordline"] = "uniform"
    """Whether P is the same for all cells, or one of each column or row."""
    spread: float = 2.0
    """Standard deviation of P over columns or rows, as a multiple of its mean; lognormal.
    [estimate], 1 to 3."""
    fails_at_0: float = 0.5
    """F of a cell that holds a 0. [estimate]"""
    fails_at_1: float = 0.5
    """F of a cell that holds a 1. [estimate]"""
    row_bits: int = 65536
    """Cells of a row, over the chips of a rank: 8 KB."""
    rows: int = 512
    """Of a subarray; all subarrays of a chip have the same good and bad rows and columns."""

    def __post_init__(self) -> None:
        patterns = ("uniform", "bitline", "wordline")
        if self.pattern not in patterns:
            raise InputError(
                f"an error model's pattern is one of {', '.join(patterns)}, got {self.pattern!r}."
                + did_you_mean(str(self.pattern), patterns)
            )
        if not (0 <= self.fails_at_0 <= 1 and 0 <= self.fails_at_1 <= 1 and self.failure > 0):
            raise InputError(
                "fails_at_0 and fails_at_1 are probabilities, not both 0, got "
                f"{self.fails_at_0} and {self.fails_at_1}; choose them between 0 and 1"
            )
        if self.spread < 0 or self.rows < 1 or self.row_bits % CACHE_LINE_BITS:
            raise InputError(
                f"spread is at least 0, rows at least 1 and row_bits a multiple of "
                f"{CACHE_LINE_BITS}, got {self.spread}, {self.rows} and {self.row_bits}; "
                "correct them"
            )

    @property
    def failure(self) -> float:
        """F on average over as many zeros as ones."""
        return (self.fails_at_0 + self.fails_at_1) / 2

    @property
    def most_failure(self) -> float:
        """The larger F."""
        return max(self.fails_at_0, self.fails_at_1)

    def weak_share(self, rate: float) -> float:
        """P on average, for a bit error rate.

        Raises:
            InputError: if all cells together could not fail as often.
        """
        if not 0 <= rate < self.failure:
            raise InputError(
                f"a bit error rate lies from 0 to below {self.failure:g}, what cells that are all "
                f"weak would reach, got {rate:g}; lower it or raise fails_at_0 and fails_at_1"
            )
        return rate / self.failure


ERROR_MODELS: Final = {
    "uniform": ErrorModel(),
    "bitline": ErrorModel("bitline"),
    "wordline": ErrorModel("wordline"),
    "data-dependent": ErrorModel(fails_at_0=0.8, fails_at_1=0.2),
}
"""The four of EDEN, by name; that 0 turns into 1 more often is known, how much is an [estimate]."""


def error_model(what: ErrorModel | str) -> ErrorModel:
    """A model, perhaps given by its name.

    Raises:
        InputError: if there is none of that name.
    """
    if isinstance(what, ErrorModel):
        return what
    if what not in ERROR_MODELS:
        raise InputError(
            f"an error model is one of those known or an ErrorModel, got {what!r}."
            + did_you_mean(what, ERROR_MODELS)
        )
    return ERROR_MODELS[what]
