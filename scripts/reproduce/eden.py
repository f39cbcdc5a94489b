"""EDEN's steps on CIFAR-10: bit errors that are borne, voltages for them, and the energy saved.

python scripts/reproduce/boost.py --data FOLDER/cifar10 --seed 0
python scripts/reproduce/boost.py --data FOLDER/cifar10 --seed 0 --errors no
python scripts/reproduce/boost.py --data FOLDER/cifar10 --seed 0 --protected no
python scripts/reproduce/boost.py --data FOLDER/cifar10 --seed 0 --chip 0 --epochs 3
python scripts/reproduce/eden.py --data FOLDER --fits 0

FOLDER holds cifar10, and dram_voltage, of which the modules of vendor B are used. Everything is
chosen on validation images; the accuracies of claims are those on test images. Every network runs
with statistics of normalisation measured on the machine and at the rate. A network is boosted for
any chip, or on one, as EDEN's are, and then judged on that one. Of several fits the figures of
claims are means, and the tables those of the first. Takes about 90 minutes on one core; killed, it
goes on from the last thing it found, in a folder beside each of the networks.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import tyro

from penstock.backbones import load_data
from penstock.scripts.guard import guarded
from penstock.scripts.reproduce.eden_accuracy import on_chips, table
from penstock.scripts.reproduce.eden_curves import (
    GROUP,
    IMAGES,
    RATES,
    Array,
    bears,
    curve,
    times,
    without_errors,
)
from penstock.scripts.reproduce.eden_rates import borne, floats
from penstock.scripts.reproduce.eden_savings import savings
from penstock.scripts.reproduce.eden_study import (
    ALONE,
    BOOSTED,
    CHIPS,
    FOLDERS,
    ON_CHIP,
    PLAIN,
    PROTECTED,
    RETRAINED,
    Arguments,
    Study,
    corrected,
    studied,
)
from penstock.scripts.results import FOLDER, Claim, write_claims


def main() -> None:
    """Characterise, map, write down."""
    arguments = tyro.cli(Arguments)
    data = load_data(str(arguments.data / "cifar10"))
    found = [of_fit(studied(arguments, data, fit)) for fit in arguments.fits]
    all_claims = zip(*(claims for claims, _ in found), strict=True)
    write_claims("eden", [over_fits(same, arguments.fits) for same in all_claims])
    (FOLDER / "eden.md").write_text("\n".join(found[0][1]).strip() + "\n")


def over_fits(same: Sequence[Claim], fits: Sequence[int]) -> Claim:
    """One claim of several fits, which share images: means, no surer than one."""
    ends = [each.interval for each in same if each.interval]
    interval = (fmean(low for low, _ in ends), fmean(high for _, high in ends)) if ends else None
    return replace(
        same[0], figure=fmean(each.figure for each in same), seeds=fits, interval=interval
    )


def of_fit(study: Study) -> tuple[list[Claim], list[str]]:
    """Claims and tables of the networks that were fitted from a seed."""
    drams = {name: corrected(study, network) for name, network in study.networks.items()}
    claims, notes = floats(study, drams[PLAIN])
    for name in (PLAIN, PROTECTED, BOOSTED):
        notes += table(name, drams[name].at_rate(0.0), study)
    clean = without_errors(study)
    curves = {name: curve(study, name, drams[name]) for name in FOLDERS if name != ON_CHIP}
    there = {
        name: curve(study, name, drams[name], CHIPS[0]) for name in (PLAIN, PROTECTED, ON_CHIP)
    }
    for where, found in (("any chip", curves), (f"chip {CHIPS[0]}", there)):
        notes += rates_table(found, clean, where)
    for name, control, target in (
        (ALONE, PLAIN, 5.0),
        (BOOSTED, PLAIN, 5.0),
        (BOOSTED, PROTECTED, 1.0),
        (BOOSTED, RETRAINED, 1.0),
    ):
        claims.append(compared(curves, clean, name, control, target))
    for control, target in ((PLAIN, 5.0), (PROTECTED, 1.0)):
        claims.append(compared(there, clean, ON_CHIP, control, target))
    for name, chip, chips in ((PLAIN, None, CHIPS), (ON_CHIP, CHIPS[0], CHIPS[:1])):
        characterised = borne(study, name, replace(drams[name].at_rate(0.0), chip=chip))
        claims += savings(study, name, drams[name], characterised, chips, notes)
    notes += on_chips(drams, bears(there[ON_CHIP], clean), study)
    return claims, notes


def rates_table(found: Mapping[str, Array], clean: Array, where: str) -> list[str]:
    """Accuracy against bit error rate, and where it is two points below."""
    images = f"{min(IMAGES, GROUP * len(clean))} test images"
    return [
        f"\nRight answers at 8 bits to {images} in %, on {where}, statistics of each rate; the "
        f"plain network without errors {100 * clean.mean():.1f}; last the rate at which 2 points "
        "are lost:\n",
        "| network | " + " | ".join(f"{rate:.1e}" for rate in RATES) + " | bears |",
        "|---" * (2 + len(RATES)) + "|",
        *(
            f"| {name} | "
            + " | ".join(f"{100 * share:.1f}" for share in right.mean(axis=1))
            + f" | {bears(right, clean):.1e} |"
            for name, right in found.items()
        ),
    ]


def compared(
    found: Mapping[str, Array], clean: Array, name: str, control: str, target: float
) -> Claim:
    """How many times the bit error rate of a control a network bears."""
    text = f"bit error rate that costs 2 points at 8 bits, {name}, as a multiple"
    ratio, ends = times(found[name], found[control], clean)
    where = f"ResNet-20, {control}{', there' if name == ON_CHIP else ''}"
    return Claim(text, ratio, target, ">=", where, [], "dram", ends)


if __name__ == "__main__":
    sys.exit(guarded(main))
