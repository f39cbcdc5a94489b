"""A memory whose reads err at a rate that can be set: what characterises and hardens networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

import torch
from torch import Tensor

from penstock.backbones import Backbone, Block, InputError, Knob, Product, Setting
from penstock.hardware.cost import Cost, Job
from penstock.hardware.error_models import ErrorModel, error_model
from penstock.hardware.layers import INPUT, WEIGHT, check_types, one_network
from penstock.hardware.machine import Machine, State
from penstock.hardware.reading import Faults, Range, check_ranges, entry, read

PLAUSIBLE: Final[Mapping[str, Range]] = {WEIGHT: (-16.0, 16.0), INPUT: (-256.0, 256.0)}
"""Wide enough for networks with normalisation [estimate]; `plausible_ranges` measures narrower."""


@final
@dataclass(frozen=True)
class BitErrors(Machine):
    """Flips bits of the weights and inputs that every product reads, at a bit error rate.

    Numbers are stored as they are computed with: float32, or integers of the setting's bits. Costs
    are the inner machine's. At a rate of 0 it is the inner machine. Left out: what is read by no
    product, such as a shortcut that is added, biases and statistics; and that a feature map read
    by two layers lies in one place: here each layer has its own.
    """

    inner: Machine
    """Runs and prices the block."""
    bit_error_rates: Sequence[float] = (1e-2, 1e-3, 1e-4, 1e-5, 0.0)
    """Choices of the knob `bit_error_rate`, falling."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Data type ("blocks.3.first.weight") or role ("weight", "input") -> rate, whatever the knob
    says."""
    errors: ErrorModel | str = "uniform"
    """Where weak cells are and how often they fail; a name of `ERROR_MODELS`, or a model."""
    chip: int | None = None
    """A seed: of one chip, whose weak cells stay; None: of many, each read meets a new one."""
    plausible: Mapping[str, Range] = field(default_factory=lambda: dict(PLAUSIBLE))
    """Data type or role -> range; what is read from outside of it, or is no number, becomes 0.
    Without this one flipped bit of a float32 can make every output infinite."""
    sram_bytes: float = 0.0
    """An input map of up to so many bytes, of one lane, stays on the chip and meets no errors."""
    faulty: bool = True
    """Whether there are errors at all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self.plausible)
        falling = sorted(set(self.bit_error_rates), reverse=True)
        if not falling or falling != list(self.bit_error_rates):
            raise InputError(
                f"bit_error_rates are choices that fall, got {list(self.bit_error_rates)}; "
                "sort them"
            )
        for rate in (*self.bit_error_rates, *self.rates.values()):
            self.faults.model.weak_share(rate)

    @property
    def bound(self) -> bool:
        """Whether it names layers."""
        return one_network(self.rates) or one_network(self.plausible)

    def fits(self, backbone: Backbone) -> None:
        """Refuse a network that lacks a layer which it names."""
        check_types("rates", self.rates, backbone)
        check_types("plausible", self.plausible, backbone)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`bit_error_rate`, and those of the inner machine."""
        return Knob("bit_error_rate", tuple(self.bit_error_rates)), *self.inner.knobs

    @property
    def faults(self) -> Faults:
        """What is wrong with the memory."""
        return Faults(error_model(self.errors), self.chip, self.plausible, self.sram_bytes)

    def reset(self, n: int, rng: torch.Generator) -> State:
        """The inner machine's conditions."""
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run the block on what is read; rates between the choices of the knob are allowed."""
        if not self.faulty:
            return self.inner.run(job, state, rng)
        at = job.setting.get("bit_error_rate", self.bit_error_rates[-1])
        if isinstance(at, Tensor):
            raise InputError("bit_error_rate is one number for all lanes of a job, got a mask")
        faults = self.faults

        def fetch(product: Product) -> Product:
            weight, x = (entry(self.rates, product.name, role) for role in (WEIGHT, INPUT))
            rates = at if weight is None else weight, at if x is None else x
            return read(job.fetch(product), faults, *rates, rng)

        return self.inner.run(replace(job, fetch=fetch), state, rng)

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """What the inner machine asks: errors are free."""
        return self.inner.price(block, setting, shape)

    def ideal(self) -> Machine:
        """The same without errors."""
        return replace(self, inner=self.inner.ideal(), faulty=False)
