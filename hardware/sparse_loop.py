"""Cycles of a product on a core whose inner loop leaves out multiplications by zero.

A convolution copies the window of each output pixel out of a zero-bordered image (im2col), a fully
connected layer reads its input in place; then each output is one dot product. A step of it reads
one activation x and one weight w, or `lanes` of each, and multiplies and adds. In a straight loop:

    dense        ld x; addi px; addi pw; addi i; ld w; mac; bne
    branch       ld x; beq x, 0, end; ld w; mac; end: addi px; addi pw; addi i; bne
    one entry    as dense; after the last addi, {ld w; mac} is skipped where x = 0
    two entries  addi px; {nop; mac}; ld x; addi i; addi pw; {ld w}; bne

The last loop is turned round, so that each value has been loaded two instructions before its zero
is asked for: {ld w} is skipped where x = 0, {nop; mac}, of the step before, where x or w = 0. Its
nop takes the place of the wait for w that the other loops have, so that the loops differ by what
they skip and not by how well they are scheduled. A scheduled loop has no nop, and other
instructions in the place of waits.

After Sen et al., SparCE (arXiv 1711.06315), whose loops and cycles are not public
[reconstruction]. `penstock.hardware.sparse_core` runs these loops instruction by instruction and
takes exactly as long.
"""

from dataclasses import dataclass
from typing import Final, Literal, final

from torch import Tensor

Mode = Literal["dense", "branch", "one_entry", "two_entries"]
"""What is done about zeros: nothing, a branch in software, or SparCE with so many regions."""

FILL: Final = 4
"""Cycles until the first instruction reaches the end of a pipeline of five stages."""

TAKEN: Final = 2
"""Cycles lost by a branch that is taken, unless it closes a counted loop."""


@final
@dataclass(frozen=True, slots=True)
class Loop:
    """The inner loop and the core that it runs on."""

    mode: Mode
    mac_cycles: int
    """Of a multiply-accumulate, which nothing overlaps."""
    load_cycles: int = 1
    """Of a load; who needs the value at once waits one more."""
    lanes: int = 1
    """Activations, and weights, in one register; it is zero where all of them are."""
    scheduled: bool = False
    """Whether independent instructions fill the waits."""

    @property
    def entries(self) -> int:
        """What the table of skips holds; the turned loop ends with a copy of its {nop; mac}."""
        return {"one_entry": 1, "two_entries": 3}.get(self.mode, 0)


@final
@dataclass(frozen=True, slots=True)
class Kernel:
    """The shape of a product; with groups, one program after the other."""

    outputs: int
    """Channels out, of a group."""
    channels: int
    """Channels in, of a group."""
    height: int
    """Rows of the kernel; 1 of a fully connected layer."""
    width: int
    """Columns of the kernel; 1 of a fully connected layer."""
    pixels: int
    """Of the output; 1 of a fully connected layer."""
    groups: int = 1

    def steps(self, lanes: int) -> int:
        """Passes of the inner loop for one input; a last register is filled up with zeros."""
        window = self.height * self.width * -(-self.channels // lanes)
        return window * self.outputs * self.pixels * self.groups


@final
@dataclass(frozen=True, slots=True)
class Step:
    """Cycles of a step, by what it reads."""

    full: int
    """Neither x nor w is zero."""
    x_zero: int
    w_zero: int
    """Only w is zero."""


def step(loop: Loop) -> Step:
    """What a step costs; all lanes of a register count as one value.

    >>> step(Loop("dense", mac_cycles=1)).full, step(Loop("one_entry", mac_cycles=1)).x_zero
    (8, 5)
    """
    load, mac, wait = loop.load_cycles, loop.mac_cycles, int(not loop.scheduled)
    if loop.mode == "dense":
        full = 2 * load + mac + 4 + wait
        return Step(full, full, full)
    if loop.mode == "branch":  # the mac waits for w, scheduled or not
        full = 2 * load + mac + 6 + wait
        return Step(full, load + 5 + TAKEN + wait, full)
    if loop.mode == "one_entry":  # a region is contiguous: nothing can stand between ld w and mac
        full = 2 * load + mac + 5
        return Step(full, load + 4, full)
    return Step(2 * load + mac + 4 + wait, load + 4, 2 * load + 4)


def overhead(kernel: Kernel, loop: Loop) -> int:
    """Cycles around the steps: set-up, the copying of windows, the outer loops."""
    prepare = FILL + 3 + (1 + 2 * loop.entries if loop.entries else 0)
    an_output = 7 + (loop.mode == "two_entries")
    a_pixel = loop.load_cycles + 5 + kernel.outputs * an_output
    if kernel.height * kernel.width > 1:
        a_row = 4 + kernel.width * -(-kernel.channels // loop.lanes) * (loop.load_cycles + 5)
        a_pixel += 2 + kernel.height * a_row
    return kernel.groups * (prepare + kernel.pixels * a_pixel)


def cycles(kernel: Kernel, loop: Loop, zero_x: Tensor | int, zero_w: Tensor | int) -> Tensor | int:
    """What a product costs an input.

    Args:
        kernel: its shape.
        loop: of the core.
        zero_x: steps in which x is zero, as a number or [n].
        zero_w: steps in which only w is zero, likewise.
    """
    each = step(loop)
    saved = zero_x * (each.full - each.x_zero) + zero_w * (each.full - each.w_zero)
    return overhead(kernel, loop) + kernel.steps(loop.lanes) * each.full - saved


def most_cycles(kernel: Kernel, loop: Loop) -> int:
    """The most that a product can cost, whatever is zero."""
    each = step(loop)
    longest = max(each.full, each.x_zero, each.w_zero)
    return overhead(kernel, loop) + kernel.steps(loop.lanes) * longest
