"""The rates that a network bears, and the DRAM energy that they save, for eden.py."""

from dataclasses import replace
from statistics import fmean, median

from tqdm import tqdm

from penstock.hardware import Dram
from penstock.hardware.judging import judge
from penstock.hardware.voltage import Curve
from penstock.scripts.reproduce.eden_energy import INT8, Borne, elsewhere, mapped, saved
from penstock.scripts.reproduce.eden_study import PLAIN, Study, right
from penstock.scripts.results import Claim

CLEAN = "the network fitted without errors, where there are none"


def savings(
    study: Study,
    name: str,
    dram: Dram,
    found: Borne,
    chips: tuple[int, ...],
    notes: list[str],
) -> list[Claim]:
    """DRAM energy of an input on every module, at the voltages that the network bears on chips."""
    curves, backbone, test = study.curves, found.backbone, study.data.test
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
    clean = right(study.networks[PLAIN], test, INT8)
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
