"""The live environment timed beside what else could be done: the network alone, masks, naivety.

Letters: `N` lanes, `D` blocks, `K` knobs, `T` steps.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import gcd
from statistics import median

import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor
from tqdm import tqdm

from penstock.backbones import (
    EXIT,
    RUN,
    WIDTH,
    Backbone,
    Images,
    Setting,
    every_setting,
    restrict,
    work,
)
from penstock.envs import InferenceVectorEnv, Lanes, Live, Outcomes, Stream
from penstock.envs.price_table import activation_shapes
from penstock.hardware import RESOURCES, Analog, Dram, Machine, build_machine
from penstock.scripts.naive import NaiveEnv, Script, live_pass, naive_pass, random_script

Figures = dict[str, float | str | dict[str, float]]

WIDER = 4
"""Lanes of the environment against the naive one, as a multiple of the images."""

SHARES = (0.25, 0.5, 0.75)
"""Of the full network's multiplications."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed."""

    backbone: Backbone
    machine: Machine
    images: Images  # N of them
    repeats: int
    seed: int

    def lanes(self, *, controller: Sequence[int] | None) -> Lanes:
        """An engine with a lane an image."""
        n = len(self.images)
        live = Live(self.backbone, self.machine, self.images)
        return Lanes(live, Stream(), lanes=n, controller=controller)

    def naive(self, count: int) -> list[NaiveEnv]:
        """Environments for one image each."""
        return [NaiveEnv(self.backbone, self.machine, self.images) for _ in range(count)]

    def rng(self) -> torch.Generator:
        """The source of this case's decisions."""
        return torch.Generator().manual_seed(self.seed)


def random_case(
    backbone: Backbone, machine: Machine, *, lanes: int, repeats: int = 7, seed: int = 0
) -> Case:
    """A case with noise for images: what is in them makes no work."""
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (lanes, *backbone.shape), dtype=torch.uint8, generator=rng)
    labels = torch.randint(backbone.classes, (lanes,), generator=rng)
    names = tuple(str(label) for label in range(backbone.classes))
    return Case(backbone, machine, Images(pixels, labels, names), repeats, seed)


def against_forward(case: Case) -> Figures:
    """The environment at full against the network alone, from uint8 pixels to the last answer.

    Both run stem, blocks and all heads on the same N images. The environment also makes an
    observation and a mask before each of D decisions and prices every block and decision. The
    network may lay its images out as it likes: the faster way counts.
    """
    lanes = case.lanes(controller=(64, 64))
    full = full_actions(lanes)
    seconds = medians(
        "full network",
        {
            "env": partial(walk, lanes, full),
            "channels first": partial(forward, case, channels_last=False),
            "channels last": partial(forward, case),
        },
        case.repeats,
    )
    forward_s = min(seconds["channels first"], seconds["channels last"])
    return {
        "live_env_over_forward": forward_s / seconds["env"],
        "live_env_images_per_s": len(case.images) / seconds["env"],
        "forward_images_per_s": len(case.images) / forward_s,
    }


def against_naive(case: Case) -> Figures:
    """The environment against `DummyVecEnv` of `NaiveEnv`, by images per second.

    Every decision is drawn uniformly beforehand, for every lane and 3 * D steps; a lane that
    answered takes its next image in the same step. The environment has 4 * N lanes, at the default
    as many as a learner's. The naive side takes the decisions of the first N of them, with 1 or 2
    threads and with 1, 16 or N environments, whichever is fastest in a trial before the rounds.
    """
    n = len(case.images)
    again = torch.arange(WIDER * n) % n
    lanes = replace(case, images=case.images.take(again)).lanes(controller=(64, 64))
    depth = lanes.backbone.depth
    wide = random_script(lanes, 3 * depth, case.rng())
    wide = Script(wide.inputs % n, wide.actions)
    script = wide.take(slice(0, n))
    part = Script(script.inputs, script.actions[:depth])
    tried: list[tuple[float, int, int]] = []
    for threads, envs in product(
        sorted({1, min(2, torch.get_num_threads())}), sorted({1, gcd(n, 16), n})
    ):
        trial = naive_pass(case.naive(envs), part, threads)
        what = f"naive {threads} x {envs}"
        tried.append((medians(what, {what: trial}, 1)[what], threads, envs))
    _, threads, envs = min(tried)
    naive = naive_pass(case.naive(envs), script, threads)
    vector = InferenceVectorEnv(lanes, autoreset=AutoresetMode.DISABLED)
    seconds = medians(
        "random decisions",
        {"env": partial(live_pass, vector, wide), "naive": naive},
        case.repeats,
    )
    live = live_pass(vector, wide) / seconds["env"]
    narrow = InferenceVectorEnv(case.lanes(controller=(64, 64)), autoreset=AutoresetMode.DISABLED)
    one_by_one = live_pass(narrow, script) / seconds["naive"]
    return {
        "live_env_over_naive": live / one_by_one,
        "random_live_env_images_per_s": live,
        "random_naive_images_per_s": one_by_one,
        "naive_threads": threads,
        "naive_envs": envs,
    }


def against_exact(case: Case) -> Figures:
    """The environment on a machine that errs against the same on the machine inside of it.

    Analog products of 10 dB over a DRAM with one wrong bit in a thousand or the next rate that its
    curve has, everything at full and 8 bits. Every product draws noise for each output, every
    weight and feature map loses bits.
    """
    dram = build_machine("dram")
    assert isinstance(dram, Dram)
    volts = min(dram.knobs[0].choices, key=lambda v: abs(dram.voltage_curve.rate(v) - 1e-3))
    machines: dict[str, tuple[Machine, dict[str, tuple[float, ...]]]] = {
        "exact": (dram.inner, {"bits": (8,)}),
        "erring": (Analog(dram), {"bits": (8,), "dram_v": (volts,), "snr_db": (10,)}),
    }
    tasks = {}
    for name, (machine, choices) in machines.items():
        stream = Stream(choices=choices)
        lanes = Lanes(
            Live(case.backbone, machine, case.images),
            stream,
            lanes=len(case.images),
            controller=None,
            seed=case.seed,
        )
        tasks[name] = partial(walk, lanes, full_actions(lanes))
    seconds = medians("machine that errs", tasks, case.repeats)
    return {
        "erring_over_exact": seconds["exact"] / seconds["erring"],
        "erring_bit_error_rate": dram.voltage_curve.rate(volts),
    }


def against_masks(case: Case) -> Figures:
    """Wall-clock time that is left when work is left out, in groups and with masks.

    Each lane draws `run`, `width` and whether to go on anew at every block; other knobs stay full.
    The draws are tilted towards cheap or dear choices until the multiplications of all lanes are
    a share of the full network's. The environment runs groups, and so leaves the rest out; masks
    give the blocks the same decisions as tensors [N], compute everything, and pick the answer of
    each lane's exit. Each time is divided by that of the same way at full: the environment with
    every lane at full, the blocks with masks that say full. Masks at full cost more than the plain
    network, `masked_full_over_forward` times: each block computes every width, as it has other
    statistics for each.
    """
    lanes = case.lanes(controller=None)
    actions = {"full": full_actions(lanes)}
    actions |= {str(share): tilted_actions(lanes, share, case.rng()) for share in SHARES}
    masks = {name: as_masks(lanes, each) for name, each in actions.items()}
    tasks: dict[str, Callable[[], object]] = {"forward": partial(forward, case)}
    mac_share, difference = {}, 0.0
    for name in actions:
        tasks[f"grouped {name}"] = partial(walk, lanes, actions[name])
        outcomes = walk(lanes, actions[name])
        macs = sum(float(o.cost[:, RESOURCES.index("macs")].sum()) for o in outcomes)
        mac_share[name] = macs / (lanes.n * float(lanes.full.macs))
        exits = torch.empty(lanes.n, dtype=torch.int64)
        for each in outcomes:
            exits[each.lanes] = each.exit
        tasks[f"masked {name}"] = partial(masked, case, masks[name], exits)
        apart = lanes.logits - masked(case, masks[name], exits)
        difference = max(difference, float(apart.abs().max()))
    seconds = medians("part of the work", tasks, case.repeats)
    shares = [str(share) for share in SHARES]
    return {
        "grouped_mac_share": {s: mac_share[s] for s in shares},
        "grouped_wall_share": {
            s: seconds[f"grouped {s}"] / seconds["grouped full"] for s in shares
        },
        "masked_wall_share": {s: seconds[f"masked {s}"] / seconds["masked full"] for s in shares},
        "masked_full_over_forward": seconds["masked full"] / seconds["forward"],
        "max_logit_difference": difference,
    }


def medians(what: str, tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, run in turn (A B A B), after a first round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for count in tqdm(range(repeats + 1), desc=f"{what:18}", unit="round"):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if count > 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(each) for name, each in seconds.items()}


@torch.no_grad()
def forward(case: Case, *, channels_last: bool = True) -> Tensor:
    """The network alone, one batch from uint8 pixels to the last answer, [N, classes]."""
    logits: Tensor = case.backbone.eval()(_floats(case.images, channels_last))
    return logits


@torch.no_grad()
def masked(case: Case, masks: Sequence[Setting], exits: Tensor) -> Tensor:
    """Everything computed; of all answers that of each lane's exit, [N, classes].

    Args:
        case: the network and its N images.
        masks: tensors [N] for each block.
        exits: the blocks after which the lanes leave, [N].
    """
    answers = case.backbone.eval().answers(_floats(case.images), masks)
    places = torch.tensor(list(answers))
    which = torch.searchsorted(places, exits)
    return torch.stack(list(answers.values()))[which, torch.arange(len(exits))]


def _floats(images: Images, channels_last: bool = True) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return (images.pixels.float() / 255).contiguous(memory_format=layout)


def walk(lanes: Lanes, actions: Tensor) -> list[Outcomes]:
    """The environment from uint8 pixels to the answers of all lanes, by actions [D, N, K]."""
    everyone = torch.arange(lanes.n)
    lanes.start(everyone, everyone.unsqueeze(1), price=lanes.stream.price[1])
    return [lanes.step(each).outcomes for each in actions]


def full_actions(lanes: Lanes) -> Tensor:
    """Every knob at its last choice, [D, N, K]; the last choice of `exit` is to go on."""
    last = torch.tensor([len(knob.choices) - 1 for knob in lanes.knobs])
    return last.repeat(lanes.backbone.depth, lanes.n, 1)


def tilted_actions(lanes: Lanes, share: float, rng: torch.Generator) -> Tensor:
    """Random choices whose multiplications are a share of the full network's, [D, N, K].

    Turned are `exit`, wherever a head was just run, `run` and `width`. Choice i of a knob with m
    choices has probability proportional to exp(tilt * i / (m - 1)); the tilt is found by bisection,
    on one set of uniform draws.
    """
    backbone, depth = lanes.backbone, lanes.backbone.depth
    places = [i for i, knob in enumerate(lanes.knobs) if knob in (EXIT, RUN, WIDTH)]
    knobs = [lanes.knobs[i] for i in places]
    shapes = activation_shapes(backbone)
    counts, may_leave = [], torch.zeros(depth, 1, dtype=torch.bool)
    for index in range(depth):
        block, head = backbone.block(index), backbone.head(index)
        answer = work(head, {}, shapes[index + 1]).macs if head else 0
        may_leave[index + 1 :][:1] = head is not None
        counts += [
            work(block, restrict(s, block), shapes[index]).macs + answer
            for s in every_setting(knobs[1:])
        ]
    macs = torch.tensor(counts, dtype=torch.float64).view(
        depth, *(len(k.choices) for k in knobs[1:])
    )
    full_macs = float(lanes.full.macs)
    fixed = full_macs - float(macs.flatten(1)[:, -1].sum())  # the stem
    uniform = torch.rand(len(knobs), depth, lanes.n, generator=rng)

    def draw(tilt: float) -> tuple[list[Tensor], float]:
        edges = [torch.linspace(0, tilt, len(k.choices)).softmax(0).cumsum(0) for k in knobs]
        chosen = [torch.bucketize(u, e[:-1]) for u, e in zip(uniform, edges, strict=True)]
        goes_on = (chosen[0] == 1) | ~may_leave
        done = macs[torch.arange(depth).unsqueeze(1), *chosen[1:]] * goes_on.cumprod(dim=0)
        return [goes_on.long(), *chosen[1:]], (fixed + float(done.sum(dim=0).mean())) / full_macs

    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if draw(middle)[1] > share else (middle, high)
    actions = full_actions(lanes)
    actions[:, :, places] = torch.stack(draw(low)[0], dim=2)
    return actions


def as_masks(lanes: Lanes, actions: Tensor) -> list[Setting]:
    """Actions [D, N, K] as tensors [N] for each block, of `run` and `width` only."""
    turned = [(k, knob) for k, knob in enumerate(lanes.knobs) if knob in (RUN, WIDTH)]
    return [
        {knob.name: torch.tensor(knob.choices)[each[:, k]] for k, knob in turned}
        for each in actions
    ]
