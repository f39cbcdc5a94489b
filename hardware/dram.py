"""A DRAM whose supply voltage is a knob: less energy, and bits that are read wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from penstock.backbones import (
    Backbone,
    Block,
    InputError,
    Knob,
    Matrix,
    Product,
    Setting,
    matrices,
    restrict,
)
from penstock.backbones.block import POLICY
from penstock.backbones.knob import numbers
from penstock.hardware.bit_errors import PLAUSIBLE, BitErrors
from penstock.hardware.cost import Cost, Job
from penstock.hardware.error_models import ErrorModel, error_model
from penstock.hardware.layers import INPUT, WEIGHT, check_types, one_network
from penstock.hardware.machine import Machine, State
from penstock.hardware.reading import Faults, Range, check_ranges, entry, read
from penstock.hardware.voltage import Curve, read_curve


@final
@dataclass(frozen=True)
class Dram(Machine):
    """Weights and feature maps lie in a DRAM of which the core voltage is chosen block by block.

        energy  = weight bytes * (read * s + io) + input bytes * ((read + write) * s + 2 io)
                  + standby * s * latency,  with s = (V / nominal V)^2
        latency = the inner machine's, so what adds seconds (arrays) stands inside of this one

    on top of what the inner machine charges, whose own price of the memory should be 0. Every
    layer's input map counts as written once and read once: one that two layers read, before a
    shortcut's convolution, counts twice. One that fits into `sram_bytes` stays on the chip, costs
    nothing here and meets no errors; so does the network of the policy, some kilobytes. The pins
    keep their voltage. Time stays the same because the timings do: the measured errors are those of
    a module that is run faster than its voltage allows, and longer timings would remove many.

    After Koppula et al., EDEN (MICRO 2019). At nominal voltage it is the inner machine, dearer by
    the memory. Left out: see `BitErrors`; and the time and energy of changing the voltage.
    """

    inner: Machine
    """Runs the block, and prices all but the DRAM."""
    read_j_per_byte: float
    """Core energy of a read at nominal voltage, rows opened and closed included."""
    write_j_per_byte: float
    """Core energy of a write at nominal voltage, rows opened and closed included."""
    io_j_per_byte: float
    """Energy of the pins for a byte read or written, at any voltage."""
    standby_w: float
    """Power of the core at nominal voltage while the block runs, refresh included."""
    curve: str = "synthetic"
    """A .csv file of measured voltage curves, or "synthetic", which is made up."""
    module: str = "typical"
    """Of that file."""
    burst: float = 1.0
    """Flips in a faulty line, as a multiple of those of bits that fail by themselves."""
    nominal_v: float = 1.35
    """Supply without errors, the last choice of the knob `dram_v`; 1.35 V is DDR3L's."""
    volts: Mapping[str, float] = field(default_factory=dict)
    """Data type ("blocks.3.first.weight") or role ("weight", "input") -> voltage of the partition
    where it lies, whatever the knob says."""
    sram_bytes: float = 0.0
    """An input map of up to so many bytes stays on the chip."""
    errors: ErrorModel | str = "uniform"
    """Where weak cells are and how often they fail; a name of `ERROR_MODELS`, or a model."""
    chip: int | None = None
    """A seed: of one chip, whose weak cells stay; None: of many, each read meets a new one."""
    plausible: Mapping[str, Range] = field(default_factory=lambda: dict(PLAUSIBLE))
    """Data type or role -> range; what is read from outside of it, or is no number, becomes 0."""
    faulty: bool = True
    """Whether there are errors at all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self.plausible)
        curve = self.voltage_curve
        for rate in (*curve.rates, *map(curve.rate, self.volts.values())):
            self.faults.model.weak_share(rate)
        curve.choices_v(self.nominal_v)
        if rate := curve.rate(self.nominal_v):
            raise InputError(
                f"module {curve.module} has errors at its nominal {self.nominal_v:g} V, a bit "
                f"error rate of {rate:g}; nominal_v is a voltage without any"
            )
        if max(self.volts.values(), default=0.0) > self.nominal_v:
            raise InputError(
                f"volts are at most nominal_v = {self.nominal_v:g}, got {dict(self.volts)}; "
                "lower them"
            )

    @property
    def bound(self) -> bool:
        """Whether it names layers."""
        return one_network(self.volts) or one_network(self.plausible)

    def fits(self, backbone: Backbone) -> None:
        """Refuse a network that lacks a layer which it names."""
        check_types("volts", self.volts, backbone)
        check_types("plausible", self.plausible, backbone)

    @property
    def voltage_curve(self) -> Curve:
        """Bit error rates of the module."""
        return read_curve(self.curve, self.module, self.burst)

    @property
    def faults(self) -> Faults:
        """What is wrong with the memory."""
        return Faults(error_model(self.errors), self.chip, self.plausible, self.sram_bytes)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`dram_v` in steps of 25 mV, and those of the inner machine.

        Where `volts` says where all weights and inputs lie, nothing is left for `dram_v`.
        """
        if {WEIGHT, INPUT} <= self.volts.keys():
            return self.inner.knobs
        return Knob("dram_v", self.voltage_curve.choices_v(self.nominal_v)), *self.inner.knobs

    def reset(self, n: int, rng: torch.Generator) -> State:
        """The inner machine's conditions."""
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run the block on what is read, and pay for reading it."""
        disturbed = job
        if self.faulty:
            curve, faults = self.voltage_curve, self.faults

            def fetch(product: Product) -> Product:
                weight, x = map(curve.rate, self._volts(product.name, job.setting))
                return read(job.fetch(product), faults, weight, x, rng)

            disturbed = replace(job, fetch=fetch)
        y, cost, state = self.inner.run(disturbed, state, rng)
        return y, self._with_memory(cost, job.block, job.setting, tuple(job.x.shape[1:])), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """The price of the inner machine, and exactly what the memory adds to it."""
        return self._with_memory(self.inner.price(block, setting, shape), block, setting, shape)

    def ideal(self) -> Machine:
        """The same without errors."""
        return replace(self, inner=self.inner.ideal(), faulty=False)

    def at_rate(self, rate: float, rates: Mapping[str, float] | None = None) -> BitErrors:
        """The same memory at a bit error rate instead of a voltage, without prices of its own.

        Args:
            rate: of everything; the only choice of its knob `bit_error_rate`.
            rates: data type or role -> rate that it has instead.
        """
        return BitErrors(
            self.inner,
            (rate,),
            rates or {},
            errors=self.errors,
            chip=self.chip,
            plausible=self.plausible,
            sram_bytes=self.sram_bytes,
            faulty=self.faulty,
        )

    def _chosen_v(self, setting: Setting) -> float:
        dram_v = setting.get("dram_v", self.nominal_v)
        if isinstance(dram_v, Tensor):
            raise InputError("dram_v is one number for all lanes of a job, got a mask")
        self.voltage_curve.rate(dram_v)  # refuses what was not tested
        return dram_v

    def _volts(self, layer: str, setting: Setting) -> tuple[float, float]:
        """Of the weights and inputs of a layer."""
        chosen_v = self._chosen_v(setting)
        weight, x = (entry(self.volts, layer, role) for role in (WEIGHT, INPUT))
        return chosen_v if weight is None else weight, chosen_v if x is None else x

    def _with_memory(
        self, cost: Cost, block: Block, setting: Setting, shape: tuple[int, ...]
    ) -> Cost:
        moved_j, highest_v = 0.0, 0.0  # standing by takes the voltage of the data that need most
        if block.name != POLICY:
            for matrix in matrices(block, numbers(restrict(setting, block)), shape):
                weight_v, input_v = self._volts(matrix.name, setting)
                moved_j += self._weight_j(matrix, weight_v)
                highest_v = max(highest_v, weight_v)
                if matrix.inputs * matrix.activation_bits / 8 > self.sram_bytes:
                    moved_j += self._input_j(matrix, input_v)
                    highest_v = max(highest_v, input_v)
        standby_w = self.standby_w * self._scale(highest_v or self._chosen_v(setting))
        return replace(cost, energy_j=cost.energy_j + moved_j + standby_w * cost.latency_s)

    def _weight_j(self, matrix: Matrix, volts: float) -> float:
        """Energy of the weights of a layer, for one lane."""
        count = matrix.rows * matrix.columns * matrix.weight_bits / 8
        return count * (self.read_j_per_byte * self._scale(volts) + self.io_j_per_byte)

    def _input_j(self, matrix: Matrix, volts: float) -> float:
        """Energy of the inputs of a layer, written and read once, for one lane."""
        count = matrix.inputs * matrix.activation_bits / 8
        core_j = (self.read_j_per_byte + self.write_j_per_byte) * self._scale(volts)
        return count * (core_j + 2 * self.io_j_per_byte)

    def _scale(self, volts: float) -> float:
        return (volts / self.nominal_v) ** 2
