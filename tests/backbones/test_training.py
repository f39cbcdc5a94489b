import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from penstock.backbones import (
    BITS,
    WIDTH,
    Backbone,
    Data,
    InputError,
    every_setting,
    load,
    load_data,
    tiny_resnet,
    with_protection,
)
from penstock.backbones.calibration import recalibrate_norms
from penstock.backbones.precision import Convolution
from penstock.backbones.saving import read_tensors
from penstock.backbones.training import Fitting, accuracies, fit

FITTING = Fitting(
    epochs=3,
    batch_size=20,
    learning_rate=0.1,
    full_share=0.3,
    shift=0,
    flip=False,
    start_size=0.5,
    full_size_from=0.4,
    size_step=4,
    bfloat16=False,
)
TO_BE_KILLED = """
import sys, torch
from pathlib import Path
from test_training import FITTING, digits, fresh
from penstock.backbones.training import fit

torch.set_num_threads(int(sys.argv[2]))
fit(fresh(), digits(), FITTING, Path(sys.argv[1]), resume=True)
"""


def digits() -> Data:
    data = load_data("digits")
    return Data(data.train.take(range(200)), data.validation, data.test)


def fresh() -> Backbone:
    torch.manual_seed(0)
    return tiny_resnet()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit that nothing interrupted."""
    folder = tmp_path_factory.mktemp("done")
    fit(fresh(), digits(), FITTING, folder)
    return folder


def test_a_few_epochs_beat_chance_at_every_width_and_precision(done: Path) -> None:
    backbone, test = load(done / "backbone.safetensors"), digits().test
    for setting in every_setting((WIDTH, BITS)):
        last = accuracies(backbone, test, setting, stem={"bits": setting["bits"]})[2]
        assert last > 0.2, setting
    assert accuracies(backbone, test)[2] > 0.5 > 5 * accuracies(fresh(), test)[2] / 2


def test_weights_stay_within_their_clip(done: Path, tmp_path: Path) -> None:
    def longest(backbone: Backbone) -> float:
        """The largest weight in root mean squares of its channel, mean over channels."""
        weights = [m.weight.flatten(1) for m in backbone.modules() if isinstance(m, Convolution)]
        ratios = [w.abs().amax(dim=1) / w.square().mean(dim=1).sqrt() for w in weights]
        return torch.cat(ratios).mean().item()

    clipped = fit(fresh(), digits(), replace(FITTING, weight_clip=1.5), tmp_path)
    assert longest(clipped) < 1.6 < 2.0 < longest(load(done / "backbone.safetensors"))


def test_a_full_network_that_learned_alone_has_statistics_of_its_own(tmp_path: Path) -> None:
    recipe = replace(FITTING, epochs=1, full_share=1.0, skip_share=0.0)
    backbone = fit(fresh(), digits(), recipe, tmp_path)
    again = load(tmp_path / "backbone.safetensors")
    pixels = digits().train.pixels.float() / 255
    recalibrate_norms(again, [pixels], skip_share=0, skip_probability=0, seed=0, mixed=False)
    both = zip(backbone.state_dict().values(), again.state_dict().values(), strict=True)
    for fitted, alone in both:
        torch.testing.assert_close(fitted, alone, atol=2e-3, rtol=2e-3)


def test_killed_and_resumed_is_as_if_never_killed(done: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", TO_BE_KILLED, str(tmp_path), str(torch.get_num_threads())],
        cwd=Path(__file__).parent,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "checkpoint.safetensors").exists():
        assert child.poll() is None
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    _, metadata = read_tensors(tmp_path / "checkpoint.safetensors")
    assert 1 <= int(metadata["epochs_done"]) < FITTING.epochs

    time.sleep(1)  # TensorBoard puts files in order by the second in their names
    torch.manual_seed(123)  # what else draws random numbers must not matter
    backbone = fit(tiny_resnet(), digits(), FITTING, tmp_path, resume=True)
    assert not backbone.training
    for file in ("checkpoint", "backbone"):
        whole, _ = read_tensors(done / f"{file}.safetensors")
        resumed, _ = read_tensors(tmp_path / f"{file}.safetensors")
        assert whole.keys() == resumed.keys()
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    assert scalars(tmp_path) == scalars(done)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, without the times that it took."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
        if name != "fit/epoch_s"
    }


def test_events_for_tensorboard(done: Path) -> None:
    shown = scalars(done)
    assert shown.keys() == {
        "fit/loss",
        "fit/learning_rate",
        *(f"fit/validation_accuracy_exit_{index}" for index in range(3)),
    }
    assert all([step for step, _ in points] == [10, 20, 30] for points in shown.values())
    assert shown["fit/loss"][-1][1] < shown["fit/loss"][0][1]
    assert os.listdir(done).count("backbone.safetensors") == 1


def test_finished_fit_resumes_to_the_same(done: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(
        (done / "checkpoint.safetensors").read_bytes()
    )
    again = fit(fresh(), digits(), FITTING, tmp_path, resume=True).state_dict()
    first = load(done / "backbone.safetensors").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


@pytest.mark.parametrize("recipe", [replace(FITTING, epochs=4), replace(FITTING, flip=True)])
def test_checkpoint_of_another_recipe_is_refused(done: Path, recipe: Fitting) -> None:
    before = (done / "checkpoint.safetensors").read_bytes()
    with pytest.raises(InputError, match="made by another recipe, seed or data"):
        fit(fresh(), digits(), recipe, done, resume=True)
    with pytest.raises(InputError, match="made by another recipe, seed or data"):
        fit(fresh(), digits(), FITTING, done, seed=1, resume=True)
    same_weights = with_protection(fresh(), digits().train.pixels / 255)
    with pytest.raises(InputError, match="made by another recipe, seed or data"):
        fit(same_weights, digits(), FITTING, done, resume=True)
    assert (done / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (tiny_resnet(size=16), r"takes images \(1, 16, 16\) .* has \(1, 8, 8\)"),
        (tiny_resnet(in_channels=3), r"takes images \(3, 8, 8\)"),
        (tiny_resnet(classes=7), "names 7 classes, the data has 10"),
    ],
)
def test_images_that_do_not_fit(tmp_path: Path, backbone: Backbone, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(backbone, digits(), FITTING, tmp_path)
    assert os.listdir(tmp_path) == []


def test_fewer_images_than_a_batch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a batch of 256 needs as many .* got 200; give more"):
        fit(fresh(), digits(), replace(FITTING, batch_size=256), tmp_path)
    assert os.listdir(tmp_path) == []


def test_images_shifted_out_of_sight(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shifted by fewer, got a shift of 8"):
        fit(fresh(), digits(), replace(FITTING, shift=8), tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("training", [False, True])
def test_accuracies_count_right_answers(training: bool) -> None:
    backbone, data = fresh().train(training), load_data("digits")
    right = accuracies(backbone, data.train)
    assert backbone.training is training
    backbone.eval()
    with torch.no_grad():
        answers = backbone.answers(data.train.pixels / 255)
    for index, logits in answers.items():
        hits = (logits.argmax(dim=1) == data.train.labels).float().mean()
        assert right[index] == pytest.approx(hits.item(), abs=1e-3)
