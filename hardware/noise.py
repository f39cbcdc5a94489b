"""Random numbers for machines that disturb large tensors, from one `torch.Generator`."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

LEVELS: Final = 1 << 16
"""Values that a normal deviate of `standard_normal` can take."""

SMALL: Final = 1 << 12
"""Up to so many numbers torch's own generator is as fast."""

LARGEST_WORD: Final = (1 << 64) - 1
"""Of random bits."""

BLOCK: Final = 1 << 19
"""Numbers that are drawn as one; each block has a seed of its own, whatever thread draws it."""


def standard_normal(like: Tensor, rng: torch.Generator) -> Tensor:
    """Independent normal deviates of mean 0 and variance 1, in the shape of a tensor.

    Large tensors on a CPU hold 65 536 equally likely values, the quantiles of the distribution: no
    deviate lies beyond 4.3, and torch's own generator would take three times as long. Their bits
    come from SFC64 (O'Neill, 2014, in numpy), which is seeded by one draw of `rng`.

    Args:
        like: gives shape, memory layout and device.
        rng: on the CPU.
    """
    count = like.numel()
    if like.device.type != "cpu":
        there = torch.Generator(like.device).manual_seed(_seed(rng))
        return torch.randn(like.shape, generator=there, device=like.device)
    if count <= SMALL:
        drawn = torch.randn(count, generator=rng)
    else:
        drawn = _in_blocks(count, _seed(rng))
    shaped: Tensor = drawn.view(like.shape)
    return drawn.as_strided(like.shape, like.stride()) if _dense(like) else shaped


def _in_blocks(count: int, seed: int) -> Tensor:
    """Many normal deviates, by as many threads as torch may use: numpy lets them run at once."""
    drawn = np.empty(count, dtype=np.float32)
    table = quantiles().numpy()

    def draw(start: int) -> None:
        block = drawn[start : start + BLOCK]
        source = np.random.Generator(np.random.SFC64((seed, start)))
        # Whole words, as only this of numpy's ways lets several threads run at once.
        words = source.integers(
            LARGEST_WORD, size=-(-len(block) // 4), dtype=np.uint64, endpoint=True
        )
        bits = words.view(np.uint16)[: len(block)]
        np.take(table, bits.astype(np.intp), out=block, mode="wrap")  # faster than "raise"

    starts = range(0, count, BLOCK)
    threads = min(torch.get_num_threads(), len(starts))
    if threads == 1:
        for start in starts:
            draw(start)
    else:
        list(_pool(threads).map(draw, starts))
    return torch.from_numpy(drawn)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "penstock-noise")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads are not forked


@cache
def quantiles() -> Tensor:
    """[LEVELS] equally likely values of the standard normal distribution, of variance 1."""
    middle = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
    values = torch.special.ndtri(middle)
    normal: Tensor = values / values.std(correction=0)
    return normal.float()


def uniform(like: Tensor, rng: torch.Generator) -> Tensor:
    """Independent deviates of mean 0 and variance 1, evenly spread over -sqrt(3) to sqrt(3)."""
    drawn = torch.rand(like.shape, generator=rng).to(like.device)
    return (drawn * 2 - 1) * 3**0.5


def _seed(rng: torch.Generator) -> int:
    return int(torch.randint(1 << 62, (), generator=rng))


def _dense(x: Tensor) -> bool:
    """Whether every place of its memory holds one number, in whatever order."""
    return x.is_contiguous() or (
        x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    )
