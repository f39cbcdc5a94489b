from collections.abc import Callable
from typing import Any

import pytest
import torch

from penstock.backbones import Backbone, Images, tiny_resnet
from penstock.envs import Lanes, Live, Stream
from penstock.hardware import Digital

Make = Callable[..., Lanes]


def _network(blocks_per_stage: int) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tiny_resnet(blocks_per_stage=blocks_per_stage).eval()


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """Six blocks with heads after 1, 3 and 5; blocks 2 and 4 cannot be skipped."""
    return _network(2)


@pytest.fixture(scope="session")
def short() -> Backbone:
    """Three blocks, a head after each; only block 0 can be skipped."""
    return _network(1)


@pytest.fixture(scope="session")
def digital() -> Digital:
    return Digital(
        mac_j={4: 1.0, 8: 2.0, 32: 20.0},
        sram_j_per_byte=3.0,
        memory_j_per_byte=5.0,
        macs_per_s={4: 4e4, 8: 2e4, 32: 1e4},
        memory_bytes_per_s=2e4,
        launch_s=0.25,
    )


@pytest.fixture(scope="session")
def images() -> Images:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (20, 1, 8, 8), generator=rng, dtype=torch.uint8)
    labels = torch.randint(0, 10, (20,), generator=rng)
    return Images(pixels, labels, tuple("0123456789"))


@pytest.fixture(scope="session")
def make(backbone: Backbone, digital: Digital, images: Images) -> Make:
    """An engine over these; any argument can be another one."""

    def lanes(stream: Stream | None = None, **others: Any) -> Lanes:
        live = Live(
            others.pop("backbone", backbone),
            others.pop("machine", digital),
            others.pop("images", images),
        )
        return Lanes(live, stream or Stream(), **{"lanes": 4, **others})

    return lanes
