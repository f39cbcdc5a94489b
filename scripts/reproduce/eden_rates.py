"""The bit error rates that a network bears, for eden.py."""

from collections.abc import Sequence

from tqdm import tqdm

from penstock.backbones import Backbone, Setting
from penstock.hardware import BitErrors, Dram
from penstock.hardware.eden import LEAST, coarse, confirmed, data_types, fine
from penstock.scripts.reproduce.eden_energy import INT8, Borne
from penstock.scripts.reproduce.eden_study import FLOAT, LOSS, PLAIN, Study, at, right
from penstock.scripts.results import Claim


def floats(study: Study, with_ranges: Dram) -> tuple[list[Claim], list[str]]:
    """What float32 bears without and with correction of implausible values."""
    target = right(study.networks[PLAIN], study.chosen_on, FLOAT) - LOSS
    without, with_it = (
        searched(study, PLAIN, f"rate of float32{how}", dram.at_rate(0.0), target, FLOAT)
        for how, dram in (("", study.dram), (", corrected", with_ranges))
    )
    least = max(without, LEAST)  # it may not bear even that
    text = "tolerable bit error rate of float32 with correction, as a multiple"
    claim = Claim(text, with_it / least, 100, ">=", "no correction", study.seeds, "dram")
    return [claim], [f"float32 bears {without:.1e} without correction, {with_it:.1e} with it."]


def searched(
    study: Study,
    name: str,
    what: str,
    memory: BitErrors,
    target: float,
    setting: Setting,
    seeds: Sequence[int] | None = None,
) -> float:
    """The highest rate of everything, in draws of errors, all if None; with norms of each rate."""

    def at_rate(rate: float) -> Backbone:
        return at(study, name, memory, {**setting, "bit_error_rate": rate})

    def find() -> list[float]:
        with tqdm(desc=f"{name}: {what}", unit="run") as bar:
            rate = coarse(
                *(study.networks[name], study.chosen_on, memory, target, setting),
                seeds=study.seeds if seeds is None else seeds,
                at_rate=at_rate,
                progress=bar.update,
            )
        return [rate]

    (rate,) = study.kept[name](what, find)
    return rate


def borne(study: Study, name: str, memory: BitErrors) -> Borne:
    """Characterise, up to the highest rate of any module, and confirm on other images."""
    original = study.networks[PLAIN]
    kept = study.kept[name]
    seeds = study.seeds[:1]
    most = max(max(curve.rates) for curve in study.curves.values())
    images = study.chosen_on
    target = right(original, images, INT8) - LOSS
    rate = searched(study, name, "rate", memory, target, INT8, seeds)
    backbone = at(study, name, memory, {**INT8, "bit_error_rate": rate})
    with tqdm(desc=f"characterise {name}", unit="run") as bar:
        step = bar.update

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
    return Borne(backbone, rate, rates, data_types(backbone, INT8))
