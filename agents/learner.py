"""How a policy is learned: settings shared by all learners, and where they come from."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

from penstock.backbones import InputError


@dataclass(frozen=True, slots=True)
class Learner:
    """Settings of a learner; defaults suit a live environment on two cores."""

    algorithm: Literal["maskable_ppo", "ppo", "recurrent_ppo", "dqn"] = "maskable_ppo"
    """PPO with the masks of what is allowed, PPO without, PPO that remembers a stream (an LSTM, and
    no masks), or DQN over all combinations."""
    steps: int = 800_000
    """Decisions in all."""
    lanes: int = 1024
    """Inputs in flight."""
    horizon: int = 8
    """PPO: steps per lane between updates."""
    batch_size: int = 2048
    """Decisions per gradient step."""
    epochs: int = 6
    """PPO: passes over what was collected."""
    learning_rate: float = 3e-3
    """Of Adam; falls to 0 in a line."""
    entropy: float = 0.02
    """PPO: weight of the entropy bonus; falls to 0 in a line."""
    discount: float = 1.0
    """Of rewards; episodes are short, so 1 optimises what is judged."""
    trace: float = 0.95
    """PPO: lambda of the generalised advantage estimate."""
    self_critical: bool = True
    """Count the worth of an answer against that of the full network's to the same input: at
    discount 1 the same policy is best, and is learned from less noise (after Rennie et al.,
    Self-critical Sequence Training, CVPR 2017)."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden layers of the policy; their work is part of the cost."""
    prices: Literal["drawn", "lagrangian", "pid"] = "drawn"
    """Where the prices of streams with an average budget come from while learning: drawn from the
    stream's range, which meets all of them; or moved until the budgets are met, one price for each
    budget, by plain dual ascent or by PID control (`penstock.agents.prices`)."""
    gains: tuple[float, ...] = ()
    """Of that law: the rate of plain dual ascent, or the gains of the proportional, integral and
    derivative parts of PID control; none: its defaults."""
    inputs: int | None = None
    """On recordings: inputs of a stream while learning, where its whole length, on which the policy
    is judged, would only drown what a decision is worth in what others bring; None: all."""
    imitate: int = 0
    """On recordings, PPO: so many of the steps first follow priced plans (`agents.primal_dual`) and
    are learned by heart; then reinforcement learning starts from there."""
    memory: int = 64
    """recurrent_ppo: units of its LSTM, whose work is part of the cost, too."""
    checkpoint_s: float = 20.0
    """Seconds between checkpoints: what a crash can lose."""

    def __post_init__(self) -> None:
        if self.algorithm not in ("maskable_ppo", "ppo", "recurrent_ppo", "dqn"):
            raise InputError(
                "an algorithm is maskable_ppo, ppo, recurrent_ppo or dqn, got "
                f"{self.algorithm!r}; name one"
            )
        if self.inputs is not None and self.inputs < 1:
            raise InputError(f"streams have one input or more while learning, got {self.inputs}")
        if not 0 <= self.imitate <= self.steps:
            raise InputError(
                f"of the {self.steps} steps 0 or more imitate, got {self.imitate}; lower it"
            )
        if self.imitate and self.algorithm not in ("maskable_ppo", "ppo"):
            raise InputError(
                f"maskable_ppo and ppo can imitate first, got {self.algorithm}; name one of them, "
                "or set imitate = 0"
            )
        if self.prices not in ("drawn", "lagrangian", "pid"):
            raise InputError(f"prices are drawn, lagrangian or pid, got {self.prices!r}; name one")
        if self.prices == "drawn" and self.gains:
            raise InputError(
                "gains are those of a law that moves prices, got "
                f'{list(self.gains)} with prices = "drawn"; leave them out, or name lagrangian or '
                "pid"
            )
        wanted = 3 if self.prices == "pid" else 1
        if len(self.gains) not in (0, wanted) or not all(0 <= gain < inf for gain in self.gains):
            raise InputError(
                f"prices = {self.prices!r} take {wanted} gains of 0 or more, got "
                f"{list(self.gains)}; give as many, or none for the defaults"
            )
        if min(self.steps, self.lanes, self.horizon, self.batch_size, self.epochs) < 1:
            raise InputError(
                "steps, lanes, horizon, batch_size and epochs are at least 1, got "
                f"{self.steps}, {self.lanes}, {self.horizon}, {self.batch_size}, {self.epochs}"
            )
        if min(self.hidden, default=1) < 1 or self.memory < 1:
            raise InputError(
                "hidden layers and memory have one unit or more, got "
                f"{list(self.hidden)} and {self.memory}; leave others out"
            )
        for name, low, high in (
            ("learning_rate", 0.0, inf),
            ("entropy", 0.0, inf),
            ("discount", 0.0, 1.0),
            ("trace", 0.0, 1.0),
            ("checkpoint_s", 0.0, inf),
        ):
            value = getattr(self, name)
            if not (isfinite(value) and low <= value <= high):
                raise InputError(
                    f"{name} of a learner lies from {low:g} to {high:g}, got {value}; "
                    "choose one in between"
                )
        if self.self_critical and self.discount != 1:
            raise InputError(
                f"a self-critical reward needs discount = 1, got {self.discount}: with less, to "
                "answer late would pay; set self_critical = false"
            )
        collected = self.lanes * self.horizon
        if self.algorithm != "dqn" and (self.batch_size < 2 or collected % self.batch_size):
            raise InputError(
                f"batch_size should be at least 2 and divide the {collected} decisions of an "
                f"update (lanes times horizon), got {self.batch_size}; change one of the three"
            )

    @property
    def remembers(self) -> int:
        """Units of the policy's memory, 0 without one."""
        return self.memory if self.algorithm == "recurrent_ppo" else 0

    @property
    def joint(self) -> bool:
        """Whether the policy's network has an output for every combination of choices."""
        return self.algorithm == "dqn"
