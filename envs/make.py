"""Environments by name: what `gymnasium.make("penstock.envs:Inference-v0")` calls."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode

from penstock.backbones import Backbone, Images, load_data, shipped
from penstock.envs.lanes import Lanes
from penstock.envs.live import Live
from penstock.envs.single import InferenceEnv
from penstock.envs.stream import Stream
from penstock.envs.vector import InferenceVectorEnv
from penstock.hardware import Machine, build_machine
from penstock.hardware.build import Table


def make_lanes(
    backbone: Backbone | str = "digits",
    machine: Machine | str | Path | Table = "microcontroller",
    images: Images | None = None,
    stream: Stream | None = None,
    *,
    lanes: int = 1,
    controller: Sequence[int] | None = (64, 64),
    seed: int = 0,
) -> Lanes:
    """An engine from names or objects.

    Args:
        backbone: one, or the name of one that ships with Penstock ("digits", "cifar10").
        machine: one, or what `build_machine` takes.
        images: inputs; None takes the training images of scikit-learn's digits.
        stream: the rules of an episode; None takes the defaults.
        lanes: inputs in flight.
        controller: hidden layers of the policy's network, whose work is paid for; None: it is not.
        seed: of all randomness.
    """
    live = Live(
        shipped(backbone) if isinstance(backbone, str) else backbone,
        machine if isinstance(machine, Machine) else build_machine(machine),
        load_data("digits").train if images is None else images,
    )
    return Lanes(
        live,
        stream or Stream(),
        lanes=lanes,
        controller=controller,
        seed=seed,
    )


def make_single(**arguments: Any) -> InferenceEnv:
    """One lane; the arguments are those of `make_lanes`."""
    return InferenceEnv(make_lanes(**arguments))


def make_vector(
    num_envs: int = 1, *, autoreset: AutoresetMode = AutoresetMode.NEXT_STEP, **arguments: Any
) -> InferenceVectorEnv:
    """Many lanes; the arguments are those of `make_lanes`."""
    return InferenceVectorEnv(make_lanes(lanes=num_envs, **arguments), autoreset=autoreset)
