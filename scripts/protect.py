"""`penstock protect`: store the top bit of a network's 8-bit numbers three times."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from penstock.backbones import Backbone, Images, InputError, load_data, save, with_protection
from penstock.backbones.calibration import calibrate_steps
from penstock.backbones.compatible import check_images
from penstock.hardware import BitErrors, build_machine, plausible_ranges
from penstock.hardware.judging import judge
from penstock.scripts.run import check_file, check_seed, open_backbone

SETTING = {"bits": 8.0}
RATES = (0.0, 1e-4, 1e-3, 3e-3, 1e-2)
"""Bit error rates that the networks are shown at."""


@dataclass(frozen=True)
class Arguments:
    """Store the top bit of a network's 8-bit numbers three times, and see what that is worth."""

    backbone: Positional[str]
    """One that ships with Penstock, or a .safetensors file."""
    data: str
    """Its images: steps are chosen on training images, networks shown on validation images."""
    out: Path = Path("protected.safetensors")
    """The protected network."""
    trust: tuple[str, ...] = ()
    """Modules beside Penstock's own whose functions a file may call to build its network."""
    bit_error_rate: float = 1e-3
    """At which its steps err least."""
    errors: str = "uniform"
    """Where bits flip: uniform, bitline, wordline or data-dependent."""
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
    if arguments.out.resolve() == Path(arguments.backbone).resolve():
        raise InputError(f"--out {arguments.out} is the network itself; choose another file")
    memory = BitErrors(build_machine("edge"), errors=arguments.errors)
    plain = open_backbone(arguments.backbone, arguments.trust)
    data = load_data(arguments.data, seed=arguments.seed)
    check_images(data.validation, plain)
    some = data.train.take(range(min(256, len(data.train)))).pixels / 255
    changed = with_protection(plain, some, arguments.bit_error_rate)
    save(changed, arguments.out)
    stepped = deepcopy(plain)
    calibrate_steps(stepped, some, arguments.bit_error_rate)
    networks = {"as it was": plain, "steps alone": stepped, "protected": changed}
    images = data.validation.take(range(min(arguments.images, len(data.validation))))
    seeds = range(arguments.seed, arguments.seed + arguments.draws)
    with tqdm(total=len(networks) * len(RATES), desc="compare", unit="rate") as bar:
        columns = [
            shares(network, images, some, memory, seeds, bar.update)
            for network in networks.values()
        ]
    print(
        f"{arguments.backbone} at 8 bits, right among {len(images)} validation images, errors "
        f"{arguments.errors}\n\n{'bit error rate':14}" + "".join(f"{n:>14}" for n in networks)
    )
    for rate, *row in zip(RATES, *columns, strict=True):
        print(f"{rate:<14g}" + "".join(f"{100 * share:12.1f} %" for share in row))
    print(f"\nprotected network: {arguments.out}")


def shares(
    backbone: Backbone,
    images: Images,
    some: Tensor,
    memory: BitErrors,
    seeds: range,
    progress: Callable[[], object],
) -> list[float]:
    """Of right answers at each rate; each read meets a new chip."""
    memory = replace(memory, plausible=plausible_ranges(backbone, some, [SETTING]))
    found = []
    for rate in RATES:
        setting = {**SETTING, "bit_error_rate": rate}
        found.append(judge(backbone, images, memory, setting, seeds=seeds).accuracy)
        progress()
    return found
