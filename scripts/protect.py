"""`penstock protect`: store the top bit of a network's 8-bit numbers three times."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from penstock.backbones import Backbone, Images, InputError, load_data, protected, save
from penstock.backbones.compatible import check_images
from penstock.hardware import BitErrors, build_machine, plausible_ranges
from penstock.hardware.judging import judge
from penstock.scripts.run import check_file, check_seed, open_backbone

BITS = 8.0
RATES = (0.0, 1e-4, 1e-3, 3e-3, 1e-2)
"""Bit error rates that both networks are shown at."""


@dataclass(frozen=True)
class Arguments:
    """Store the top bit of a network's 8-bit numbers three times, and see what that is worth."""

    backbone: Positional[str]
    """One that ships with Penstock, or a .safetensors file."""
    data: str
    """Its images: steps are chosen on training images, both networks shown on validation images."""
    out: Path = Path("protected.safetensors")
    """The protected network."""
    trust: tuple[str, ...] = ()
    """Modules beside Penstock's own whose functions a file may call to build its network."""
    bit_error_rate: float = 1e-3
    """At which its steps err least."""
    images: int = 1000
    """Validation images, at most."""
    draws: int = 3
    """Of the errors, over which the share of right answers is averaged."""
    seed: int = 0
    """Of validation images and errors."""


def run(arguments: Arguments) -> None:
    """Protect, save, compare."""
    check_seed(arguments.seed)
    if min(arguments.images, arguments.draws) < 1 or not 0 <= arguments.bit_error_rate <= 0.5:
        raise InputError(
            "images and draws are 1 or more and a bit error rate lies from 0 to 0.5, got "
            f"{arguments.images}, {arguments.draws} and {arguments.bit_error_rate:g}; correct them"
        )
    if arguments.out.suffix != ".safetensors":
        raise InputError(f"a network is saved as .safetensors, got --out {arguments.out}; name one")
    check_file(arguments.out)
    plain = open_backbone(arguments.backbone, arguments.trust)
    data = load_data(arguments.data, seed=arguments.seed)
    check_images(data.validation, plain)
    some = data.train.take(range(min(256, len(data.train)))).pixels / 255
    changed = protected(plain, some, arguments.bit_error_rate)
    save(changed, arguments.out)
    images = data.validation.take(range(min(arguments.images, len(data.validation))))
    seeds = range(arguments.seed, arguments.seed + arguments.draws)
    with tqdm(total=2 * len(RATES), desc="compare", unit="rate") as bar:
        both = [shares(net, images, some, seeds, bar.update) for net in (plain, changed)]
    print(f"{arguments.backbone} at 8 bits, right among {len(images)} validation images\n")
    print("bit error rate   as it was   protected")
    for rate, before, after in zip(RATES, *both, strict=True):
        print(f"{rate:<14g}   {100 * before:7.1f} %   {100 * after:7.1f} %")
    print(f"\nprotected network: {arguments.out}")


def shares(
    backbone: Backbone,
    images: Images,
    some: Tensor,
    seeds: range,
    progress: Callable[[], object],
) -> list[float]:
    """Of right answers at each rate; each read meets a new chip."""
    setting = {"bits": BITS}
    memory = BitErrors(build_machine("edge"), plausible=plausible_ranges(backbone, some, [setting]))
    found = []
    for rate in RATES:
        at_rate = replace(memory, bit_error_rates=(rate,))
        found.append(judge(backbone, images, at_rate, setting, seeds=seeds).accuracy)
        progress()
    return found
