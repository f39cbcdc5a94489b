"""`penstock verify`: agreement with the network, and whatever may stand against it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from penstock.agents.recordings import open_recordings
from penstock.backbones import resnet, save
from penstock.envs.recording import write_recording
from penstock.scripts.guard import call

STREAM = """
[stream]
stages = [0, 2]
choices = { bits = [8], width = [0.5, 1.0], run = [1] }
"""


def fit(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    save(resnet(8, 0.25, in_channels=1, size=8), path)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, an experiment, and recordings on two machines."""
    folder = tmp_path_factory.mktemp("recorded")
    fit(folder / "weights.safetensors", 0)
    experiment = folder / "fitted.toml"
    experiment.write_text(f'[backbone]\nweights = "{folder / "weights.safetensors"}"\n{STREAM}')
    for machine in ("microcontroller", "split_wifi"):
        options = ["--machine", machine, "--images", "30", "--out", str(folder / machine)]
        assert call("record", [str(experiment), *options]) == 0
    return folder


def test_a_network_agrees_with_its_recording(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for machine in ("microcontroller", "split_wifi"):
        assert call("verify", [str(recorded / machine), "--decisions", "500", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["agrees"] and list(told["splits"]) == ["train", "validation", "test"]
        for split in told["splits"].values():
            assert split["decisions"] >= 500 and split["equal_masks"] == 1.0
            assert split["equal_right"] == 1.0 and split["utility"]["points"] == 0.0
            assert split["largest_observation_difference"] < 0.02
            assert all(abs(each["relative"]) < 1e-9 for each in split["cost"].values())
            assert not split["errs"]
        assert (split["cost"]["sent_bytes"]["live"] > 0) == (machine == "split_wifi")
    assert call("verify", [str(recorded / "split_wifi" / "test.safetensors")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["test"] and "sent_bytes" in "".join(lines)


def test_a_recording_that_says_something_else_is_found_out(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = open_recordings(recorded / "microcontroller").test
    said = recording.said.clone()
    said[:, -1, 0] = 1 - said[:, -1, 0]
    write_recording(replace(recording, said=said), tmp_path / "right" / "test.safetensors")
    dear = replace(recording, here=1.02 * recording.here)
    write_recording(dear, tmp_path / "dear" / "test.safetensors")
    for name, words in (("right", "utility differs by"), ("dear", "energy_j differs by 2.00 %")):
        with pytest.raises(SystemExit, match=words) as stopped:
            call("verify", [str(tmp_path / name)])
        assert str(stopped.value).startswith("penstock: test inputs do not come out")
        assert "difference, points" in capsys.readouterr().out


def test_other_links_are_met_by_both(recorded: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.toml"
    slow.write_text('preset = "split_wifi"\ntimeout_s = 0.01\n')
    options = ["--machine", str(slow), "--decisions", "300"]
    assert call("verify", [str(recorded / "split_wifi"), *options]) == 0


def test_draws_of_a_machine_that_errs_are_compared_by_their_means(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, out = tmp_path / "noisy.toml", tmp_path / "out"
    text = (recorded / "fitted.toml").read_text()
    experiment.write_text(text.replace("run = [1]", "run = [1], votes = [1], snr_db = [0, 20]"))
    options = ["--machine", "analog", "--images", "20", "--splits", "test", "--draws", "3"]
    assert call("record", [str(experiment), *options, "--out", str(out)]) == 0
    capsys.readouterr()
    assert call("verify", [str(out)]) == 0
    text = capsys.readouterr().out
    assert "different draws" in text and " +- " in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--decisions", "0"], "decisions are 1 or more"),
        (["--seed", "-2"], "a seed is a whole number"),
        (["--run", "nowhere"], "an experiment is a shipped name"),
        (["--run", "digits"], "none to record yet"),
        (["--machine", "edgy"], "Did you mean 'edge'"),
        (["--data", "none.parquet"], "none.parquet"),
    ],
)
def test_what_cannot_be_verified_is_one_sentence(
    options: list[str], words: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", [str(recorded / "microcontroller"), *options]) == 2
    captured = capsys.readouterr()
    assert words in captured.err.splitlines()[-1] and captured.out == ""


def test_other_weights_images_and_places_are_refused(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "weights.safetensors", 1)
    experiment = tmp_path / "other.toml"
    path = tmp_path / "weights.safetensors"
    experiment.write_text(f'[backbone]\nweights = "{path}"\n{STREAM}')
    recordings = str(recorded / "microcontroller")
    assert call("verify", [recordings, "--run", str(experiment)]) == 2
    assert "holds other weights" in capsys.readouterr().err
    # The same network on images that are split otherwise.
    text = (recorded / "fitted.toml").read_text()
    experiment.write_text(f"{text}\n[data]\nsplit_seed = 1\n")
    assert call("verify", [recordings, "--run", str(experiment)]) == 2
    assert "images are not those that were recorded" in capsys.readouterr().err
    recording = open_recordings(recordings).test
    gone = replace(recording, about={**recording.about, "what": "gone.toml"})
    write_recording(gone, tmp_path / "gone.safetensors")
    assert call("verify", [str(tmp_path / "gone.safetensors")]) == 2
    assert "was recorded from gone.toml, which is not there" in capsys.readouterr().err
    assert call("verify", [str(tmp_path / "nothing")]) == 2
    assert "holds none; make them with penstock record" in capsys.readouterr().err
