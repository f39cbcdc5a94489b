"""Environments in which a policy decides, block by block, how much of a network to run."""

import gymnasium

from penstock.envs.budget import Budget
from penstock.envs.lanes import Lanes
from penstock.envs.make import make_lanes
from penstock.envs.outcomes import Outcomes, Step
from penstock.envs.single import InferenceEnv
from penstock.envs.stream import Stream
from penstock.envs.vector import InferenceVectorEnv

gymnasium.register(
    id="Inference-v0",
    entry_point="penstock.envs.make:make_single",
    vector_entry_point="penstock.envs.make:make_vector",
)

__all__ = [
    "Budget",
    "InferenceEnv",
    "InferenceVectorEnv",
    "Lanes",
    "Outcomes",
    "Step",
    "Stream",
    "make_lanes",
]
