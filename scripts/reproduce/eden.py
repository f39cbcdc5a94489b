"""EDEN's steps on CIFAR-10: bit errors that are borne, voltages for them, and the energy saved.

python scripts/reproduce/boost.py --data FOLDER/cifar10 --seed 0
python scripts/reproduce/boost.py --data FOLDER/cifar10 --seed 0 --errors no
python scripts/reproduce/boost.py --data FOLDER/cifar10 --seed 0 --chip 0 --epochs 4
python scripts/reproduce/eden.py --data FOLDER --fits 0

FOLDER holds cifar10, and dram_voltage, of which the modules of vendor B are used. Everything is
chosen on validation images; the accuracies of claims are those on test images. A network is boosted
for any chip, or on one, as EDEN's are, and then judged on that one. Of several fits the figures of
claims are means, and the tables those of the first. Takes about 90 minutes on one core; killed, it
goes on from the last thing it found, in a folder beside each of the networks.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import fmean, median

import tyro
from tqdm import tqdm

from penstock.backbones import Backbone, Data, Images, Setting, load, load_data
from penstock.hardware import BitErrors, Dram, build_machine, plausible_ranges
from penstock.hardware.eden import LEAST, coarse, confirmed, data_types, fine
from penstock.hardware.judging import judge
from penstock.hardware.voltage import Curve, read_curves
from penstock.scripts.guard import guarded
from penstock.scripts.reproduce.eden_energy import INT8, Borne, elsewhere, mapped, saved
from penstock.scripts.reproduce.kept import Kept
from penstock.scripts.results import FOLDER, Claim, write_claims

FLOAT = {"bits": 32}
LOSS = 0.005
"""Of accuracy, that may be lost where rates are chosen: half a point, so that it is a point at most
elsewhere, where what was chosen is not better by chance."""
CLEAN = "the network fitted without errors, where there are none"
ON_CHIP = "boosted on a chip"
CHIPS = (0, 1, 2, 3)
"""That networks are judged on; on the first, one was boosted."""
FOLDERS = {"plain": "clean", "continued": "continued", "boosted": "boosted", ON_CHIP: "boosted"}
"""Of boost.py's networks."""


@dataclass(frozen=True)
class Arguments:
    """Measure approximate DRAM."""

    data: Path
    """Folder with cifar10 and dram_voltage."""
    networks: Path = Path("runs/boost")
    """Where boost.py left its networks."""
    images: int = 1500
    """Validation images to characterise with."""
    fits: tuple[int, ...] = (0, 1, 2)
    """Seeds that boost.py was given."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of errors."""


@dataclass(frozen=True)
class Study:
    """What everything is measured with."""

    networks: Mapping[str, Backbone]
    """That were fitted from a seed."""
    dram: Dram
    curves: Mapping[str, Curve]
    """Modules of vendor B."""
    data: Data
    chosen_on: Images
    confirmed_on: Images
    seeds: tuple[int, ...]
    kept: Mapping[str, Kept]
    """What took long, by network."""


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


def studied(arguments: Arguments, data: Data, fit: int) -> Study:
    """The networks of a seed, and what they are measured with."""
    ends = {ON_CHIP: f"-chip-{CHIPS[0]}"}
    files = {
        name: arguments.networks / f"{folder}-{fit}{ends.get(name, '')}" / "backbone.safetensors"
        for name, folder in FOLDERS.items()
    }
    networks = {name: load(file) for name, file in files.items()}
    source = str(arguments.data / "dram_voltage" / "dimm_faulty_cachelines_out.csv")
    curves = {name: c for name, c in read_curves(source).items() if name.startswith("B")}
    preset, n = build_machine("dram"), arguments.images
    assert isinstance(preset, Dram)
    dram = replace(preset, chip=None, plausible={}, curve=source, module=next(iter(curves)))
    chosen_on, confirmed_on = (data.validation.take(range(i, i + n)) for i in (0, n))
    choices = repr((n, arguments.seeds, LOSS, CHIPS, sorted(curves.items()))).encode()

    def kept(file: Path) -> Kept:
        of_all = choices + files["plain"].read_bytes() + file.read_bytes()
        return Kept(arguments.networks / f"eden-{sha256(of_all).hexdigest()[:8]}")

    return Study(
        networks=networks,
        dram=dram,
        curves=curves,
        data=data,
        chosen_on=chosen_on,
        confirmed_on=confirmed_on,
        seeds=arguments.seeds,
        kept={name: kept(file) for name, file in files.items()},
    )


def of_fit(study: Study) -> tuple[list[Claim], list[str]]:
    """Claims and tables of the networks that were fitted from a seed."""
    networks = study.networks
    plain = networks["plain"]
    drams = {name: corrected(study, network) for name, network in networks.items()}
    claims, notes = floats(study, plain, drams["plain"])
    target = right(plain, study.chosen_on, INT8) - 0.02

    def two_points(name: str, chip: int | None = None) -> float:
        memory = replace(drams[name].at_rate(0.0), chip=chip)
        where = "any chip" if chip is None else f"chip {chip}"

        def find() -> list[float]:
            images, seeds = study.chosen_on, study.seeds
            return [coarse(networks[name], images, memory, target, INT8, seeds=seeds)]

        what = "rate, two points" if chip is None else f"rate, two points, {where}"
        (rate,) = study.kept[name](what, find)
        notes.append(f"\nResNet-20, {name}, bears {rate:.1e} at 8 bits for two points, on {where}.")
        return rate

    def times(text: str, rates: tuple[float, float], least: float, control: str) -> Claim:
        text = f"tolerable bit error rate at 8 bits within 2 points of plain, {text}, as a multiple"
        ratio = rates[0] / max(rates[1], LEAST)
        where = f"ResNet-20, {control}"
        return Claim(text, ratio, least, ">=", where, study.seeds, "dram")

    for name in ("plain", "boosted"):
        notes += table(name, networks[name], drams[name].at_rate(0.0), study)
    found = borne(study, "plain", drams["plain"].at_rate(0.0))
    claims += savings(study, "plain", drams["plain"], found, CHIPS, notes)
    bears, chip = {name: two_points(name) for name in ("plain", "boosted", "continued")}, CHIPS[0]
    for control, least in (("plain", 5.0), ("continued", 1.0)):
        claims.append(times("boosted", (bears["boosted"], bears[control]), least, control))
    there = {name: two_points(name, chip) for name in ("plain", ON_CHIP)}
    text = "boosted on that chip"
    claims.append(times(text, (there[ON_CHIP], there["plain"]), 5.0, "plain, on one chip"))
    found = borne(study, ON_CHIP, replace(drams[ON_CHIP].at_rate(0.0), chip=chip))
    claims += savings(study, ON_CHIP, drams[ON_CHIP], found, (chip,), notes)
    notes += on_chips(drams, there[ON_CHIP], study)
    return claims, notes


def corrected(study: Study, backbone: Backbone) -> Dram:
    """The memory with the plausible ranges of a network."""
    images = study.data.train.pixels[:256] / 255
    return replace(study.dram, plausible=plausible_ranges(backbone, images, [FLOAT, INT8]))


def right(backbone: Backbone, images: Images, setting: Mapping[str, float]) -> float:
    """Share of right answers without errors."""
    return judge(backbone, images, build_machine("edge"), setting).accuracy


def floats(study: Study, backbone: Backbone, with_ranges: Dram) -> tuple[list[Claim], list[str]]:
    """What float32 bears without and with correction of implausible values."""
    images, seeds = study.chosen_on, study.seeds

    def find() -> list[float]:
        target = right(backbone, images, FLOAT) - LOSS
        memories = [dram.at_rate(0.0) for dram in (study.dram, with_ranges)]
        return [coarse(backbone, images, m, target, FLOAT, seeds=seeds) for m in memories]

    without, with_it = study.kept["plain"]("rates of float32", find)
    least = max(without, LEAST)  # it may not bear even that
    text = "tolerable bit error rate of float32 with correction, as a multiple"
    claim = Claim(text, with_it / least, 100, ">=", "no correction", seeds, "dram")
    return [claim], [f"float32 bears {without:.1e} without correction, {with_it:.1e} with it."]


def borne(study: Study, name: str, memory: BitErrors) -> Borne:
    """Characterise, up to the highest rate of any module, and confirm on other images."""
    backbone, original = study.networks[name], study.networks["plain"]
    kept = study.kept[name]
    seeds = study.seeds[:1]
    most = max(max(curve.rates) for curve in study.curves.values())
    images = study.chosen_on
    target = right(original, images, INT8) - LOSS
    with tqdm(desc=f"characterise {name}", unit="run") as bar:
        step = bar.update

        def one() -> list[float]:
            return [coarse(backbone, images, memory, target, INT8, seeds=seeds, progress=step)]

        (rate,) = kept("rate", one)

        def each() -> dict[str, float]:
            return fine(
                *(backbone, images, memory, target, rate, INT8),
                seeds=seeds,
                most=most,
                progress=step,
            )

        def sure() -> dict[str, float]:
            others = study.confirmed_on
            target = right(original, others, INT8) - LOSS
            return confirmed(
                *(backbone, others, memory, target, found, rate, INT8), seeds=seeds, progress=step
            )

        found = kept("rates", each)
        rates = kept("rates confirmed", sure)
    return Borne(rate, rates, data_types(backbone, INT8))


def savings(
    study: Study,
    name: str,
    dram: Dram,
    found: Borne,
    chips: tuple[int, ...],
    notes: list[str],
) -> list[Claim]:
    """DRAM energy of an input on every module, at the voltages that the network bears on chips."""
    curves, backbone, test = study.curves, study.networks[name], study.data.test
    rows = {module: saved(backbone, dram, found, curve) for module, curve in curves.items()}
    quiet = replace(dram, standby_w=0.0)
    notes += [
        f"\nDRAM energy of ResNet-20, {name}, saved on each module, in %, all data bearing a bit "
        f"error rate of {found.rate:.1e}; in brackets without the power of standing by:\n",
        "| module | error-free V | coarse V | of nominal | of error-free | mapped, of nominal |",
        "|---|---|---|---|---|---|",
    ]
    for module, curve in curves.items():
        both = zip(rows[module], saved(backbone, quiet, found, curve), strict=True)
        shares = " | ".join(f"{100 * a:.1f} ({100 * b:.1f})" for a, b in both)
        volts = f"{curve.error_free_v:g} | {curve.lowest_v(found.rate):g}"
        notes.append(f"| {module} | {volts} | {shares} |")
    of_nominal, of_free, _ = map(median, zip(*rows.values(), strict=True))
    notes.append("\nMedians of the columns of nominal and error-free elsewhere:\n")
    for what, machine, others in elsewhere(dram, curves):
        here = [saved(backbone, machine, found, curve) for curve in others.values()]
        medians = [100 * median(column) for column in zip(*here, strict=True)]
        notes.append(f"- {what}: {medians[0]:.1f} and {medians[1]:.1f} %")
    ratios = {module: (1 - mapped) / (1 - one) for module, (one, _, mapped) in rows.items()}

    # The modules on which most is risked: the highest rate of all, and all that are mapped lower.
    clean = right(study.networks["plain"], test, INT8)
    riskiest = max(curves.values(), key=lambda curve: curve.rate(curve.lowest_v(found.rate)))
    lower = [curve for module, curve in curves.items() if ratios[module] < 1] or [riskiest]

    def lost(how: str, machine: Dram, curve: Curve) -> list[float]:
        setting = {**INT8, "dram_v": curve.lowest_v(found.rate)}
        there = [replace(machine, module=curve.module, chip=chip) for chip in chips]

        def find() -> list[float]:
            return [100 * (clean - judge(backbone, test, each, setting).accuracy) for each in there]

        return study.kept[name](f"points lost, {how}, {curve.module}", find)

    def claim(text: str, figure: float, target: float, comparison: str, control: str) -> Claim:
        text = f"ResNet-20, {name}, at 8 bits: {text}"
        return Claim(text, figure, target, comparison, control, study.seeds, "dram")  # type: ignore[arg-type]

    of_median = "DRAM energy saved, median of vendor B's modules, %"
    of_worst = "DRAM energy when mapped, as a multiple, worst module"
    at_coarse = lost("coarse", dram, riskiest)
    each_lower = [
        lost("mapped", mapped(dram, found, curve), curve)
        for curve in tqdm(lower, desc=f"mapped {name}", unit="module")
    ]
    at_worst = max(each_lower, key=fmean)
    lists = [", ".join(f"{points:.2f}" for points in each) for each in (at_coarse, at_worst)]
    where = ", ".join(map(str, chips))
    notes.append(f"\nPoints lost on chip {where}: coarse {lists[0]}, mapped {lists[1]}.")
    return [
        claim("accuracy lost, coarse, riskiest module, points", fmean(at_coarse), 1, "<=", CLEAN),
        claim("accuracy lost, mapped, riskiest module, points", fmean(at_worst), 1, "<=", CLEAN),
        claim(of_median, 100 * of_nominal, 30, ">=", "1.35 V"),
        claim(of_median, 100 * of_free, 5, ">=", "lowest error-free voltage"),
        claim(of_worst, max(ratios.values()), 1, "<=", "coarse"),
    ]


def table(name: str, backbone: Backbone, memory: BitErrors, study: Study) -> list[str]:
    """Accuracy against bit error rate."""
    some = study.chosen_on
    rates = (0.0, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2)
    lines = [
        f"\nAccuracy of ResNet-20, {name}, in % on {len(some)} validation images:\n",
        "| stored | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "|---" * (1 + len(rates)) + "|",
    ]
    uncorrected = replace(memory, plausible={})
    rows = {
        "float32, no correction": (uncorrected, FLOAT),
        "float32": (memory, FLOAT),
        "int8": (memory, INT8),
        "int8, weights alone err": (replace(memory, rates={"input": 0.0}), INT8),
        "int8, inputs alone err": (replace(memory, rates={"weight": 0.0}), INT8),
        "int8, one chip": (replace(memory, chip=CHIPS[0]), INT8),
    }
    for stored, (machine, setting) in tqdm(rows.items(), desc="accuracy", unit="row"):

        def find(machine: BitErrors = machine, setting: Setting = setting) -> list[float]:
            settings = [{**setting, "bit_error_rate": rate} for rate in rates]
            seeds = study.seeds[:1]
            return [judge(backbone, some, machine, each, seeds=seeds).accuracy for each in settings]

        shares = study.kept[name](f"row, {stored}", find)
        lines.append(f"| {stored} | " + " | ".join(f"{100 * s:.1f}" for s in shares) + " |")
    return lines


def on_chips(drams: Mapping[str, Dram], rate: float, study: Study) -> list[str]:
    """Accuracy on the chip that one network was boosted on, and on new ones, where it is run."""
    test = study.data.test
    images = test.take(range(min(4000, len(test))))
    lines = [
        f"\nRight answers to {len(images)} test images in %, int8, at a bit error rate of "
        f"{rate:.1e}:\n",
        "| network | every read another chip | chip 0, on which one was boosted | new chips |",
        "|---|---|---|---|",
    ]
    setting = {**INT8, "bit_error_rate": rate}
    for name, network in tqdm(study.networks.items(), desc="chips", unit="network"):
        memory = drams[name].at_rate(0.0)

        def find(network: Backbone = network, memory: BitErrors = memory) -> list[float]:
            machines = [replace(memory, chip=chip) for chip in (None, *CHIPS)]
            return [100 * judge(network, images, each, setting).accuracy for each in machines]

        shares = study.kept[name](f"on chips at {rate:g}", find)
        new = ", ".join(f"{share:.1f}" for share in shares[2:])
        lines.append(f"| {name} | {shares[0]:.1f} | {shares[1]:.1f} | {new} |")
    return lines


if __name__ == "__main__":
    sys.exit(guarded(main))
