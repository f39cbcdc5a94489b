"""Environments in which a policy decides, block by block, how much of a network to run."""

import gymnasium

from penstock.envs.arrivals import Arrivals
from penstock.envs.battery import Battery
from penstock.envs.budget import Budget
from penstock.envs.lanes import Lanes
from penstock.envs.live import Live
from penstock.envs.make import make_lanes
from penstock.envs.outcomes import Outcomes, Step
from penstock.envs.record import record_outcomes
from penstock.envs.recording import Recording, read_recording, write_recording
from penstock.envs.single import InferenceEnv
from penstock.envs.stream import Stream
from penstock.envs.switching import Switching
from penstock.envs.vector import InferenceVectorEnv

gymnasium.register(
    id="Inference-v0",
    entry_point="penstock.envs.make:make_single",
    vector_entry_point="penstock.envs.make:make_vector",
)

__all__ = [
    "Arrivals",
    "Battery",
    "Budget",
    "InferenceEnv",
    "InferenceVectorEnv",
    "Lanes",
    "Live",
    "Outcomes",
    "Recording",
    "Step",
    "Stream",
    "Switching",
    "make_lanes",
    "read_recording",
    "record_outcomes",
    "write_recording",
]
