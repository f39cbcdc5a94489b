from pathlib import Path

import pytest
import torch

from penstock.backbones import InputError, load_data, tiny_resnet
from penstock.backbones.training import Fitting, accuracies, fit
from penstock.hardware import Analog, Exposure, build_machine, through


def test_stairs_by_hand() -> None:
    ramp = Exposure("ber", start=0.0, stop=0.04, until=0.8, steps=4)
    assert [ramp.value(p) for p in (0.0, 0.19, 0.2, 0.5, 0.8, 1.0)] == pytest.approx(
        [0.0, 0.0, 0.01, 0.02, 0.04, 0.04]
    )


def test_at_once() -> None:
    assert Exposure("snr_db", 20, 0, until=0.0).value(0.0) == 0.0


def test_a_knob_that_the_machine_lacks_is_named() -> None:
    with pytest.raises(InputError, match="knobs snr_db, votes, got an exposure of 'dram_v'"):
        Exposure("dram_v", 1.3, 1.0).run_at(build_machine("analog"))


def test_the_other_knobs_are_known_too() -> None:
    machine, network = build_machine("analog"), tiny_resnet()
    with pytest.raises(InputError, match=r"votes, exit, .*, got an exposure of 'vote'"):
        Exposure("snr_db", 20, 0, others={"vote": 1}).run_at(machine, network)
    with pytest.raises(InputError, match="knobs snr_db, votes, got an exposure of 'bits'"):
        Exposure("bits", 32, 8).run_at(machine, network)


def test_blocks_stand_where_the_exposure_says() -> None:
    torch.manual_seed(0)
    network, images = tiny_resnet().eval(), torch.rand(4, 1, 8, 8)
    machine = build_machine("analog").ideal()
    at = Exposure("snr_db", 20, 0, others={"bits": 4}).run_at(machine, network)
    answers = network.answers(images, run=at(1.0, torch.Generator()))
    rounded = network.answers(images, {"bits": 4}, stem={"bits": 4})
    assert torch.equal(answers[2], rounded[2])
    assert not torch.equal(answers[2], network.answers(images)[2])


@pytest.mark.parametrize("until", [-0.1, 1.1])
def test_shares_lie_between_nothing_and_all(until: float) -> None:
    with pytest.raises(InputError, match="until"):
        Exposure("snr_db", 20, 0, until=until)


def test_a_network_fitted_under_noise_survives_it_better(tmp_path: Path) -> None:
    data = load_data("digits")
    recipe = Fitting(
        epochs=12, learning_rate=0.1, full_share=1.0, skip_share=0.0, flip=False, shift=1
    )
    machine = Analog(build_machine("microcontroller"), reference="batch")
    right = {}
    for name in ("clean", "exposed"):
        torch.manual_seed(0)
        network = tiny_resnet()
        if name == "clean":
            fit(network, data, recipe, tmp_path / name)
        else:
            ramp = Exposure("snr_db", 20, 3)
            fit(network, data, recipe, tmp_path / name, run_at=ramp.run_at(machine), about="3 dB")
        run = through(machine, torch.Generator().manual_seed(1), {"snr_db": 3})
        right[name] = accuracies(network, data.test, run=run)[2]
    assert right["exposed"] > right["clean"] + 0.1


def test_a_fit_under_another_machine_is_not_resumed(tmp_path: Path) -> None:
    data = load_data("digits")
    recipe = Fitting(epochs=1, flip=False)
    fit(tiny_resnet(), data, recipe, tmp_path, about="a machine")
    with pytest.raises(InputError, match="another recipe"):
        fit(tiny_resnet(), data, recipe, tmp_path, about="another", resume=True)


def test_what_the_machine_cannot_run_is_said_before_the_fit() -> None:
    dram, network = build_machine("dram"), tiny_resnet()
    Exposure("dram_v", 1.35, 1.1).run_at(dram, network)
    with pytest.raises(InputError, match=r"dram_v lies from 1 to 1.35 on this machine, got 0.2"):
        Exposure("dram_v", 1.35, 0.2).run_at(dram, network)
    with pytest.raises(InputError, match="finite numbers, got nan"):
        Exposure("dram_v", float("nan"), 1.1)
    with pytest.raises(InputError, match="votes lies from 1 to 11"):
        Exposure("snr_db", 20, 5, others={"votes": 0}).run_at(build_machine("analog"), network)
    named = Analog(dram, signal_power={"stem": [1.0]})
    with pytest.raises(InputError, match="signal_power names parts"):
        Exposure("dram_v", 1.35, 1.1).run_at(named, network)
