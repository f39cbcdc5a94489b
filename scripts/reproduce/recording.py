"""Recordings: as fast as they should be, equal to the network, and hard budgets never exceeded.

python scripts/reproduce/recording.py

Everything embedded: digits. Run it while nothing else runs.
"""

import sys
import time
from dataclasses import dataclass, replace
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode
from torch import Tensor
from tqdm import tqdm

from penstock.agents.learner import Learner
from penstock.agents.sb3 import train
from penstock.backbones import load_data, shipped
from penstock.envs import (
    Arrivals,
    Battery,
    Budget,
    InferenceVectorEnv,
    Lanes,
    Live,
    Stream,
    Switching,
    record_outcomes,
)
from penstock.envs.source import Source
from penstock.hardware import RESOURCES, build_machine
from penstock.scripts.bench import cpu
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, write_claims

PLAIN = Stream(
    inputs_per_episode=200,
    stages=(0, 2, 4),
    price=(0.05, 2.0),
    choices={"bits": (8,), "run": (1,), "width": (0.5, 1.0)},
)
"""Decisions before every other block: two widths, and exits."""


@dataclass(frozen=True)
class Arguments:
    """Measure and compare."""

    lanes: int = 4096
    """Of the environment whose speed is measured."""
    rounds: int = 9
    """Of which the median is kept."""
    seed: int = 0
    """Of actions and streams."""


def main() -> None:
    """Measure, write down."""
    arguments = tyro.cli(Arguments)
    where, images = cpu(), load_data("digits").train
    live = Live(shipped("digits"), build_machine("microcontroller"), images)
    recording = record_outcomes(live, PLAIN)
    claims = []

    torch.set_num_threads(1)
    speeds = {
        "plain": steps_per_s(recording, PLAIN, arguments),
        "two hard budgets": steps_per_s(recording, replace(PLAIN, budgets=hard()), arguments),
        "arrivals, battery and switching": steps_per_s(recording, busy(), arguments),
    }
    wifi = Live(live.backbone, build_machine("split_wifi"), images)
    speeds["link"] = steps_per_s(record_outcomes(wifi, PLAIN), PLAIN, arguments)
    text = f"million steps/s of a recorded environment, one core, {arguments.lanes} lanes"
    claims.append(Claim(text, speeds["plain"] / 1e6, 5.0, ">=", "", [arguments.seed], where))

    torch.set_num_threads(2)
    learner = Learner(steps=1_000_000, horizon=16, batch_size=4096, epochs=4, hidden=(16,))
    lanes = Lanes(recording, PLAIN, lanes=learner.lanes, controller=(16,), seed=arguments.seed)
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(lanes, learner, folder, seed=arguments.seed)
        learned = learner.steps / (time.perf_counter() - start)
    text = "thousand steps/s with the learner, MaskablePPO, 2 cores"
    claims.append(Claim(text, learned / 1e3, 30.0, ">=", "", [arguments.seed], where))

    # At 32 bits, as others round: the last bit of a sum depends on the size of the batch.
    exact = replace(PLAIN, inputs_per_episode=5, choices={**PLAIN.choices, "bits": (32,)})
    worst, differing = compared(live, record_outcomes(live, exact), exact, arguments)
    text = "largest difference of observation or reward in 10 000 random steps, same seed"
    claims.append(Claim(text, worst, 1e-5, "<=", "live", [arguments.seed], "microcontroller"))
    text = "steps of these whose masks, ends, inputs or right answers differ"
    claims.append(Claim(text, differing, 0, "<=", "live", [arguments.seed], "microcontroller"))

    over = exceeded(recording, replace(PLAIN, budgets=hard()), 1_000_000, arguments)
    text = "streams or inputs over a hard budget in a million steps, two resources at once"
    claims.append(Claim(text, over, 0, "<=", "", [arguments.seed], "microcontroller"))
    write_claims("recording", claims)
    each = ", ".join(f"{name} {speed / 1e6:.2f}" for name, speed in speeds.items())
    (FOLDER / "recording.md").write_text(
        f"- Million steps/s by the rules of streams: {each}. Shells, infos and restarts included; "
        "drawing actions is not.\n- Compared at 32 bits. At 8 a last bit that differs between "
        "batch sizes may round to another level, and features differ by some thousandths.\n"
    )


def hard() -> tuple[Budget, ...]:
    """One per stream and one per input, on two resources."""
    return (
        Budget("energy_j", 180.0, relative=True, kind="hard", per="stream"),
        Budget("latency_s", 1.6, relative=True, kind="hard", per="input"),
    )


def busy() -> Stream:
    """Inputs that come in bursts, a battery under a sun, widths that cost to turn."""
    return replace(
        PLAIN,
        arrivals=Arrivals(period_s=0.02, burst=3.0, jitter=1.0, deadline_s=0.1, capacity=4),
        battery=Battery(capacity_j=50.0, idle_w=1.0, harvest_w=40.0, sun_s=4.0),
        switching=(Switching("width", energy_j=0.05, latency_s=0.05),),
    )


def steps_per_s(source: Source, stream: Stream, arguments: Arguments) -> float:
    """Of the environment alone, random allowed actions drawn aside."""
    lanes = Lanes(source, stream, lanes=arguments.lanes, controller=(16,), seed=arguments.seed)
    env = InferenceVectorEnv(lanes, autoreset=AutoresetMode.SAME_STEP)
    env.reset(seed=arguments.seed)
    rng, speeds = torch.Generator().manual_seed(arguments.seed), []
    for _ in tqdm(range(arguments.rounds), desc="steps", unit="round"):
        seconds = 0.0
        for _ in range(60):
            actions = allowed_actions(lanes, rng).numpy()
            start = time.perf_counter()
            env.step(actions)
            seconds += time.perf_counter() - start
        speeds.append(60 * arguments.lanes / seconds)
    return median(speeds[1:])


def allowed_actions(lanes: Lanes, rng: torch.Generator) -> Tensor:
    """Any allowed choice of every knob, [N, K]."""
    chances = torch.rand(lanes.allowed.shape, generator=rng) * lanes.allowed
    sizes = [len(knob.choices) for knob in lanes.knobs]
    parts = torch.split_with_sizes(chances, sizes, dim=1)
    return torch.stack([part.argmax(dim=1) for part in parts], dim=1)


def compared(
    live: Live, recording: Source, stream: Stream, arguments: Arguments
) -> tuple[float, int]:
    """Largest difference between both over 10 000 decisions, and steps that differ otherwise."""
    n = 50
    both = [Lanes(s, stream, lanes=n, seed=arguments.seed) for s in (live, recording)]
    envs = [InferenceVectorEnv(lanes, autoreset=AutoresetMode.SAME_STEP) for lanes in both]
    rng = np.random.default_rng(arguments.seed)
    sizes = [len(knob.choices) for knob in both[0].knobs]
    worst, differing = 0.0, 0
    first, second = (env.reset(seed=arguments.seed)[0] for env in envs)
    for _ in range(10_000 // n):
        worst = max(worst, float(np.abs(first - second).max()))
        masks = [env.action_masks() for env in envs]
        actions = rng.integers(0, sizes, (n, len(sizes)))
        (first, reward, done, _, _), (second, again, ended, _, _) = (
            env.step(actions) for env in envs
        )
        answers = [env.last.outcomes for env in envs]
        same = (masks[0] == masks[1]).all() and (done == ended).all()
        same = same and torch.equal(answers[0].inputs, answers[1].inputs)
        differing += not (same and torch.equal(answers[0].right, answers[1].right))
        worst = max(worst, float(np.abs(reward - again).max()))
    return worst, differing


def exceeded(source: Source, stream: Stream, steps: int, arguments: Arguments) -> int:
    """Inputs at whose answer a hard budget was exceeded, whatever was asked for."""
    lanes = Lanes(source, stream, lanes=arguments.lanes, controller=(16,), seed=arguments.seed)
    env = InferenceVectorEnv(lanes, autoreset=AutoresetMode.SAME_STEP)
    env.reset(seed=arguments.seed)
    rng, over = np.random.default_rng(arguments.seed), 0
    sizes = [len(knob.choices) for knob in lanes.knobs]
    places = [RESOURCES.index(budget.resource) for budget in stream.budgets]
    spent = torch.zeros(lanes.n, dtype=torch.float64)
    for _ in tqdm(range(-(-steps // lanes.n)), desc="hard budgets", unit="step"):
        env.step(rng.integers(0, sizes, (lanes.n, len(sizes))))
        # Counted here again, so that the engine's own account is not trusted.
        answers, done = env.last.outcomes, env.last.done
        spent.index_add_(0, answers.lanes, answers.cost[:, places[0]].contiguous())
        limits = lanes.ledger.limits[0]
        over += int((spent > limits[0] * (1 + 1e-8)).sum()) + int(answers.over.sum())
        over += int((answers.cost[:, places[1]] > limits[1] * (1 + 1e-8)).sum())
        spent[done] = 0.0
    return over


if __name__ == "__main__":
    sys.exit(guarded(main))
