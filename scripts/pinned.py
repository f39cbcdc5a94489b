"""Computing on cores of one's own, as far as the system lets one."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from penstock.backbones import InputError


@contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Compute with so many threads; on Linux the calling one stays on the last so many cores.

    Gives these cores, or none where they cannot be chosen. Afterwards all is as it was.

    Raises:
        InputError: if there are not as many cores.
    """
    before = torch.get_num_threads()
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    most = len(allowed) or os.cpu_count() or 1
    if not 1 <= threads <= most:
        raise InputError(f"threads go from 1 to the {most} cores here, got {threads}; change them")
    cores = allowed[-threads:]
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        os.sched_setaffinity(0, cores)
    try:
        yield cores
    finally:
        torch.set_num_threads(before)
        if sys.platform == "linux":
            os.sched_setaffinity(0, allowed)
