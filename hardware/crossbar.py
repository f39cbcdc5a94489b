"""Weights as pairs of memory cells in tiles, read through converters.

The mapping is the usual one (Shafiee et al., ISAAC, ISCA 2016): a weight is the difference of two
conductances, a tile sums currents along its columns, and sums of several tiles are added after
conversion, so that the height of a tile changes results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import final

import torch
from torch import Tensor

from penstock.backbones import (
    Backbone,
    Block,
    InputError,
    Knob,
    Perform,
    Product,
    Setting,
    chosen,
    exact,
    perform_network,
)
from penstock.hardware.arrays import array_cost, channels_of_a_tile
from penstock.hardware.chip import Cells, cells
from penstock.hardware.conversion import convert, largest, reach
from penstock.hardware.converters import MOST_BITS
from penstock.hardware.cost import Cost, Job
from penstock.hardware.layers import check_names, layers
from penstock.hardware.machine import Machine, State
from penstock.hardware.noise import standard_normal
from penstock.hardware.nvm import device
from penstock.hardware.straight_through import standing_for


@final
@dataclass(frozen=True)
class Crossbar(Machine):
    """Runs every matrix-vector product on a programmed chip: tiles of cells between converters.

    For a tile of rows R: y = ADC(sum over R of DAC(x) * (G+ - G-)), read `votes` times and
    averaged; G are the conductances of this very chip `time_s` after programming, and each read
    adds noise of their own, independent between reads. The converters at the rows reach to the
    largest input of a lane; those at the columns to `adc_range`, or to four times the root mean
    square of a lane's sums where it is not said. Weights that a memory hands over wrongly are
    written so, at every job, unless the chip is a file. Left out: the resistance of wires, and
    faults that are stuck.
    """

    inner: Machine
    """Runs the block, and prices what stays digital; the multiplications should cost 0 there."""
    cell: str = "pcm"
    """Kind of cell: "pcm", "reram_1s", "reram_1d", "reram_2d" or "state_independent"."""
    chip: int | str = 0
    """Seed of a chip; or a file that `save_chip` wrote, which holds its conductances."""
    time_s: float = 0.0
    """Seconds since it was programmed."""
    spread: float = 1.0
    """Factor on the programming error of the cells."""
    compensated: bool = True
    """Whether a digital factor a layer undoes the mean drift since programming."""
    adc_bits: Sequence[int] = (4, 6, 8)
    """Choices of the knob of that name, rising; 2 to 10, of which 1 is a sign."""
    votes: Sequence[int] = (1,)
    """Choices of the knob of that name: reads of every product, rising."""
    dac_bits: int = 8
    """Of the converters at the rows; 2 to 10, of which 1 is a sign."""
    adc_range: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Layer -> the largest sum that each of its row tiles converts; see `calibrate_range`."""
    cell_j: float = 2e-15
    """Joules of a read of one cell."""
    read_s: float = 2e-9
    """Seconds of a read, before conversion."""
    tile_rows: int = 128
    """Rows of an array."""
    tile_columns: int = 128
    """Columns of an array."""
    columns_per_adc: int = 8
    """Columns that share a converter, one after the other."""
    noisy: bool = True
    """Whether this is a real chip; else products are exact."""

    def __post_init__(self) -> None:
        super().__post_init__()
        device(self.cell)
        for name, choices, least in (("adc_bits", self.adc_bits, 2), ("votes", self.votes, 1)):
            if not choices or sorted(set(choices)) != list(choices) or choices[0] < least:
                raise InputError(
                    f"{name} are choices of {least} or more that rise, got {list(choices)}; "
                    "correct them"
                )
        if not 2 <= self.dac_bits <= MOST_BITS or self.adc_bits[-1] > MOST_BITS:
            raise InputError(
                f"dac_bits and adc_bits are 2 to {MOST_BITS}, of which 1 is a sign, got "
                f"{self.dac_bits} and {list(self.adc_bits)}; correct them"
            )
        if not (0 <= self.time_s < inf and 0 <= self.spread < inf):
            raise InputError(
                f"time_s and spread are finite and at least 0, got {self.time_s} and "
                f"{self.spread}; correct them"
            )
        if isinstance(self.chip, str) and self.spread != 1.0:
            raise InputError(
                f"the chip in {self.chip} was programmed already, got spread = {self.spread:g}; "
                "leave it out, or give save_chip that spread"
            )
        if min(self.tile_rows, self.tile_columns, self.columns_per_adc) < 1:
            raise InputError(
                "tile_rows, tile_columns and columns_per_adc are at least 1, got "
                f"{self.tile_rows}, {self.tile_columns} and {self.columns_per_adc}; raise them"
            )

    @property
    def bound(self) -> bool:
        """Whether it is a chip that was programmed, or knows the sums of layers."""
        return isinstance(self.chip, str) or bool(self.adc_range)

    def fits(self, backbone: Backbone) -> None:
        """Refuse a network that lacks a layer which it names, or has it on other tiles."""
        if not self.bound:
            return
        known = layers(backbone)
        check_names("adc_range", self.adc_range, known)
        for name, ranges in self.adc_range.items():
            rows = channels_of_a_tile(self.tile_rows, known[name].taps) * known[name].taps
            tiles = -(-known[name].rows // rows)
            if len(ranges) != tiles or min(ranges) <= 0:
                raise InputError(
                    f"adc_range of {name} has {tiles} numbers above 0, one a row tile, got "
                    f"{list(ranges)}; measure it with calibrate_range"
                )
        if isinstance(self.chip, str):

            def look(product: Product) -> Tensor:
                self.cells(product)
                return product.exact()

            perform_network(backbone, look)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`adc_bits` and `votes` where they have choices, and those of the inner machine."""
        return (*(knob for knob in self._own if len(knob.choices) > 1), *self.inner.knobs)

    @property
    def _own(self) -> tuple[Knob, Knob]:
        return Knob("adc_bits", tuple(self.adc_bits)), Knob("votes", tuple(self.votes))

    def reset(self, n: int, rng: torch.Generator) -> State:
        """The inner machine's conditions."""
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run the block with every product read from the chip, and pay for the reads."""
        disturbed = job
        if self.noisy:
            bits, votes = self._chosen(job.setting)

            def read(product: Product) -> Tensor:
                return self.read(product, job.perform, bits, votes, rng)

            disturbed = replace(job, perform=read)
        y, cost, state = self.inner.run(disturbed, state, rng)
        return y, cost + self._reads(job.block, job.setting, tuple(job.x.shape[1:])), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """Exactly what the reads cost, and the price of the inner machine."""
        return self.inner.price(block, setting, shape) + self._reads(block, setting, shape)

    def ideal(self) -> Machine:
        """The same with exact products."""
        return replace(self, inner=self.inner.ideal(), noisy=False)

    def cells(self, product: Product) -> Cells:
        """What stands in the chip for the weights of a product, at `time_s`."""
        return cells(
            product,
            device(self.cell),
            self.chip,
            time_s=self.time_s,
            spread=self.spread,
            compensated=self.compensated,
        )

    def row_tiles(self, product: Product) -> list[slice]:
        """The channels of each row tile, counted within a group, with all taps of the kernel."""
        weight = product.weight.values
        channels = channels_of_a_tile(self.tile_rows, weight[0, 0].numel())
        return [slice(start, start + channels) for start in range(0, weight.shape[1], channels)]

    def sums(self, product: Product, held: Cells, by: Perform = exact) -> list[Tensor]:
        """What each row tile adds up without the noise of a read, before conversion."""
        x, weight = self._inputs(product), product.weight.values
        real = standing_for(weight, held.weight)
        return [
            _tile(product, _of_groups(product, x, c), real[:, c], by)
            for c in self.row_tiles(product)
        ]

    def read(
        self, product: Product, by: Perform, bits: int, votes: int, rng: torch.Generator
    ) -> Tensor:
        """A product through converters and cells, averaged over its reads: pre-activations."""
        held, power = self.cells(product), self._inputs(product).detach().square()
        ranges = self.adc_range.get(product.name)
        raw = product.x.values.new_zeros(())
        for number, (inputs, total) in enumerate(
            zip(self.row_tiles(product), self.sums(product, held, by), strict=True)
        ):
            # Cells and reads are independent of each other: variances add along a column.
            squares = _of_groups(product, power, inputs)
            variance = _tile(product, squares, held.read_variance[:, inputs], exact)
            noise = variance.clamp(min=0).sqrt()
            top = reach(total) if ranges is None else total.new_tensor(ranges[number])
            for _ in range(votes):
                drawn = standard_normal(total, rng).to(total.dtype)
                noisy = torch.addcmul(total, noise, drawn)
                raw = raw + convert(noisy, top, bits)
        return product.finish(raw / votes)

    def _inputs(self, product: Product) -> Tensor:
        x = product.x.values
        return convert(x, largest(x), self.dac_bits)

    def _chosen(self, setting: Setting) -> tuple[int, int]:
        adc_bits, votes = (int(chosen(knob, setting)) for knob in self._own)
        return adc_bits, votes

    def _reads(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """What the reads of a block cost one input."""
        bits, votes = self._chosen(setting)
        return array_cost(
            block,
            setting,
            shape,
            reads=votes,
            mac_j=2 * self.cell_j,
            input_bits=self.dac_bits,
            output_bits=bits,
            read_s=self.read_s,
            tile_rows=self.tile_rows,
            tile_columns=self.tile_columns,
            columns_per_adc=self.columns_per_adc,
        )


def _tile(product: Product, x: Tensor, weight: Tensor, by: Perform) -> Tensor:
    """The bare sums of some inputs."""
    part = replace(product.with_values(x, weight), finish=_same, scale=None, shift=None)
    return by(part)


def _of_groups(product: Product, x: Tensor, channels: slice) -> Tensor:
    """These channels of every group of an input [n, I, ...]."""
    if product.groups == 1:
        return x[:, channels]
    apart = x.reshape(len(x), product.groups, -1, *x.shape[2:])
    return apart[:, :, channels].flatten(1, 2)


def _same(raw: Tensor) -> Tensor:
    return raw
