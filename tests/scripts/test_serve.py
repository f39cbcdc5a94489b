"""`penstock serve`: a port that is printed, a probe, and an end when it is asked for."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from penstock.backbones import shipped, tiny_resnet
from penstock.hardware import Link, Remote, Split, build_machine, through
from penstock.hardware.server import FarHalf, Socket
from penstock.scripts.guard import call

SERVE = [sys.executable, "-m", "penstock.scripts.main", "serve"]


@pytest.fixture
def serving() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process, and its address."""
    command = [*SERVE, "--port", "0", "--backbone", "digits"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = re.search(r"network (\w{12})\) on (127\.0\.0\.1:\d+);", process.stdout.readline())
    assert said is not None
    yield process, said[2]
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(
    serving: tuple[subprocess.Popen[str], str],
    number: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process, address = serving
    backbone, images = shipped("digits"), torch.rand(2, 1, 8, 8)
    machine = Split(build_machine("phone"), Remote(address), Link(1e7, rtt_s=0.001), timeout_s=9.0)
    with torch.no_grad():
        run = through(machine, torch.Generator(), {"offload": 32})
        assert torch.equal(backbone.answers(images, run=run)[5], backbone(images))
    assert call("serve", ["--probe", address]) == 0
    assert re.search(r"rtt_s = 0\.\d+\nbandwidth_bps = \S+  # \d+ bytes", capsys.readouterr().out)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_a_policy_is_learned_on_the_model_and_judged_on_the_real_server(
    serving: tuple[subprocess.Popen[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process, address = serving
    page = (Path(__file__).parents[2] / "docs" / "link.md").read_text()
    (real,) = re.findall(r"(# real\.toml\n.*?)```", page, re.DOTALL)
    (tmp_path / "real.toml").write_text(real.replace("127.0.0.1:50051", address))
    (tmp_path / "small.toml").write_text(
        """
        machine = "split_wifi"
        [backbone]
        weights = "digits"
        [stream]
        choices = { bits = [8], width = [1.0], offload = [8, 0] }
        [learner]
        steps = 256
        lanes = 32
        batch_size = 128
        hidden = [8]
        """
    )
    run, machine = str(tmp_path / "run"), str(tmp_path / "real.toml")
    assert call("train", [str(tmp_path / "small.toml"), "--out", run]) == 0
    capsys.readouterr()
    assert call("evaluate", [run, "--machine", machine, "--budget", "energy_j=90%"]) == 0
    assert re.search(r"\npolicy .* B +\d+\n", capsys.readouterr().out)
    assert call("train", [str(tmp_path / "small.toml"), "--machine", machine]) == 2
    assert "with a modelled far" in capsys.readouterr().err
    # A server that dies is survived, and the table counts what was lost.
    process.kill()
    process.wait()
    assert call("evaluate", [run, "--machine", machine]) == 0
    assert re.search(r"\nrandom .* B +[1-9]\d*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--probe", "127.0.0.1:1"], "expected a server at 127.0.0.1:1, and none answers"),
        (["--backbone", "digitz"], "Did you mean 'digits'"),
        (["--backbone", "nowhere.safetensors"], "found none; check the path"),
        (["--most-mib", "99999999"], "most_mib from 1 to 2047, got 50051 and 99999999"),
        (["--backbone", "digits", "--device", "meta"], "should be one of torch's"),
        (["--port", "99999"], "a port lies from 0 to 65535"),
        (["--backbone", "digits", "--device", "abacus"], "should be one of torch's"),
        (["--backbone", "digits", "--host", "8.8.8.8"], "8.8.8.8:50051 cannot be listened on"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("serve", options) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    socket = Socket(FarHalf(tiny_resnet()))
    assert call("serve", ["--backbone", "digits", "--port", str(socket.port)]) == 2
    assert f"127.0.0.1:{socket.port} cannot be listened on" in capsys.readouterr().err
    socket.close()


def test_other_addresses_are_served_with_a_warning() -> None:
    process = subprocess.Popen(
        [*SERVE, "--port", "0", "--backbone", "digits", "--host", "0.0.0.0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "may ask, unencrypted" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
