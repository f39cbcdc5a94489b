"""A folder of recordings: opened, told apart, its machine made again or asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.agents import Scene
from penstock.agents.recordings import (
    PARTS,
    Part,
    difference,
    errs,
    machine_of,
    network_digest,
    open_recordings,
    read_about,
)
from penstock.backbones import InputError, resnet, save
from penstock.envs import Live, Stream
from penstock.envs.record import record_outcomes
from penstock.envs.recording import Recording, write_recording
from penstock.hardware import Digital, Link, Split, Synthetic, build_machine

RULES = Stream(stages=(0, 4), choices={"bits": (8,), "run": (1,), "width": (0.5, 1.0)})


@pytest.fixture(scope="module")
def recording(scene: Scene) -> Recording:
    few = scene.data.test.take(torch.arange(3))
    return record_outcomes(Live(scene.backbone, scene.machine, few), RULES)


def put(recording: Recording, folder: Path, *splits: Part, **about: Any) -> Path:
    """A folder of recordings that say something of themselves."""
    for split in splits:
        told = {"machine": "microcontroller", "seed": 0, "split": split, "pixels": split, **about}
        write_recording(replace(recording, about=told), folder / f"{split}.safetensors")
    return folder


def test_what_is_there_is_opened_and_what_is_not_is_named(
    recording: Recording, tmp_path: Path
) -> None:
    found = open_recordings(put(recording, tmp_path, "test", "train"))
    assert torch.equal(found.test.seen, recording.seen)
    assert found.train.about["split"] == "train" and found.test.machine == recording.machine
    with pytest.raises(InputError, match=r"hold validation\.safetensors, got train, test"):
        _ = found.validation
    assert list(open_recordings(tmp_path, splits=["test"]).found) == ["test"]
    assert list(open_recordings(tmp_path / "train.safetensors").found) == ["train"]


def test_a_folder_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds none; make them with penstock record"):
        open_recordings(tmp_path)
    with pytest.raises(InputError, match="holds none"):
        open_recordings(tmp_path / "nowhere")


def test_other_files_are_refused(tmp_path: Path, recording: Recording) -> None:
    save(resnet(8, 0.25, in_channels=1, size=8), tmp_path / "test.safetensors")
    with pytest.raises(InputError, match="should be a recording; make one"):
        open_recordings(tmp_path)
    write_recording(recording, tmp_path / "test.safetensors")  # says nothing of itself
    with pytest.raises(InputError, match="should be a recording; make one"):
        open_recordings(tmp_path)
    (tmp_path / "test.safetensors").write_text("text")
    with pytest.raises(InputError, match="reading it says"):
        open_recordings(tmp_path)


def test_recordings_of_different_things_are_not_mixed(recording: Recording, tmp_path: Path) -> None:
    put(recording, tmp_path, "train", date="today")
    put(recording, tmp_path, "validation", date="tomorrow")
    assert len(open_recordings(tmp_path).found) == 2
    put(recording, tmp_path, "test", seed=1)
    with pytest.raises(InputError, match=r"different recordings \(they differ in seed\)"):
        open_recordings(tmp_path)


def test_links_meet_the_traces_of_their_split(scene: Scene, tmp_path: Path) -> None:
    machine = build_machine("split_wifi")
    few = scene.data.test.take(torch.arange(2))
    recording = record_outcomes(Live(scene.backbone, machine, few), RULES)
    found = open_recordings(put(recording, tmp_path, *PARTS, machine="split_wifi"))
    for split in PARTS:
        other = found.at(split).machine
        assert isinstance(other, Split) and isinstance(other.link.bandwidth, Synthetic)
        assert other.link.bandwidth.part == split


def test_a_machine_is_made_of_what_the_file_says() -> None:
    table = {
        "type": "penstock.hardware:Split",
        "near": {"preset": "microcontroller"},
        "far": {"preset": "server"},
        "link": {"type": "penstock.hardware:Link", "bandwidth": 1e6, "rtt_s": 0.01},
    }
    machine = machine_of({"machine": table}, "here")
    assert isinstance(machine, Split) and machine.link == Link(1e6, 0.01)
    assert isinstance(machine_of({"machine": "microcontroller"}, "here"), Digital)


@pytest.mark.parametrize(
    "kind",
    [
        "my_lab.chips:Sloppy",
        "os:system",
        # Leads out of Penstock, or is no machine but does something.
        "penstock.hardware.chip:os.system",
        "penstock.hardware.build:resolve_name",
        "penstock.hardware:save_chip",
        "penstock.scripts.run:write_json",
        "penstock.hardware.build:Path",
        "penstock.hardware:Nothing",
        "penstock.hardware_of_mine:Digital",
    ],
)
def test_nothing_else_is_made_because_a_file_says_so(kind: str) -> None:
    for described in (kind, {"type": kind}, {"preset": "phone", "mac_j": {"8": {"type": kind}}}):
        with pytest.raises(InputError, match=r"no machine of Penstock's own; give the machine"):
            machine_of({"machine": described}, "here")


def test_a_machine_of_ones_own_is_given(recording: Recording, tmp_path: Path) -> None:
    put(recording, tmp_path, "test", machine="my_lab.chips:Sloppy")
    with pytest.raises(InputError, match=r"recorded on my_lab\.chips:Sloppy"):
        open_recordings(tmp_path)
    machine = build_machine("edge")
    assert open_recordings(tmp_path, machine).test.machine is machine


def test_what_passes_makes_no_difference() -> None:
    one: dict[str, Any] = {"seed": 0, "date": "a", "commit": "b", "command": "c", "split": "test"}
    other = {"seed": 0, "date": "d", "kept": [], "what": "e", "split": "train"}
    assert difference(one, other) == "split"
    assert difference(one, other, ("split",)) == ""
    assert difference(one, {**other, "split": "test", "draws": 2}) == "draws"


def test_who_errs() -> None:
    clean, noisy = build_machine("microcontroller"), build_machine("analog")
    link = Link(1e6, 0.01)
    assert errs(noisy) and not errs(clean) and not errs(build_machine("sparse_core"))
    assert errs(Split(noisy, clean, link)) and errs(Split(clean, noisy, link))
    assert not errs(Split(clean, clean, link))


def test_networks_are_told_apart_by_their_weights() -> None:
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(network_digest(resnet(8, 0.25, in_channels=1, size=8)))
    assert found[0] == found[1] != found[2]
    torch.manual_seed(0)
    network = resnet(8, 0.25, in_channels=1, size=8)
    with torch.no_grad():
        next(network.head(network.depth - 1).parameters())[0] += 1e-3  # type: ignore[union-attr]
    assert network_digest(network) != found[0]


def test_about_is_read_without_the_rest(recording: Recording, tmp_path: Path) -> None:
    put(recording, tmp_path, "test", draws=3)
    assert read_about(tmp_path / "test.safetensors")["draws"] == 3
