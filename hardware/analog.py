"""Matrix-vector products with Gaussian noise at a stated signal-to-noise ratio.

After Qin and Vucinic, Noisy Computations during Inference (arXiv 1811.10649): products are read
from an analog array, and every read is noisy. Where the noise enters, and what counts as the power
of the signal, is not public; here both are said, and can be chosen. [reconstruction]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Literal, final

import torch
from torch import Tensor

from penstock.backbones import (
    FULL,
    Backbone,
    Block,
    InputError,
    Knob,
    Perform,
    Product,
    Setting,
    chosen,
)
from penstock.backbones.evaluating import evaluating
from penstock.hardware.arrays import array_cost
from penstock.hardware.converters import MOST_BITS, useful_bits
from penstock.hardware.cost import Cost, Job
from penstock.hardware.disturbance import disturb, power
from penstock.hardware.layers import check_names, layers
from penstock.hardware.machine import Machine, State
from penstock.hardware.noise import standard_normal, uniform

Site = Literal["folded", "raw", "input", "weight"]
"""Of a product z = s * (W x) + b: on z, on W x, on x, or on W, fresh for every job."""


@final
@dataclass(frozen=True)
class Analog(Machine):
    """Adds noise of variance P * 10^(-snr_db / 10) / votes to every matrix-vector product.

    The reads of the arrays (`array_cost`) come on top of what the inner machine charges for what
    stays digital; a multiplication takes mac_j * 10^((snr_db - 20) * exponent / 10). A vote is one
    more read of the array; reads are averaged before what follows, so that v of them are worth
    10 log10 v dB. The converters have as many bits as the noise leaves of use, and one more
    [estimate]. Left out: correlation of the noise between outputs or reads, and the rounding by
    converters, which `Crossbar` has. Without noise it is the inner machine.
    """

    inner: Machine
    """Runs the block, and prices what stays digital; the multiplications should cost 0 there."""
    snr_db: Sequence[float] = (0, 5, 10, 20, 30)
    """Choices of the knob of that name, in decibels, rising."""
    votes: Sequence[int] = (1,)
    """Choices of the knob of that name: reads of every product, rising."""
    site: Site = "folded"
    """Where the noise enters; "folded" is behind the normalisation, before the nonlinearity."""
    power: Literal["ac", "total"] = "ac"
    """P is the variance of the signal, or its mean square."""
    scope: Literal["layer", "channel"] = "layer"
    """One P for a whole layer, or one for each of its channels."""
    reference: Literal["input", "batch"] = "input"
    """What P is measured on where `signal_power` does not say it: each input, or the whole job."""
    signal_power: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Layer -> P, frozen: one number, or one for each of the channels; `calibrate` measures it."""
    distribution: Literal["gauss", "uniform"] = "gauss"
    """Of the noise."""
    mac_j: float = 4e-15
    """Joules of a multiply-accumulate of two cells at 20 dB."""
    exponent: float = 1.0
    """1 where thermal noise limits a read: 10 dB more take 10 times the energy."""
    read_s: float = 2e-9
    """Seconds of a read, before conversion."""
    tile_rows: int = 128
    """Rows of an array."""
    tile_columns: int = 128
    """Columns of an array."""
    columns_per_adc: int = 8
    """Columns that share a converter, one after the other."""
    input_bits: int = 8
    """Of the converters at the rows."""
    noisy: bool = True
    """Whether there is noise at all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scope == "channel" and self.reference == "input" and not self.signal_power:
            raise InputError(
                "one output of a layer has no power of its own within an input; with scope = "
                '"channel" set reference = "batch", or measure signal_power with calibrate'
            )
        if not all(isfinite(each) for each in self.snr_db):
            raise InputError(
                f"snr_db are finite, got {list(self.snr_db)}; noisy = false leaves the noise out"
            )
        for name, choices in (("snr_db", self.snr_db), ("votes", self.votes)):
            if not choices or sorted(set(choices)) != list(choices):
                raise InputError(f"{name} are choices that rise, got {list(choices)}; sort them")
        if not 1 <= self.input_bits <= MOST_BITS:
            raise InputError(
                f"input_bits are 1 to {MOST_BITS}, got {self.input_bits}: converters of more were "
                "not fitted; lower them"
            )
        if self.votes[0] < 1 or min(self.tile_rows, self.tile_columns, self.columns_per_adc) < 1:
            raise InputError(
                "votes, tile_rows, tile_columns and columns_per_adc are at least 1, got "
                f"{self.votes[0]}, {self.tile_rows}, {self.tile_columns} and "
                f"{self.columns_per_adc}; raise them"
            )
        if self.signal_power:
            _check_freezable(self.site)
        for name, powers in self.signal_power.items():
            if not powers or not all(isfinite(each) and each >= 0 for each in powers):
                raise InputError(
                    f"signal_power is one number of at least 0 or one a channel, got "
                    f"{list(powers)} for {name!r}; measure it with calibrate"
                )

    @property
    def bound(self) -> bool:
        """Whether it knows the signals of layers."""
        return bool(self.signal_power)

    def fits(self, backbone: Backbone) -> None:
        """Refuse a network that lacks a layer which it names, or has it with other channels."""
        if not self.signal_power:
            return
        known = layers(backbone)
        check_names("signal_power", self.signal_power, known)
        for name, powers in self.signal_power.items():
            if len(powers) not in (1, known[name].columns):
                raise InputError(
                    f"signal_power of {name} has 1 or {known[name].columns} numbers, got "
                    f"{len(powers)}; measure it with calibrate"
                )

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`snr_db` and `votes` where they have choices, and those of the inner machine."""
        return (*(knob for knob in self._own if len(knob.choices) > 1), *self.inner.knobs)

    @property
    def _own(self) -> tuple[Knob, Knob]:
        return Knob("snr_db", tuple(self.snr_db)), Knob("votes", tuple(self.votes))

    def reset(self, n: int, rng: torch.Generator) -> State:
        """The inner machine's conditions."""
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run the block with noise on every product, and pay for the reads."""
        snr_db, votes = self._chosen(job.setting)
        disturbed = job
        if self.noisy:
            share = 10 ** (-snr_db / 10) / votes  # noise power, as a share of the signal's

            def read(product: Product) -> Tensor:
                return self.read(product, job.perform, share, rng)

            disturbed = replace(job, perform=read)
        y, cost, state = self.inner.run(disturbed, state, rng)
        return y, cost + self._reads(job.block, job.setting, tuple(job.x.shape[1:])), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """Exactly what the reads cost, and the price of the inner machine."""
        return self.inner.price(block, setting, shape) + self._reads(block, setting, shape)

    def ideal(self) -> Machine:
        """The same without noise."""
        return replace(self, inner=self.inner.ideal(), noisy=False)

    def read(self, product: Product, by: Perform, share: float, rng: torch.Generator) -> Tensor:
        """A product under noise of a share of the signal's power: pre-activations."""
        if self.site == "input":
            x = self._add_noise(product.x.values, product.name, share, rng)
            return by(product.with_values(x=x))
        if self.site == "weight":
            weight = product.weight.values
            noise = self._draw(weight, rng)
            lying = weight.transpose(0, 1), noise.transpose(0, 1)  # outputs are its channels
            noisy = disturb(*lying, share, self.power, self.scope, "batch").transpose(0, 1)
            return by(product.with_values(weight=noisy))
        if self.site == "raw":
            sums = replace(product, finish=_nothing, scale=None, shift=None)
            return product.finish(self._add_noise(by(sums), product.name, share, rng))
        return self._add_noise(by(product), product.name, share, rng)

    def _chosen(self, setting: Setting) -> tuple[float, float]:
        snr_db, votes = (chosen(knob, setting) for knob in self._own)
        return snr_db, votes

    def _add_noise(self, z: Tensor, name: str, share: float, rng: torch.Generator) -> Tensor:
        """A signal [n, O, ...] with noise."""
        noise, frozen = self._draw(z, rng), self.signal_power.get(name)
        if frozen is None:
            return disturb(z, noise, share, self.power, self.scope, self.reference)
        known = z.new_tensor(frozen)[: z.shape[1]].view(1, -1, *[1] * (z.dim() - 2))
        return torch.addcmul(z, noise, (known * share).sqrt())

    def _draw(self, like: Tensor, rng: torch.Generator) -> Tensor:
        draw = standard_normal if self.distribution == "gauss" else uniform
        return draw(like, rng).to(like.dtype)

    def _reads(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """What the reads of a block cost one input."""
        snr_db, votes = self._chosen(setting)
        return array_cost(
            block,
            setting,
            shape,
            reads=votes,
            mac_j=self.mac_j * 10 ** ((snr_db - 20) * self.exponent / 10),
            input_bits=self.input_bits,
            output_bits=useful_bits(snr_db),
            read_s=self.read_s,
            tile_rows=self.tile_rows,
            tile_columns=self.tile_columns,
            columns_per_adc=self.columns_per_adc,
        )


@torch.no_grad()
def calibrate(
    machine: Analog,
    backbone: Backbone,
    images: Tensor,
    rng: torch.Generator,
    setting: Setting = FULL,
) -> Analog:
    """The machine with P of every layer frozen at its mean over some images.

    They run through the noisy machine itself, so that P is that of the signals that will be met;
    full setting. A layer not met keeps its noise relative to its input.

    Args:
        machine: with noise on products (`site` "folded" or "raw").
        backbone: of which every layer is measured.
        images: some hundred, floats in [0, 1], [n, C, H, W].
        rng: of the noise.
        setting: of the machine's knobs, at which most images will be met.

    Raises:
        InputError: if the noise is not on products.
    """
    _check_freezable(machine.site)
    found: dict[str, Sequence[float]] = {}

    def note(product: Product) -> Tensor:
        z = product.exact()
        found[product.name] = power(z, machine.power, machine.scope, "batch").flatten().tolist()
        return z

    live = replace(machine, signal_power={}, reference="batch")

    def run(block: Block, x: Tensor, own: Setting) -> Tensor:
        job = Job(block, x, {**setting, **own}, note)
        return live.run(job, live.reset(len(x), rng), rng)[0]

    with evaluating(backbone):
        backbone.answers(images, run=run)
    return replace(machine, signal_power=found)


def _check_freezable(site: Site) -> None:
    if site not in ("folded", "raw"):
        raise InputError(
            'the power of products can be frozen where the noise is on them (site = "folded" or '
            f'"raw"), got {site!r}; leave signal_power out'
        )


def _nothing(raw: Tensor) -> Tensor:
    return raw
