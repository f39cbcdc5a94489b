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
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

import tyro

from penstock.backbones import load_data
from penstock.hardware.eden import LEAST
from penstock.scripts.guard import guarded
from penstock.scripts.reproduce.eden_accuracy import on_chips, table
from penstock.scripts.reproduce.eden_rates import borne, floats, two_points
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
    claims = [
        replace(same[0], figure=fmean(each.figure for each in same), seeds=arguments.fits)
        for same in zip(*(claims for claims, _ in found), strict=True)
    ]
    write_claims("eden", claims)
    (FOLDER / "eden.md").write_text("\n".join(found[0][1]).strip() + "\n")


def of_fit(study: Study) -> tuple[list[Claim], list[str]]:
    """Claims and tables of the networks that were fitted from a seed."""
    drams = {name: corrected(study, network) for name, network in study.networks.items()}
    claims, notes = floats(study, drams[PLAIN])
    for name in (PLAIN, PROTECTED, BOOSTED):
        notes += table(name, drams[name].at_rate(0.0), study)
    bears = {name: two_points(study, name, drams[name]) for name in FOLDERS if name != ON_CHIP}
    there = {
        name: two_points(study, name, drams[name], CHIPS[0]) for name in (PLAIN, PROTECTED, ON_CHIP)
    }
    for where, rates in (("any chip", bears), (f"chip {CHIPS[0]}", there)):
        notes += [
            f"\nResNet-20, {name}, bears {rate:.1e} at 8 bits for two points, on {where}."
            for name, rate in rates.items()
        ]
    for name, control, target in (
        (ALONE, PLAIN, 5.0),
        (BOOSTED, PLAIN, 5.0),
        (BOOSTED, PROTECTED, 1.0),
        (BOOSTED, RETRAINED, 1.0),
    ):
        claims.append(times(study, bears, name, control, target))
    for control, target in ((PLAIN, 5.0), (PROTECTED, 1.0)):
        claims.append(times(study, there, ON_CHIP, control, target))
    for name, chip, chips in ((PLAIN, None, CHIPS), (ON_CHIP, CHIPS[0], CHIPS[:1])):
        found = borne(study, name, replace(drams[name].at_rate(0.0), chip=chip))
        claims += savings(study, name, drams[name], found, chips, notes)
    notes += on_chips(drams, there[ON_CHIP], study)
    return claims, notes


def times(
    study: Study, rates: Mapping[str, float], name: str, control: str, target: float
) -> Claim:
    """How many times the bit error rate of a control a network bears."""
    text = f"tolerable bit error rate at 8 bits within 2 points of plain, {name}, as a multiple"
    ratio = rates[name] / max(rates[control], LEAST)
    where = f"ResNet-20, {control}{', there' if name == ON_CHIP else ''}"
    return Claim(text, ratio, target, ">=", where, study.seeds, "dram")


if __name__ == "__main__":
    sys.exit(guarded(main))
