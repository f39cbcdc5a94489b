"""Policies: learned, or needing no learning, and how they are judged."""

from penstock.agents.evaluation import Evaluation, Recorded, evaluate, record
from penstock.agents.learner import Learner
from penstock.agents.play import find_price, play
from penstock.agents.policy import Policy
from penstock.agents.scene import Scene

__all__ = [
    "Evaluation",
    "Learner",
    "Policy",
    "Recorded",
    "Scene",
    "evaluate",
    "find_price",
    "play",
    "record",
]
