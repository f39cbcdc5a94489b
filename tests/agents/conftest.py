"""A scene small enough to be judged in a second."""

import pytest
import torch

from penstock.agents import Recorded, Scene, record
from penstock.backbones import Data, load_data, tiny_resnet
from penstock.envs import Stream
from penstock.hardware import build_machine


@pytest.fixture(scope="session")
def scene() -> Scene:
    torch.manual_seed(0)
    data = load_data("digits")
    few = Data(
        *(split.take(torch.arange(60)) for split in (data.train, data.validation, data.test))
    )
    return Scene(
        tiny_resnet(blocks_per_stage=2).eval(),
        build_machine("microcontroller"),
        few,
        Stream(choices={"bits": (8,), "width": (0.25, 1.0)}),
        hidden=(8,),
    )


@pytest.fixture(scope="session")
def recorded(scene: Scene) -> Recorded:
    return record(scene)
