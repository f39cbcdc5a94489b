"""A network split over a real socket: predicted against measured latency, answers, a cut link.

python scripts/reproduce/split.py --data FOLDER

The server is a process of its own on this machine; the link between is shaped in user space.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from statistics import median, quantiles
from typing import final

import torch
import tyro
from torch import Tensor

from penstock.backbones import Backbone, Block, Setting, load_data, shipped
from penstock.hardware import Cost, Job, Link, Machine, Remote, Split, State, build_machine, through
from penstock.hardware.features import coded_bytes
from penstock.hardware.remote import placeholder
from penstock.scripts.bench import cpu
from penstock.scripts.guard import guarded
from penstock.scripts.results import Claim, write_claims
from penstock.scripts.shaping import shaped

BITS = (8, 32)


@dataclass(frozen=True)
class Arguments:
    """Split the shipped CIFAR-10 network over a shaped loopback."""

    data: str | None = None
    """Folder with train.parquet and test.parquet; without it images are random."""
    images: int = 100
    """Whose logits are compared."""
    judged: int = 2000
    """Whose answers are compared at 8 bits."""
    mbps: tuple[float, ...] = (1, 5, 20, 50)
    """Uplinks, in Mbit/s."""
    rtt_ms: tuple[float, ...] = (5, 20, 50)
    """Round-trip times."""
    blocks: tuple[int, ...] = (1, 4)
    """Before which the features leave."""
    repeats: int = 25
    """Of each measurement, of which the lower quartile is taken: other work only ever adds."""
    seed: int = 0
    """Of the images."""


@final
@dataclass(frozen=True)
class Timed(Machine):
    """Takes a measured time for the whole far half, at the block at which it begins."""

    first: str
    seconds: float

    def reset(self, n: int, rng: torch.Generator) -> State:
        """Nothing changes."""
        return {}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Computes nothing."""
        return placeholder(job.block, job.x), self.price(job.block, {}, ()), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """The time, once."""
        return Cost(latency_s=self.seconds if block.name == self.first else 0.0)


@torch.no_grad()
def main() -> None:
    """Measure, write down."""
    arguments = tyro.cli(Arguments)
    torch.set_num_threads(1)  # server and relay take the other core
    backbone, pixels = shipped("cifar10"), load_images(arguments)
    images = pixels[: arguments.images]
    changed = changed_answers(backbone, pixels)
    with serving() as port:
        difference = largest_difference(split(port), backbone, images)
        errors, ratios = compare_latency(port, backbone, images[:1], arguments)
        right, counted = cut_link(port, backbone, images)
    where = f"{cpu()}, 1 thread"
    cells = f"{len(errors)} cells of uplink, round trip, block and bits"

    def claim(text: str, figure: float, target: float, comparison: str, control: str) -> Claim:
        return Claim(text, figure, target, comparison, control, [arguments.seed], where)  # type: ignore[arg-type]

    over = f"error of predicted latency, share, over {cells}"
    write_claims(
        "split",
        [
            claim(f"largest {over}", max(errors), 0.2, "<=", "measured"),
            claim(f"median {over}", median(errors), 0.2, "<=", "measured"),
            claim(
                "bytes on the wire over bytes charged, largest", max(ratios), 1.1, "<=", "counted"
            ),
            claim("difference of logits at 32 bits, largest", difference, 0.0, "<=", "all local"),
            claim(
                f"share of {len(pixels)} answers that 8-bit features change, any block",
                changed,
                0.01,
                "<=",
                "32 bits",
            ),
            claim("share answered as all local, link cut midway", right, 1.0, ">=", "all local"),
            claim("share of lost transfers that were counted", counted, 1.0, ">=", "tried"),
        ],
    )


def load_images(arguments: Arguments) -> Tensor:
    """[judged, 3, 32, 32], of the test part where there are data."""
    rng = torch.Generator().manual_seed(arguments.seed)
    if arguments.data is None:
        return torch.rand(arguments.judged, 3, 32, 32, generator=rng)
    pixels = load_data(arguments.data).test.pixels
    return pixels[torch.randperm(len(pixels), generator=rng)[: arguments.judged]] / 255


@contextmanager
def serving() -> Iterator[int]:
    """A server process; its port."""
    command = [sys.executable, "-m", "penstock.scripts.main", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().partition("127.0.0.1:")[2].partition(";")[0])
    finally:
        process.terminate()
        process.wait()


def split(port: int, mbps: float = 1000.0, rtt_ms: float = 0.0) -> Split:
    """A device, a real server, and what is thought of the link between them."""
    link = Link(1e6 * mbps, 1e-3 * rtt_ms)
    far = Remote(f"127.0.0.1:{port}")
    return Split(build_machine("microcontroller"), far, link, bits=BITS, timeout_s=10.0)


def changed_answers(backbone: Backbone, images: Tensor) -> float:
    """Share that 8-bit features change, at the block before which they change most."""
    machine = replace(split(0), far=build_machine("server"))
    here, changed = backbone(images).argmax(dim=1), 0.0
    for before in range(backbone.depth):
        settings = [{"offload": 8 if i == before else 0} for i in range(backbone.depth)]
        there = backbone.answers(images, settings, run=through(machine, torch.Generator()))
        different = there[backbone.depth - 1].argmax(dim=1) != here
        changed = max(changed, different.float().mean().item())
    return changed


def largest_difference(machine: Split, backbone: Backbone, images: Tensor) -> float:
    """Of any head's logits, leaving exactly before any block."""
    here, largest = backbone.answers(images), 0.0
    for before in range(backbone.depth):
        settings = [{"offload": 32 if i == before else 0} for i in range(backbone.depth)]
        run = through(machine, torch.Generator())
        there = backbone.answers(images, settings, run=run)
        largest = max(largest, *((there[i] - here[i]).abs().max().item() for i in here))
    return largest


def compare_latency(
    port: int, backbone: Backbone, image: Tensor, arguments: Arguments
) -> tuple[list[float], list[float]]:
    """Errors of predicted latency, and bytes on the wire over bytes charged, of every cell."""
    errors, ratios = [], []
    print("before  bits  Mbit/s  RTT ms  predicted ms  measured ms  of it far")
    for before, bits in product(arguments.blocks, BITS):
        x, block = image, backbone.block(before)
        for earlier in (backbone.stem, *(backbone.block(i) for i in range(before))):
            x = earlier(x, {})
        for mbps, rtt_ms in product(arguments.mbps, arguments.rtt_ms):
            with shaped(port, 1e6 * mbps, 1e-3 * rtt_ms) as line:
                real, far, measured = split(line.port, mbps, rtt_ms), [], []
                leaving_s(real, block, x, bits)  # the connection is made
                sent_before = line.sent_bytes
                # By turns, so that whatever else this computer does is in both.
                for _ in range(arguments.repeats):
                    far.append(leaving_s(split(port), block, x, bits))
                    measured.append(leaving_s(real, block, x, bits))
                sent_bytes = (line.sent_bytes - sent_before) / arguments.repeats
            far_s, measured_s = quantiles(far)[0], quantiles(measured)[0]
            predicted_s = leaving_s(replace(real, far=Timed(block.name, far_s)), block, x, bits)
            errors.append(abs(predicted_s / measured_s - 1))
            ratios.append(sent_bytes / coded_bytes(tuple(x.shape[1:]), bits))
            print(
                f"{before:6} {bits:5} {mbps:7g} {rtt_ms:7g} {1e3 * predicted_s:13.2f} "
                f"{1e3 * measured_s:12.2f} {1e3 * far_s:10.2f}"
            )
    return errors, ratios


def leaving_s(machine: Split, block: Block, x: Tensor, bits: int) -> float:
    """Seconds of the job at which the features of an input leave."""
    rng = torch.Generator()
    state = machine.reset(1, rng)
    _, cost, after = machine.run(Job(block, x, {"offload": bits}), state, rng)
    assert after["away"].item() == 1
    return float(torch.as_tensor(cost.latency_s))


def cut_link(port: int, backbone: Backbone, images: Tensor) -> tuple[float, float]:
    """A stream whose link is cut after a third: share answered rightly, share of losses counted."""
    last, rng, right = backbone.depth - 1, torch.Generator(), 0
    with shaped(port, 50e6, 5e-3) as line:
        machine = split(line.port, 50, 5)
        state = machine.reset(1, rng)
        for number in range(len(images)):
            if number == len(images) // 3:
                line.cut()

            def run(block: Block, x: Tensor, setting: Setting) -> Tensor:
                nonlocal state
                leaves = {"offload": 32.0} if block.name == "blocks.1" else {}
                y, _, state = machine.run(Job(block, x, leaves), state, rng)
                return y

            image = images[number : number + 1]
            there = backbone.answers(image, run=run)[last]
            right += torch.equal(there, backbone.answers(image)[last])
    tried = len(images) - len(images) // 3
    return right / len(images), state["lost"].item() / tried


if __name__ == "__main__":
    sys.exit(guarded(main))
