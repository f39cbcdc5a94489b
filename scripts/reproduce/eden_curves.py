"""The bit error rate at which a network is two points below, with its interval, for eden.py."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]
from tqdm import tqdm

from penstock.backbones import Backbone, Images, Setting
from penstock.hardware import Dram, Machine, build_machine
from penstock.hardware.judging import judge
from penstock.scripts.reproduce.eden_energy import INT8
from penstock.scripts.reproduce.eden_study import PLAIN, Study, at

Array = NDArray[np.float64]

RATES = tuple(float(rate) for rate in np.geomspace(2e-4, 8e-3, 10))
"""Bit error rates that are tried."""
LOST = 0.02
"""Of accuracy, beside the plain network without errors."""
IMAGES, GROUP = 4000, 100
"""Of the test set, and how many of them share one draw of the errors of weights. What was kept was
found with these: change them, and remove it."""
RESAMPLES = 2000


def crossing(right: Array, target: float, rates: Array) -> float:
    """The rate at which accuracy falls below a target, between two rates on a logarithmic scale.

    Args:
        right: share of right answers at each rate, [R]; where they rise by chance, the nearest that
            fall are taken instead (isotonic regression).
        target: share of right answers.
        rates: bit error rates, ascending, [R].

    >>> rates = np.array([1e-4, 1e-3, 1e-2, 1e-1])
    >>> round(crossing(np.array([0.9, 0.8, 0.6, 0.5]), 0.85, rates), 6)
    0.000316
    >>> round(crossing(np.array([0.9, 0.78, 0.82, 0.7]), 0.85, rates), 6)
    0.000316
    """
    falling = isotonic_regression(right, increasing=False).x
    return float(np.exp(np.interp(-target, -falling, np.log(rates))))


def curve(study: Study, name: str, dram: Dram, chip: int | None = None) -> Array:
    """Shares of right answers [rates, groups of test images]; new chips for each group, or one."""
    memory = replace(dram.at_rate(0.0), chip=chip)
    where = "any chip" if chip is None else f"chip {chip}"
    rows = []
    for rate in tqdm(RATES, desc=f"{name}, {where}", unit="rate"):
        setting = {**INT8, "bit_error_rate": rate}

        def find(setting: Setting = setting) -> list[float]:
            return of_groups(study, at(study, name, memory, setting), memory, setting)

        rows.append(study.kept[name](f"right at {rate:.2e}, {where}", find))
    return np.array(rows)


def without_errors(study: Study) -> Array:
    """Shares of right answers of the plain network as it was fitted, by group of test images."""
    shares = of_groups(study, study.networks[PLAIN], build_machine("edge"), INT8)
    return np.array(shares, np.float64)


def of_groups(study: Study, backbone: Backbone, machine: Machine, setting: Setting) -> list[float]:
    """Shares of right answers, each group of test images with errors of its own."""
    return [
        judge(backbone, some, machine, setting, seeds=(k,)).accuracy for k, some in groups(study)
    ]


def groups(study: Study) -> list[tuple[int, Images]]:
    """Test images, numbered by group."""
    test = study.data.test
    places = range(min(IMAGES, len(test)))
    starts = range(0, len(places), GROUP)
    return [(k, test.take(places[start : start + GROUP])) for k, start in enumerate(starts)]


def bears(right: Array, clean: Array) -> float:
    """The rate at which as many answers less are right as may be lost."""
    return crossing(right.mean(axis=1), clean.mean() - LOST, np.array(RATES))


def times(right: Array, control: Array, clean: Array) -> tuple[float, tuple[float, float]]:
    """How many times a control's rate a network bears; 95 % by the bootstrap over groups.

    That is over images and draws of errors (on one chip: which of its weak cells fail), not over
    fits or chips. Rates end at the first and last of `RATES`.
    """
    rng = np.random.default_rng(0)
    count = len(clean)
    ratios = [
        bears(right[:, drawn], clean[drawn]) / bears(control[:, drawn], clean[drawn])
        for drawn in rng.integers(0, count, (RESAMPLES, count))
    ]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return bears(right, clean) / bears(control, clean), (float(low), float(high))
