"""What a user would write first: an environment for one image, many of them stepped in turn.

It is here to be beaten by `penstock bench`, and so written with care: no work that is skipped is
done, nothing is computed twice, and decisions, observations, rewards and costs are the engine's.
Beside it stand the two loops that take the same decisions with it and with the engine.

Letters: `N` streams, `T` steps, `K` knobs, `F` columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock.backbones import EXIT, Backbone, Block, Images, Setting, restrict
from penstock.envs import InferenceVectorEnv, Lanes, Stream
from penstock.envs.controller import Controller
from penstock.envs.observation import Observation, confidence, pooled
from penstock.hardware import Cost, Machine

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Script:
    """What happens, fixed beforehand so that two environments go through the same."""

    inputs: Tensor  # [N, T + 1] which image each stream holds, one after the other
    actions: Tensor  # [T, N, K] an index per knob, `exit` first

    def take(self, streams: slice) -> "Script":
        """Some of the streams."""
        return Script(self.inputs[streams], self.actions[:, streams])


@final
class NaiveEnv(gym.Env[Floats, NDArray[np.integer[Any]]]):
    """One image at a time through a backbone, block by block with batch 1.

    Its spaces, rewards and ends are those of `penstock.envs.InferenceEnv` with the default stream
    at the highest price; the machine runs nothing, it only prices.

    Args:
        backbone: put into evaluation mode.
        machine: prices stem, blocks, heads and the policy; its own state is not observed.
        images: inputs and their labels.
        hidden: layers of the policy's network.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's own declaration)

    def __init__(
        self,
        backbone: Backbone,
        machine: Machine,
        images: Images,
        hidden: Sequence[int] = (64, 64),
    ) -> None:
        self.backbone, self.machine, self.images = backbone.eval(), machine, images
        self.inputs: list[int] = [0]
        """The images to be shown, one a reset."""
        self.position = -1
        knobs = [k for k in (*backbone.knobs, *machine.knobs) if k.name != EXIT.name]
        self.knobs = [knob for knob in knobs if len(knob.choices) > 1]
        sizes = [2, *(len(knob.choices) for knob in self.knobs)]
        self.action_space = gym.spaces.MultiDiscrete(sizes)
        self.layout = Observation(range(backbone.depth))
        columns = len(self.layout.columns)
        low = np.array([column.low for column in self.layout.columns], np.float32)
        high = np.array([column.high for column in self.layout.columns], np.float32)
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        _, self.price = Stream().price
        self.decision = machine.price(Controller(columns, hidden, sum(sizes)), {}, (columns,))
        self.full_j = self._full_j()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Show the next image to the stem."""
        super().reset(seed=seed)
        self.position += 1
        self.index = self.inputs[self.position]
        self.depth, self.answered, self.spent = 0, False, Cost()
        self.observation = np.zeros(len(self.layout.columns), np.float32)
        self.observation[self.layout.confidence] = (0, 0, 0, 1, 0)
        self.observation[self.layout.where("price")] = 1
        with torch.no_grad():
            self.x = self._run(self.backbone.stem, self.images.pixels[[self.index]] / 255, {})
            self.observation[self.layout.features] = pooled(self.x)[0].numpy()
        return self._observe(), {}

    @torch.no_grad()
    def step(
        self, action: NDArray[np.integer[Any]]
    ) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Answer, or run the next block."""
        before_j = float(self.spent.energy_j)
        self.spent += self.decision
        leaving = self.answered and action[0] == 0
        if not leaving:
            self._advance(
                {k.name: k.choices[i] for k, i in zip(self.knobs, action[1:], strict=True)}
            )
        done = leaving or self.depth == self.backbone.depth
        reward = -self.price * (float(self.spent.energy_j) - before_j) / self.full_j
        info: dict[str, Any] = {}
        if done:
            right = int(self.logits.argmax()) == int(self.images.labels[self.index])
            reward += right
            info = {"right": right, "exit": self.depth - 1, **self.spent.each()}
        return self._observe(), reward, done, False, info

    def _advance(self, setting: Setting) -> None:
        """Through one block, and through the head behind it."""
        x = self._run(self.backbone.block(self.depth), self.x, setting)
        if x is not self.x:
            self.observation[self.layout.features] = pooled(x)[0].numpy()
        self.x = x
        head = self.backbone.head(self.depth)
        self.answered = head is not None
        if head is None:
            self.observation[self.layout.answered] = 0
        else:
            self.logits = self._run(head, x, {})
            self.observation[self.layout.confidence] = confidence(self.logits)[0].numpy()
        self.depth += 1

    def _run(self, block: Block, x: Tensor, setting: Setting) -> Tensor:
        self.spent += self.machine.price(block, setting, tuple(x.shape[1:]))
        y: Tensor = block(x, restrict(setting, block))
        return y

    def _observe(self) -> Floats:
        places = np.zeros(self.backbone.depth, np.float32)
        places[self.depth : self.depth + 1] = 1
        self.observation[self.layout.block] = places
        self.observation[self.layout.account.start] = float(self.spent.energy_j) / self.full_j
        return self.observation.copy()

    def _full_j(self) -> float:
        """What the full network spends, the policy's own work not included."""
        self.spent = Cost()
        with torch.no_grad():
            x = self._run(self.backbone.stem, torch.zeros(1, *self.backbone.shape), {})
            for index in range(self.backbone.depth):
                x = self._run(self.backbone.block(index), x, {})
                head = self.backbone.head(index)
                if head is not None:
                    self._run(head, x, {})
        return float(self.spent.energy_j)


def random_script(lanes: Lanes, steps: int, rng: torch.Generator) -> Script:
    """Uniform draws of images and of every knob."""
    n, count = lanes.n, len(lanes.images)
    draws = [torch.randint(len(k.choices), (steps, n), generator=rng) for k in lanes.knobs]
    inputs = torch.randint(count, (n, steps + 1), generator=rng)
    return Script(inputs, torch.stack(draws, dim=2))


def live_pass(env: InferenceVectorEnv, script: Script) -> int:
    """Take a script's steps; lanes that answered take their next image in the same step."""
    lanes, price, answered = env.lanes, env.lanes.stream.price[1], 0
    place = torch.zeros(lanes.n, dtype=torch.int64)
    lanes.start(torch.arange(lanes.n), script.inputs[:, :1], price=price)
    for actions in script.actions.numpy():
        env.step(actions)
        rows = env.last.done.nonzero().squeeze(1)
        place[rows] += 1
        lanes.start(rows, script.inputs[rows, place[rows]].unsqueeze(1), price=price)
        lanes.observation.numpy().copy()
        answered += len(rows)
    return answered


def naive_pass(envs: Sequence[NaiveEnv], script: Script, threads: int) -> Callable[[], int]:
    """Something that takes a script's steps with Stable-Baselines3's `DummyVecEnv`.

    Args:
        envs: stepped in turn; the script's streams are taken in portions of as many.
        script: of a number of streams that the number of envs divides.
        threads: of PyTorch while it runs.

    Returns:
        A function that runs it all and says how many inputs were answered.
    """
    from stable_baselines3.common.vec_env import DummyVecEnv

    vector = DummyVecEnv([_giving(env) for env in envs])
    portions = [
        script.take(slice(start, start + len(envs)))
        for start in range(0, len(script.inputs), len(envs))
    ]

    def run() -> int:
        answered, before = 0, torch.get_num_threads()
        torch.set_num_threads(threads)
        for portion in portions:
            for env, inputs in zip(envs, portion.inputs.tolist(), strict=True):
                env.inputs, env.position = inputs, -1
            vector.reset()
            for actions in portion.actions.numpy():
                _, _, dones, _ = vector.step(actions)
                answered += int(dones.sum())
        torch.set_num_threads(before)
        return answered

    return run


def _giving(env: NaiveEnv) -> Callable[[], NaiveEnv]:
    return lambda: env
