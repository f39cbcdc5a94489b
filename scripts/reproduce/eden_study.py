"""What eden.py measures with: networks of one fit, a memory, measured modules, images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from penstock.backbones import Backbone, Data, Images, Setting, load
from penstock.hardware import Dram, Machine, build_machine, plausible_ranges, with_own_norms
from penstock.hardware.judging import judge
from penstock.hardware.voltage import Curve, read_curves
from penstock.scripts.reproduce.eden_energy import INT8
from penstock.scripts.reproduce.kept import Kept

FLOAT = {"bits": 32}
LOSS = 0.005
"""Of accuracy, that may be lost where rates are chosen: half a point, so that it is a point at most
elsewhere, where what was chosen is not better by chance."""
CHIPS = (0, 1, 2, 3)
"""That networks are judged on; on the first, one was boosted."""
PLAIN, PROTECTED, BOOSTED = "plain", "protected", "protected and boosted"
STEPPED, RETRAINED, ALONE = "steps alone", "protected and retrained", "boosted alone"
ON_CHIP = "protected and boosted on a chip"
FOLDERS = {
    PLAIN: "clean-{}",
    STEPPED: "stepped-{}",
    PROTECTED: "protected-{}",
    RETRAINED: "continued-{}",
    ALONE: "boosted-{}-unprotected",
    BOOSTED: "boosted-{}",
    ON_CHIP: f"boosted-{{}}-chip-{CHIPS[0]}",
}
"""Of boost.py's networks, for a seed."""


@dataclass(frozen=True)
class Arguments:
    """Measure approximate DRAM."""

    data: Path
    """Folder with cifar10 and dram_voltage."""
    networks: Path = Path("runs/boost")
    """Where boost.py left its networks."""
    images: int = 1500
    """Validation images to characterise with."""
    calibrated_on: int = 512
    """Training images on which statistics of normalisation are measured, at each rate."""
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
    calibrated_on: Tensor
    """Training images, floats in [0, 1]."""
    seeds: tuple[int, ...]
    kept: Mapping[str, Kept]
    """What took long, by network."""


def studied(arguments: Arguments, data: Data, fit: int) -> Study:
    """The networks of a seed, and what they are measured with."""
    files = {
        name: arguments.networks / folder.format(fit) / "backbone.safetensors"
        for name, folder in FOLDERS.items()
    }
    networks = {name: load(file) for name, file in files.items()}
    source = str(arguments.data / "dram_voltage" / "dimm_faulty_cachelines_out.csv")
    curves = {name: c for name, c in read_curves(source).items() if name.startswith("B")}
    preset, n = build_machine("dram"), arguments.images
    assert isinstance(preset, Dram)
    dram = replace(preset, chip=None, plausible={}, curve=source, module=next(iter(curves)))
    chosen_on, confirmed_on = (data.validation.take(range(i, i + n)) for i in (0, n))
    choices = repr(
        (n, arguments.seeds, LOSS, arguments.calibrated_on, CHIPS, sorted(curves.items()))
    ).encode()

    def kept(file: Path) -> Kept:
        of_all = choices + files[PLAIN].read_bytes() + file.read_bytes()
        return Kept(arguments.networks / f"eden-{sha256(of_all).hexdigest()[:8]}")

    return Study(
        networks=networks,
        dram=dram,
        curves=curves,
        data=data,
        chosen_on=chosen_on,
        confirmed_on=confirmed_on,
        calibrated_on=data.train.pixels[: arguments.calibrated_on] / 255,
        seeds=arguments.seeds,
        kept={name: kept(file) for name, file in files.items()},
    )


def corrected(study: Study, backbone: Backbone) -> Dram:
    """The memory with the plausible ranges of a network."""
    images = study.data.train.pixels[:256] / 255
    return replace(study.dram, plausible=plausible_ranges(backbone, images, [FLOAT, INT8]))


def at(study: Study, name: str, machine: Machine, setting: Setting) -> Backbone:
    """A network as it is used on a machine: with statistics of normalisation measured there."""
    return with_own_norms(study.networks[name], machine, setting, study.calibrated_on)


def right(backbone: Backbone, images: Images, setting: Mapping[str, float]) -> float:
    """Share of right answers without errors."""
    return judge(backbone, images, build_machine("edge"), setting).accuracy
