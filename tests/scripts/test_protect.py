"""`penstock protect`."""

from pathlib import Path

import pytest

from penstock.backbones import load, load_data
from penstock.hardware import BitErrors, build_machine
from penstock.hardware.judging import judge
from penstock.scripts.guard import call


def test_a_protected_network_bears_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "protected.safetensors"
    options = ["digits", "--data", "digits", "--out", str(out)]
    assert call("protect", options) == 0
    rows = [line.replace("%", "").split() for line in capsys.readouterr().out.splitlines()[3:8]]
    shares = {float(rate): [float(share) for share in row] for rate, *row in rows}
    plain, stepped, protected = shares[0.0]
    assert min(stepped, protected) >= plain - 1.5
    plain, stepped, protected = shares[1e-2]
    assert stepped >= plain + 10 and protected >= stepped + 10
    memory = BitErrors(build_machine("edge"))
    images = load_data("digits").validation
    right = judge(load(out), images, memory, {"bits": 8, "bit_error_rate": 1e-2}).accuracy
    assert 100 * right == pytest.approx(protected, abs=8)

    assert call("protect", [str(out), *options[1:]]) == 2
    assert "is the network itself; choose another file" in capsys.readouterr().err
    assert call("protect", [str(out), *options[1:-1], str(tmp_path / "twice.safetensors")]) == 2
    assert "a network is protected once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--images", "0"], "images and draws are 1 or more"),
        (["--bit-error-rate", "2"], "from 0 to 0.5, got 1000, 3 and 2"),
        (["--errors", "rowwise"], "'rowwise'"),
        (["--out", "net.pt"], "saved as .safetensors, got --out net.pt"),
    ],
)
def test_what_cannot_be_protected_is_one_sentence(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("protect", ["digits", "--data", "digits", *options]) == 2
    assert sentence in capsys.readouterr().err
