"""Accuracy against bit error rates and on chips, for eden.py: the tables."""

from collections.abc import Mapping
from dataclasses import replace

from tqdm import tqdm

from penstock.backbones import Setting
from penstock.hardware import BitErrors, Dram
from penstock.hardware.judging import judge
from penstock.scripts.reproduce.eden_energy import INT8
from penstock.scripts.reproduce.eden_study import CHIPS, FLOAT, PLAIN, Study, at


def table(name: str, memory: BitErrors, study: Study) -> list[str]:
    """Accuracy against bit error rate."""
    some = study.chosen_on
    rates = (0.0, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2)
    lines = [
        f"\nAccuracy of ResNet-20, {name}, in % on {len(some)} validation images:\n",
        "| stored | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "|---" * (1 + len(rates)) + "|",
    ]
    uncorrected = replace(memory, plausible={})
    floats = {
        "float32, no correction": (uncorrected, FLOAT),
        "float32": (memory, FLOAT),
    }  # which are those of the plain network, protected or not
    rows = {
        **(floats if name == PLAIN else {}),
        "int8": (memory, INT8),
        "int8, weights alone err": (replace(memory, rates={"input": 0.0}), INT8),
        "int8, inputs alone err": (replace(memory, rates={"weight": 0.0}), INT8),
        "int8, one chip": (replace(memory, chip=CHIPS[0]), INT8),
    }
    for stored, (machine, setting) in tqdm(rows.items(), desc="accuracy", unit="row"):

        def find(machine: BitErrors = machine, setting: Setting = setting) -> list[float]:
            settings = [{**setting, "bit_error_rate": rate} for rate in rates]
            return [
                judge(
                    at(study, name, machine, each), some, machine, each, seeds=study.seeds[:1]
                ).accuracy
                for each in settings
            ]

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
    for name in tqdm(study.networks, desc="chips", unit="network"):
        memory = drams[name].at_rate(0.0)

        def find(name: str = name, memory: BitErrors = memory) -> list[float]:
            machines = [replace(memory, chip=chip) for chip in (None, *CHIPS)]
            return [
                100 * judge(at(study, name, each, setting), images, each, setting).accuracy
                for each in machines
            ]

        shares = study.kept[name](f"on chips at {rate:g}", find)
        new = ", ".join(f"{share:.1f}" for share in shares[2:])
        lines.append(f"| {name} | {shares[0]:.1f} | {shares[1]:.1f} | {new} |")
    return lines
