"""`penstock bench`: how fast the live environment is, all measured side by side in one run."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from penstock.backbones import InputError, shipped
from penstock.hardware import build_machine
from penstock.scripts.comparisons import (
    Case,
    Figures,
    against_exact,
    against_forward,
    against_masks,
    against_naive,
    medians,
    random_case,
)
from penstock.scripts.run import check_seed

MEANINGS = (
    ("live_env_over_forward", ">= 0.85", "full setting: network alone / environment, by time"),
    ("live_env_images_per_s", "", "full setting, environment"),
    ("forward_images_per_s", "", "full setting, network alone"),
    ("live_env_over_naive", ">= 20", "random decisions: DummyVecEnv / environment, by time"),
    ("random_live_env_images_per_s", "", "random decisions, environment"),
    ("random_naive_images_per_s", "", "random decisions, DummyVecEnv"),
    ("naive_threads", "", "threads that DummyVecEnv was fastest with"),
    ("naive_envs", "", "environments that it was fastest with"),
    ("erring_over_exact", ">= 0.5", "full setting: exact machine / analog over DRAM, by time"),
    ("erring_bit_error_rate", "", "of that DRAM; the analog noise is at 10 dB"),
    ("grouped_mac_share", "{share}", "multiplications that were left to do"),
    ("grouped_wall_share", "{share}", "time of groups / time of groups at full"),
    ("masked_wall_share", "", "time of masks / time of masks at full; nothing is left out"),
    ("masked_full_over_forward", "", "time of masks at full / network alone"),
    ("max_logit_difference", "<= 1e-4", "between groups and masks, same decisions"),
    ("import_s", "< 2", 'python -c "import penstock.envs"'),
    ("list_s", "< 1", "penstock list"),
)
"""Figure, what is wanted, what it means."""


@dataclass(frozen=True)
class Arguments:
    """Measure how fast the live environment is, beside the raw network and a naive environment."""

    json: bool = False
    """Print one JSON object instead of a table."""
    backbone: str = "cifar10"
    """Name of a backbone that ships with Penstock."""
    machine: str = "microcontroller"
    """What prices the work: a preset, a .toml file or "module:Name"."""
    lanes: int = 256
    """Inputs in flight."""
    repeats: int = 7
    """Rounds, of which each figure is the median."""
    seed: int = 0
    """Of images and decisions."""


def run(arguments: Arguments) -> None:
    """Measure and print."""
    figures = bench(arguments)
    print(json.dumps(figures, indent=2) if arguments.json else table(figures))


def bench(arguments: Arguments) -> Figures:
    """Everything that `penstock bench` says.

    Raises:
        InputError: if there is no such backbone or machine, or a number is below 1.
    """
    check_seed(arguments.seed)
    if min(arguments.lanes, arguments.repeats) < 1:
        raise InputError(
            f"lanes and repeats are at least 1, got {arguments.lanes} and {arguments.repeats}; "
            "raise them"
        )
    case = random_case(
        shipped(arguments.backbone),
        build_machine(arguments.machine),
        lanes=arguments.lanes,
        repeats=arguments.repeats,
        seed=arguments.seed,
    )
    return {"backbone": arguments.backbone, **measure(case), **startup()}


def measure(case: Case) -> Figures:
    """All comparisons, and where they were made."""
    return {
        "cpu": cpu(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "lanes": len(case.images),
        "repeats": case.repeats,
        **against_forward(case),
        **against_naive(case),
        **against_exact(case),
        **against_masks(case),
    }


def startup(repeats: int = 3) -> Figures:
    """Seconds of a fresh Python that imports the environments, and of `penstock list`.

    Both find compiled bytecode, as after an installation.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    script = Path(sys.executable).with_name("penstock")
    by_hand = "import sys; from penstock.scripts.main import main; sys.exit(main())"
    penstock = [str(script)] if script.exists() else [sys.executable, "-c", by_hand]
    commands = {
        "import_s": [sys.executable, "-c", "import penstock.envs"],
        "list_s": [*penstock, "list"],
    }
    tasks = {
        name: partial(
            subprocess.run, command, check=True, stdout=subprocess.DEVNULL, env=environment
        )
        for name, command in commands.items()
    }
    return {**medians("startup", tasks, repeats)}


def cpu() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(figures: Figures) -> str:
    """Figures as text, with what each means and should be."""
    lines = [f"{'figure':36}{'is':>9}  {'wanted':10}meaning"]
    for key, wanted, meaning in MEANINGS:
        value = figures[key]
        each = value.items() if isinstance(value, dict) else [("", value)]
        for share, number in each:
            text = f"{number:.3g}" if isinstance(number, float) else str(number)
            goal = wanted.format(share=share)
            lines.append(f"{f'{key} {share}':36}{text:>9}  {goal:10}{meaning}")
    where = ("backbone", "cpu", "torch", "threads", "lanes", "repeats")
    return "\n".join([*lines, "", ", ".join(f"{key} {figures[key]}" for key in where)])
