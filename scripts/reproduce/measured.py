"""A learned policy by the clock: faster than the full network, eager and compiled, at equal answers.

penstock profile cifar10 --out cifar10.json
for n in 1 64; do for s in 0 1 2; do penstock train cifar10_measured --seed $s --data FOLDER --machine batch_$n.toml --out runs/measured-$n-$s; done; done
python scripts/reproduce/measured.py runs/measured-*-? --data FOLDER

docs/profile.md shows batch_1.toml and batch_64.toml. Run it while nothing else runs.
"""  # noqa: E501

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.deploy import Deployed
from penstock.agents.evaluation import interval
from penstock.agents.network import read_network
from penstock.agents.play import play
from penstock.agents.policy import Policy
from penstock.agents.scene import Scene
from penstock.backbones import Backbone, InputError, Setting, run_exactly
from penstock.backbones.prepared import prepare
from penstock.backbones.training import accuracies
from penstock.envs import Lanes
from penstock.envs.price_table import activation_shapes
from penstock.hardware.measured import Measured
from penstock.scripts.evaluate import open_scene
from penstock.scripts.guard import guarded
from penstock.scripts.pinned import pinned
from penstock.scripts.results import FOLDER, Claim, write_claims

Way = Callable[[Tensor], Tensor]
"""Images [n, C, H, W] -> logits [n, classes]."""
EAGER = "eager"
"""The full network block by block, as its code says."""


@dataclass(frozen=True)
class Arguments:
    """Time policies that learned on measured machines."""

    runs: Positional[tuple[Path, ...]]
    """Folders that `penstock train` made, of any batches and seeds."""
    data: str
    """Folder with train.parquet and test.parquet, or the data set's name on the hub."""
    loss: float = 0.5
    """Points that may be lost on validation images: the policy gets the highest price that keeps to
    it. Half of what may be lost on test images."""
    images: int = 256
    """Test images that are timed; accuracies are on all of them."""
    rounds: int = 15
    """Of which the medians are kept."""
    compiled: bool = True
    """Compare with torch.compile too, which needs a C++ compiler."""
    seed: int = 0
    """Of the images that are timed."""


@dataclass(frozen=True)
class Player:
    """A policy that learned on a measured machine, and what is chosen and predicted for it."""

    seed: int
    machine: Measured
    scene: Scene
    price: float
    deployed: Deployed
    predicted_s: float
    """Seconds of an image, by the table."""


def main() -> None:
    """Open, time, write down."""
    arguments = tyro.cli(Arguments)
    players = [player(run, arguments) for run in arguments.runs]
    claims, lines = [], []
    for n in sorted({each.machine.batch for each in players}):
        found, said = judge([each for each in players if each.machine.batch == n], arguments)
        claims += found
        lines += said
    write_claims("measured", claims)
    (FOLDER / "measured.md").write_text("\n".join(lines) + "\n")


def player(run: Path, arguments: Arguments) -> Player:
    """Open a run, and find its price on validation images."""
    policy, scene, _, seed = open_scene(str(run), arguments.data, None)
    assert policy is not None
    machine = scene.machine
    if not isinstance(machine, Measured):
        raise InputError(
            f"{run} should have learned on a Measured machine, got {type(machine).__name__}; "
            "train it as docs/profile.md says"
        )
    validation = scene.lanes("validation", learned=True, seed=seed)
    whole = accuracies(scene.backbone, scene.data.validation)[scene.backbone.depth - 1]
    price = highest_price(policy, validation, whole - arguments.loss / 100)
    test = scene.lanes("test", learned=True, seed=seed)
    return Player(
        seed=seed,
        machine=machine,
        scene=scene,
        price=price,
        deployed=Deployed(test, read_network(run / "policy.safetensors"), price=price),
        predicted_s=play(policy, test, price=price).mean("latency_s"),
    )


def judge(players: Sequence[Player], arguments: Arguments) -> tuple[list[Claim], list[str]]:
    """Time policies of one batch beside the full network, and count what they get wrong."""
    scene, machine = players[0].scene, players[0].machine
    n, table = machine.batch, json.loads(Path(machine.table).read_text())
    seeds = [each.seed for each in players]
    if len(set(seeds)) < len(seeds) or any(each.machine != machine for each in players):
        raise InputError(
            f"runs of one batch should share their machine and have different seeds, got {seeds} "
            f"for a batch of {n}; leave the others out"
        )
    setting = scene.lanes("test", learned=True).prices.settings[-1]
    full = full_networks(scene.backbone, setting, compiled=arguments.compiled)
    policies = {f"policy {each.seed}": answering(each.deployed) for each in players}

    data = scene.data.test
    images = (data.pixels.float() / 255).contiguous(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(arguments.seed)
    timed = images[torch.randperm(len(images), generator=rng)[: arguments.images // n * n]]
    with pinned(table["threads"]), torch.inference_mode():
        right = {
            name: torch.cat([way(x) for x in tqdm(torch.split(images, n), desc=name)])
            .argmax(dim=1)
            .eq(data.labels)
            .double()
            for name, way in {EAGER: full[EAGER], **policies}.items()
        }
        seconds = race({**full, **policies}, torch.split(timed, n), arguments.rounds)
    lost = [100 * (right[EAGER] - right[name]) for name in policies]
    ends = [interval(each.numpy()) for each in lost]  # seeds share images: as sure as one
    where = f"{table['cpu']}, {table['threads']} threads"
    claims = [
        Claim(
            f"sum of the table beside the whole network, % apart, batch of {n}",
            100 * abs(table["whole"][str(n)]["sum_over_whole"] - 1),
            10 if n == 1 else 15,
            "<=",
            "whole network, prepared",
            [],
            where,
        ),
        Claim(
            f"points lost against the full network, batch of {n}",
            mean(float(each.mean()) for each in lost),
            1.0,
            "<=",
            "full network",
            seeds,
            where,
            (mean(low for low, _ in ends), mean(high for _, high in ends)),
        ),
    ]
    for name in full:
        text = f"times as fast as the full network, {name}, batch of {n}"
        ratio = mean(seconds[name] / seconds[policy] for policy in policies)
        claims.append(Claim(text, ratio, 1.6, ">=", f"full network, {name}", seeds, where))
    each_ms = {name: 1e3 * s / len(timed) for name, s in seconds.items()}
    share = {name: f"{100 * float(each.mean()):.2f} %" for name, each in right.items()}
    lines = [
        f"- Batch of {n}, full network, milliseconds of one image: "
        + ", ".join(f"{name} {each_ms[name]:.3f}" for name in full)
        + f". Right answers: {share[EAGER]}.",
        *(
            f"- Batch of {n}, {name}: {each_ms[name]:.3f} ms, by the table "
            f"{1e3 * each.predicted_s:.3f} (price {each.price:.3g}). Right answers: {share[name]}."
            for name, each in zip(policies, players, strict=True)
        ),
    ]
    return claims, lines


def answering(deployed: Deployed) -> Way:
    """A deployed policy as a way to run the network."""
    return lambda images: deployed(images).logits


def highest_price(policy: Policy, lanes: Lanes, accuracy: float) -> float:
    """At which the policy is so often right, by bisection."""
    low, high = lanes.stream.price
    for _ in tqdm(range(8), desc="find a price", unit="play"):
        middle = (low * high) ** 0.5
        if play(policy, lanes, price=middle).right.mean() >= accuracy:
            low = middle
        else:
            high = middle
    return low


def full_networks(backbone: Backbone, setting: Setting, *, compiled: bool) -> dict[str, Way]:
    """The full network in the ways that it can be run; early exits are left out."""
    blocks = [backbone.stem, *(backbone.block(d) for d in range(backbone.depth))]
    last = backbone.head(backbone.depth - 1)
    assert last is not None
    shapes = [backbone.shape, *activation_shapes(backbone)]
    places = list(zip([*blocks, last], shapes, strict=True))
    bare = [prepare(block, setting, shape) for block, shape in places]

    def eager(images: Tensor) -> Tensor:
        for block, _ in places:
            images = run_exactly(block, images, setting)
        return images

    def prepared(images: Tensor) -> Tensor:
        for block in bare:
            images = block(images)
        return images

    ways: dict[str, Way] = {EAGER: eager, "prepared": prepared}
    if compiled:
        ways["torch.compile"] = torch.compile(eager, dynamic=False)
        ways["prepared, torch.compile"] = torch.compile(prepared, dynamic=False)
    return ways


def race(ways: Mapping[str, Way], batches: Sequence[Tensor], rounds: int) -> dict[str, float]:
    """Median seconds that each way takes for all batches, one way after the other in each round."""
    totals: dict[str, list[float]] = {name: [] for name in ways}
    for count in tqdm(range(rounds + 1), desc="race", unit="round"):
        for name, way in ways.items():
            start = time.perf_counter()
            for images in batches:
                way(images)
            if count > 0:  # the first compiles
                totals[name].append(time.perf_counter() - start)
    return {name: median(each) for name, each in totals.items()}


if __name__ == "__main__":
    sys.exit(guarded(main))
