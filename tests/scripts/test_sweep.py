"""`penstock sweep`: accuracy and cost at every choice of a knob."""

from pathlib import Path

import pytest

from penstock.backbones import load_data, shipped
from penstock.hardware import build_machine
from penstock.hardware.judging import judge, spent
from penstock.scripts.guard import call
from penstock.scripts.sweep import swept


def test_every_choice_has_a_row_and_a_place_in_the_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "sweep.png"
    options = ["digits", "--data", "digits", "--knobs", "snr_db", "bits", "--at", "votes=1"]
    assert call("sweep", [*options, "--images", "40", "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "40 validation images, seeds 0 to 2; votes at 1, other knobs at full" in out
    firsts = [line.split()[0] for line in out.splitlines()[2:] if line]
    assert firsts == ["snr_db", "0", "5", "10", "20", "30", "bits", "4", "8", "32"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_rows_are_what_a_setting_gives_by_itself() -> None:
    backbone, machine = shipped("digits"), build_machine("analog")
    images = load_data("digits").validation.take(range(50))
    rows = swept(backbone, images, machine, machine.knobs, {"bits": 8}, [0, 1])
    assert [(row.knob, row.choice) for row in rows[-3:]] == [("votes", v) for v in (1, 3, 11)]
    setting = {"bits": 8, "votes": 3}
    alone = [judge(backbone, images, machine, setting, seeds=[seed]) for seed in (0, 1)]
    assert rows[-2].judged == tuple(alone)
    both = judge(backbone, images, machine, setting, seeds=[0, 1])
    assert rows[-2].right[0] == pytest.approx(100 * both.accuracy)
    expected = spent(backbone, machine, setting).energy_j
    assert rows[-2].mean("energy_j") == pytest.approx(float(expected))


def test_costs_that_depend_on_the_image_are_means() -> None:
    backbone, machine = shipped("digits"), build_machine("sparse_core")
    images = load_data("digits").validation.take(range(8))
    each = [judge(backbone, images.take(range(i, i + 1)), machine).cost.energy_j for i in range(8)]
    assert max(each) > min(each)
    together = judge(backbone, images, machine).cost.energy_j
    assert together == pytest.approx(sum(each) / 8, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--knobs", "snr"], "a knob is one of snr_db, votes, bits"),
        (["--at", "votes=2"], "votes stands at one of 1, 3, 11, as in votes=1, got 'votes=2'"),
        (["--at", "votes"], "got 'votes'"),
        (["--machine", "edge"], "edge has no knob to turn; name some of the blocks"),
        (["--seeds", "0"], "images and seeds are 1 or more, got 1000 and 0"),
        (["--out", "/proc/nothing/sweep.png"], "choose another file with --out"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = [] if "--out" in options else ["--out", str(tmp_path / "sweep.png")]
    assert call("sweep", ["digits", "--data", "digits", *options, *out]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
