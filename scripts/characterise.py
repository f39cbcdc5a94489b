"""`penstock characterise`: the bit errors that a network bears, and the DRAM voltages for it."""

from dataclasses import dataclass, replace

from tqdm import tqdm
from tyro.conf import Positional

from penstock.backbones import BITS, Images, InputError, load_data
from penstock.backbones.compatible import check_images
from penstock.hardware import Dram, build_machine, plausible_ranges
from penstock.hardware.bound import check_network
from penstock.hardware.eden import coarse, confirmed, fine
from penstock.hardware.judging import judge, spent
from penstock.scripts.run import check_seed, open_backbone


@dataclass(frozen=True)
class Arguments:
    """Find the bit errors that a network bears, and the DRAM voltages for it."""

    backbone: Positional[str]
    """One that ships with Penstock, or a .safetensors file."""
    data: str
    """Its images: validation images are used."""
    trust: tuple[str, ...] = ()
    """Modules beside Penstock's own whose functions a file may call to build its network."""
    machine: str = "dram"
    """A preset or .toml file with a Dram outermost."""
    bits: int = 8
    """Of weights and feature maps."""
    points: float = 1.0
    """Of accuracy that may be lost, below its own without errors."""
    least: float | None = None
    """% of right answers to keep instead: to compare networks."""
    images: int = 1000
    """How many; the fewer, the faster."""
    fine: bool = False
    """Also each layer's weights and inputs by themselves; confirmed on as many other images."""
    own_chip: bool = False
    """On the weak cells of the machine's own chip, not on those of a new one at each read."""
    draws: int = 3
    """Of the errors, over which the share of right answers is averaged."""
    seed: int = 0
    """Of validation images and errors."""


def run(arguments: Arguments) -> None:
    """Characterise, print."""
    check_seed(arguments.seed)
    if min(arguments.images, arguments.draws) < 1 or not 0 <= arguments.points <= 100:
        raise InputError(
            "images and draws are 1 or more and points 0 to 100, got "
            f"{arguments.images}, {arguments.draws} and {arguments.points:g}; correct them"
        )
    if arguments.least is not None and not 0 <= arguments.least <= 100:
        raise InputError(f"the least is 0 to 100 % of answers, got {arguments.least:g}; correct it")
    backbone = open_backbone(arguments.backbone, arguments.trust)
    dram = build_machine(arguments.machine)
    bits = [choice for knob in backbone.knobs if knob == BITS for choice in knob.choices]
    if arguments.bits not in (bits or [32]):
        known = ", ".join(f"{choice:g}" for choice in bits or [32])
        raise InputError(f"this network runs at {known} bits, got {arguments.bits}; choose these")
    data = load_data(arguments.data, seed=arguments.seed)
    check_images(data.validation, backbone)
    if not isinstance(dram, Dram):
        raise InputError(
            f"{arguments.machine} should be a Dram, got {type(dram).__name__}; "
            "put the Dram outermost, or use the preset dram"
        )
    check_network(dram, backbone)
    if "dram_v" not in {knob.name for knob in dram.knobs}:
        raise InputError(
            f"{arguments.machine} says where all weights and inputs lie, which leaves no voltage "
            "to find; take its volts out"
        )
    setting = {"bits": float(arguments.bits)}
    seeds = range(arguments.seed, arguments.seed + arguments.draws)
    if arguments.fine and len(data.validation) < 2:
        raise InputError(
            "--fine finds rates on some validation images and confirms them on others, got one "
            "image; bring more, or leave --fine out"
        )
    most = len(data.validation) // (2 if arguments.fine else 1)
    n = max(1, min(arguments.images, most))
    images = data.validation.take(range(n))
    some = data.train.take(range(min(256, len(data.train)))).pixels / 255
    dram = replace(dram, plausible=plausible_ranges(backbone, some, [setting]))
    memory, curve = dram.at_rate(0.0), dram.voltage_curve
    if arguments.own_chip and memory.chip is None:
        raise InputError(
            f"{arguments.machine} has no chip of its own; give it one, as in chip = 0, or leave "
            "--own-chip out"
        )
    if not arguments.own_chip:
        memory = replace(memory, chip=None)

    def clean_and_target(some: Images) -> tuple[float, float]:
        clean = judge(backbone, some, memory, setting).accuracy
        points, least = arguments.points, arguments.least
        return clean, clean - points / 100 if least is None else least / 100

    with tqdm(desc="characterise", unit="run") as bar:
        clean, least = clean_and_target(images)
        rate = coarse(backbone, images, memory, least, setting, seeds=seeds, progress=bar.update)
        rates = {}
        if arguments.fine:
            rates = fine(
                *(backbone, images, memory, least, rate, setting),
                seeds=seeds,
                most=max(curve.rates),
                progress=bar.update,
            )
            others = data.validation.take(range(n, 2 * n))
            _, least_of_others = clean_and_target(others)
            rates = confirmed(
                *(backbone, others, memory, least_of_others, rates, rate, setting),
                seeds=seeds,
                progress=bar.update,
            )
    lowest_v, free_v = curve.lowest_v(rate), curve.error_free_v
    where = f"chip {dram.chip}" if arguments.own_chip else "new chips at every read"
    print(f"right without errors     {100 * clean:.1f} % of {len(images)} validation images")
    print(
        f"bit error rate borne     {rate:.1e}, {100 * least:.1f} % right at least, {where}, "
        f"{arguments.draws} draws"
    )
    print(f"module {curve.module:18}{lowest_v:g} V, without errors from {free_v:g} V")
    energy_j = [
        float(spent(backbone, dram, {**setting, "dram_v": v}).energy_j)
        for v in (lowest_v, free_v, dram.nominal_v)
    ]
    print(
        f"energy of an input       {energy_j[0]:.3g} J at {lowest_v:g} V, {energy_j[1]:.3g} J at "
        f"{free_v:g} V, {energy_j[2]:.3g} J at {dram.nominal_v:g} V"
    )
    if rates:
        print("\n# bears more than the rest: for the machine's TOML file\n[volts]")
    for name, more in rates.items():
        own_v = curve.lowest_v(more)
        if own_v < lowest_v:
            print(f'"{name}" = {own_v:g}  # {more:.1e}')
