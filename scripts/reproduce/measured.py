"""A learned policy by the clock: faster than the full network, eager and compiled, at equal answers.

penstock profile cifar10 --out cifar10.json
for n in 1 64; do penstock train cifar10_measured --data FOLDER --machine batch_$n.toml --out runs/measured-$n; done
python scripts/reproduce/measured.py runs/measured-1 runs/measured-64 --data FOLDER

docs/profile.md shows batch_1.toml and batch_64.toml. Run it while nothing else runs.
"""  # noqa: E501

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.deploy import Deployed
from penstock.agents.evaluation import interval
from penstock.agents.network import read_network
from penstock.agents.play import find_price, play
from penstock.backbones import Backbone, InputError, Setting, run_exactly
from penstock.backbones.prepared import prepare
from penstock.envs.budget import activation_shapes
from penstock.hardware.measured import Measured
from penstock.scripts.evaluate import open_scene
from penstock.scripts.guard import guarded
from penstock.scripts.pinned import pinned
from penstock.scripts.results import FOLDER, Claim, write_claims

Way = Callable[[Tensor], Tensor]
"""Images [n, C, H, W] -> logits [n, classes]."""


@dataclass(frozen=True)
class Arguments:
    """Time policies that learned on measured machines."""

    runs: Positional[tuple[Path, ...]]
    """Folders that `penstock train` made, one for each batch."""
    data: str
    """Folder with train.parquet and test.parquet, or the data set's name on the hub."""
    images: int = 256
    """Test images that are timed; accuracies are on all of them."""
    rounds: int = 15
    """Of which the medians are kept."""
    compiled: bool = True
    """Compare with torch.compile too, which needs a C++ compiler."""
    seed: int = 0
    """Of the images that are timed."""


def main() -> None:
    """Open, time, write down."""
    arguments = tyro.cli(Arguments)
    claims: list[Claim] = []
    lines: list[str] = []
    for run in arguments.runs:
        more, about = judge(run, arguments)
        claims += more
        lines += about
    write_claims("measured", claims)
    (FOLDER / "measured.md").write_text("\n".join(lines) + "\n")


def judge(run: Path, arguments: Arguments) -> tuple[list[Claim], list[str]]:
    """The claims about one run, and the figures behind them."""
    policy, scene, experiment, seed = open_scene(str(run), arguments.data, None)
    assert policy is not None
    machine, budget = scene.machine, experiment.budget
    if not isinstance(machine, Measured):
        raise InputError(
            f"{run} should have learned on a Measured machine, got {type(machine).__name__}; "
            "train it as docs/profile.md says"
        )
    n, table = machine.batch, json.loads(Path(machine.table).read_text())
    validation = scene.lanes("validation", learned=True, seed=seed)
    limit = budget.absolute(validation.full)
    price, _ = find_price(policy, validation, limit, budget.resource)
    test, labels = scene.lanes("test", learned=True, seed=seed), scene.data.test.labels
    predicted_s = play(policy, test, price=price).mean("latency_s")
    deployed = Deployed(test, read_network(run / "policy.safetensors"), price=price)
    ways = full_networks(scene.backbone, test.prices.settings[-1], compiled=arguments.compiled)
    ways["deployed"] = lambda images: deployed(images).logits

    images = (scene.data.test.pixels.float() / 255).contiguous(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(arguments.seed)
    timed = images[torch.randperm(len(images), generator=rng)[: arguments.images // n * n]]
    with pinned(table["threads"]), torch.inference_mode():
        right = {
            name: torch.cat([ways[name](x) for x in tqdm(torch.split(images, n), desc=name)])
            .argmax(dim=1)
            .eq(labels)
            .double()
            for name in ("eager", "deployed")
        }
        seconds = race(ways, torch.split(timed, n), arguments.rounds)
    lost = 100 * (right["eager"] - right["deployed"])

    where, seeds = f"{table['cpu']}, {table['threads']} threads", [seed]
    off = 100 * abs(table["whole"][str(n)]["sum_over_whole"] - 1)
    claims = [
        Claim(
            f"sum of the table beside the whole network, % apart, batch of {n}",
            off,
            10 if n == 1 else 15,
            "<=",
            "whole network, prepared",
            [table["seed"]],
            where,
        ),
        Claim(
            f"points lost against the full network, batch of {n}",
            float(lost.mean()),
            1.0,
            "<=",
            "full network",
            seeds,
            where,
            interval(lost.numpy()),
        ),
    ]
    for name in list(ways)[:-1]:
        claims.append(
            Claim(
                f"times as fast as the full network, {name}, batch of {n}",
                seconds[name] / seconds["deployed"],
                1.6,
                ">=",
                f"full network, {name}",
                seeds,
                where,
            )
        )
    each = ", ".join(f"{name} {1e3 * s / len(timed):.3f} ms" for name, s in seconds.items())
    share = {name: f"{100 * float(each.mean()):.2f} %" for name, each in right.items()}
    lines = [
        f"- Batch of {n}, seconds of one image: {each}. The table predicted "
        f"{1e3 * predicted_s:.3f} ms for the policy (price {price:.3g}). Right answers: "
        f"{share['deployed']}, full network {share['eager']}.",
    ]
    return claims, lines


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

    ways: dict[str, Way] = {"eager": eager, "prepared": prepared}
    if compiled:
        ways["torch.compile"] = torch.compile(eager, dynamic=False)
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
