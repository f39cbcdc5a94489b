"""A scene small enough to be judged in a second."""

import pytest
import torch

from penstock.agents import Recorded, Scene, record
from penstock.agents.predictor import Fit, Predictor, fit_predictor
from penstock.backbones import Data, load_data, shipped, tiny_resnet
from penstock.envs import Live, Recording, Stream, record_outcomes
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


@pytest.fixture(scope="session")
def digits() -> Data:
    return load_data("digits")


@pytest.fixture(scope="session")
def local(digits: Data) -> dict[str, Recording]:
    """The shipped network on a microcontroller, where a stage can be skipped or be half as wide."""
    return _record(digits, "microcontroller", {"bits": (8,), "width": (0.5, 1.0)})


@pytest.fixture(scope="session")
def split(digits: Data) -> dict[str, Recording]:
    """The same beside a server, at full width and with nothing skipped."""
    return _record(digits, "split_wifi", {"bits": (8,), "width": (1.0,), "run": (1,)})


def _record(
    digits: Data, machine: str, choices: dict[str, tuple[float, ...]]
) -> dict[str, Recording]:
    stream = Stream(stages=(0, 2, 4), choices=choices)
    parts = {"train": digits.train, "validation": digits.validation, "test": digits.test}
    return {
        name: record_outcomes(Live(shipped("digits"), build_machine(machine), images), stream)
        for name, images in parts.items()
    }


@pytest.fixture(scope="session")
def predictor(local: dict[str, Recording]) -> Predictor:
    """Of the answers of `local`; the network knows its training images by heart."""
    return fit_predictor(local["train"], local["validation"], fit=Fit(epochs=6))
