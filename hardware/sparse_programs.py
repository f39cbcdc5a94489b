"""Programs for the simulated core: fully connected layers and im2col convolutions, in every mode.

An image lies in memory channel by channel, then column by column, then row by row, with its zero
border; a filter likewise. Each pixel of the output has the address of its window in a list.

Letters: `I, O` channels in and out, `k` kernel, `H, W` height and width.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor
from torch.nn import functional

from penstock.hardware.sparse_core import REGIONS, Instruction, Region, Value
from penstock.hardware.sparse_loop import Kernel, Loop

ZERO: Final = 0
TOTAL, X, W, PX, PW, LEFT = 1, 2, 3, 4, 5, 6  # of the inner loop
PIXEL, LIST, WINDOW, OUT, OUTPUT, ROW, TO, TABLE, WORD = 7, 8, 9, 10, 11, 12, 13, 14, 15


@final
@dataclass(frozen=True, slots=True)
class Program:
    """Instructions, and the memory that they start with."""

    instructions: tuple[Instruction, ...]
    memory: dict[int, Value]
    results: range
    """Where the outputs will be, pixel by pixel, [H' * W', O]."""


def fully_connected(x: Tensor, weight: Tensor, loop: Loop) -> Program:
    """Dot products of one input [I] with the rows of a matrix [O, I]."""
    return convolution(x[:, None, None], weight[:, :, None, None], loop)


def convolution(
    x: Tensor, weight: Tensor, loop: Loop, *, stride: int = 1, padding: int = 0
) -> Program:
    """A convolution of one image.

    Args:
        x: [I, H, W].
        weight: [O, I, k, k].
        loop: the inner loop.
        stride: of the windows, in both directions.
        padding: zeros around the image, on each side.
    """
    image = _words(functional.pad(x, [padding] * 4), loop.lanes)  # [H, W, I]
    filters = torch.stack([_words(one, loop.lanes) for one in weight])
    rows, columns = (range(0, image.shape[d] - weight.shape[2 + d] + 1, stride) for d in (0, 1))
    pitch, channels = image.shape[1] * image.shape[2], image.shape[2]
    starts = [row * pitch + column * channels for row in rows for column in columns]
    outputs, inputs, height, width = weight.shape
    kernel = Kernel(outputs, inputs, height, width, pixels=len(starts))
    addresses = (image.numel(), filters[0].numel(), filters.numel(), len(starts))
    buffer, weights, listed, results = (
        sum(addresses[:place]) for place in range(1, 1 + len(addresses))
    )
    words: list[Value] = [*image.flatten().tolist(), *[0] * addresses[1]]
    words += [*filters.flatten().tolist(), *starts]
    code = _code(kernel, loop, pitch, buffer, weights, listed, results)
    where = range(results, results + len(starts) * outputs)
    return Program(code, dict(enumerate(words)), where)


def _words(x: Tensor, lanes: int) -> Tensor:
    """[I, H, W] -> [H, W, I] as it lies in memory, registers filled up with zeros."""
    return functional.pad(x.permute(1, 2, 0), [0, -x.shape[0] % lanes])


def _code(
    kernel: Kernel,
    loop: Loop,
    pitch: int,
    buffer: int,
    weights: int,
    listed: int,
    results: int,
) -> tuple[Instruction, ...]:
    """The whole program; the regions are entered once it is known where they are."""
    code: list[Instruction] = []
    if loop.entries:
        code.append(_addi(TABLE, ZERO, REGIONS))
        for _ in range(loop.entries):
            code += [_addi(WORD, ZERO, 0), Instruction("st", WORD, TABLE)]
    code += [
        _addi(LIST, ZERO, listed),
        _addi(OUT, ZERO, results),
        _addi(PIXEL, ZERO, kernel.pixels),
    ]
    a_pixel = len(code)
    code += [Instruction("ld", WINDOW, LIST), _addi(LIST, LIST, 1)]
    if kernel.height * kernel.width > 1:
        code += _copy(len(code), kernel, loop, pitch, buffer)
        window = _addi(PX, ZERO, buffer)
    else:
        window = _addi(PX, WINDOW, 0)
    code += [_addi(PW, ZERO, weights), _addi(OUTPUT, ZERO, kernel.outputs)]
    an_output = len(code)
    steps = kernel.steps(loop.lanes) // (kernel.outputs * kernel.pixels)
    code += [Instruction("add", TOTAL), window, _addi(LEFT, ZERO, steps)]
    inner, regions = _INNER[loop.mode](loop, len(code))
    code += inner
    code += [Instruction("st", TOTAL, OUT, immediate=-1), _addi(OUTPUT, OUTPUT, -1)]
    code += [_again(OUTPUT, an_output), _addi(PIXEL, PIXEL, -1), _again(PIXEL, a_pixel)]
    for place, region in enumerate(regions):
        code[1 + 2 * place] = replace(code[1 + 2 * place], immediate=region.word)
    return tuple(code)


def _copy(at: int, kernel: Kernel, loop: Loop, pitch: int, buffer: int) -> Iterator[Instruction]:
    """Bring a window together, row by row."""
    registers = kernel.width * -(-kernel.channels // loop.lanes)
    yield _addi(TO, ZERO, buffer)
    yield _addi(ROW, ZERO, kernel.height)
    yield _addi(LEFT, ZERO, registers)
    yield Instruction("ld", X, WINDOW, lanes=loop.lanes)
    yield _addi(WINDOW, WINDOW, loop.lanes)
    yield _addi(TO, TO, loop.lanes)
    yield _addi(LEFT, LEFT, -1)
    yield Instruction("st", X, TO, immediate=-loop.lanes)
    yield _again(LEFT, at + 3)
    yield _addi(WINDOW, WINDOW, pitch - registers * loop.lanes)
    yield _addi(ROW, ROW, -1)
    yield _again(ROW, at + 2)


Inner = tuple[list[Instruction], list[Region]]
"""The inner loop with the step to the next output behind it, and the regions to be skipped."""


def _dense(loop: Loop, at: int) -> Inner:
    ld_x, ld_w, mac, px, pw, i = _parts(loop)
    if loop.scheduled:
        order = [ld_x, replace(ld_w, immediate=0), px, pw, i, mac]
    else:
        order = [ld_x, px, pw, i, ld_w, mac]
    return [*order, _again(LEFT, at), _addi(OUT, OUT, 1)], []


def _branch(loop: Loop, at: int) -> Inner:
    ld_x, ld_w, mac, px, pw, i = _parts(loop)
    if loop.scheduled:
        order = [ld_x, px, pw, i, _if_zero(X, at + 7), ld_w, mac]
    else:
        order = [ld_x, _if_zero(X, at + 4), replace(ld_w, immediate=0), mac, px, pw, i]
    return [*order, _again(LEFT, at), _addi(OUT, OUT, 1)], []


def _one_entry(loop: Loop, at: int) -> Inner:
    ld_x, ld_w, mac, px, pw, i = _parts(loop)
    region = Region(before=at + 3, one=X, other=X, both=False, length=2)
    return [ld_x, px, pw, i, ld_w, mac, _again(LEFT, at), _addi(OUT, OUT, 1)], [region]


def _two_entries(loop: Loop, at: int) -> Inner:
    """Turned round: the mac of a step stands at the head of the next, and behind the last."""
    ld_x, ld_w, mac, px, pw, i = _parts(loop)
    late = [mac] if loop.scheduled else [Instruction("nop"), mac]
    ld_x = replace(ld_x, immediate=-loop.lanes)
    no_x = Instruction("add", X)  # a zero, so that the first late mac is skipped
    top = at + 1
    order = [no_x, px, *late, ld_x, i, pw, ld_w, _again(LEFT, top), _addi(OUT, OUT, 1), *late]
    before_w = top + len(late) + 3
    before_end = before_w + 3
    return order, [
        Region(before=top, one=X, other=W, both=False, length=len(late)),
        Region(before=before_w, one=X, other=X, both=False, length=1),
        Region(before=before_end, one=X, other=W, both=False, length=len(late)),
    ]


_INNER: Final = {
    "dense": _dense,
    "branch": _branch,
    "one_entry": _one_entry,
    "two_entries": _two_entries,
}


def _parts(loop: Loop) -> tuple[Instruction, ...]:
    """What each inner loop is made of; the weight is loaded after its pointer has moved on."""
    return (
        Instruction("ld", X, PX, lanes=loop.lanes),
        Instruction("ld", W, PW, immediate=-loop.lanes, lanes=loop.lanes),
        Instruction("mac", TOTAL, X, W),
        _addi(PX, PX, loop.lanes),
        _addi(PW, PW, loop.lanes),
        _addi(LEFT, LEFT, -1),
    )


def _addi(register: int, source: int, number: int) -> Instruction:
    return Instruction("addi", register, source, immediate=number)


def _again(counter: int, address: int) -> Instruction:
    """The end of a counted loop."""
    return Instruction("bne", b=counter, c=ZERO, immediate=address, counted=True)


def _if_zero(register: int, address: int) -> Instruction:
    return Instruction("beq", b=register, c=ZERO, immediate=address)
