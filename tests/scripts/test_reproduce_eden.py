"""EDEN's scripts from images to record, on a small network that learns nothing."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from PIL import Image
from pyarrow import parquet

SCRIPTS = Path(__file__).parents[2] / "scripts" / "reproduce"


def run(name: str, *options: str, folder: Path) -> None:
    command = [sys.executable, str(SCRIPTS / name), *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_networks_are_boosted_and_compared(tmp_path: Path) -> None:
    rng, data = np.random.default_rng(0), tmp_path / "data"
    (data / "cifar10").mkdir(parents=True)
    for name, count in (("train", 170), ("test", 20)):
        encoded = []
        for _ in range(count):
            bytes_ = BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(bytes_, "PNG")
            encoded.append({"bytes": bytes_.getvalue(), "path": None})
        table = pa.table({"img": encoded, "label": [i % 10 for i in range(count)]})
        parquet.write_table(table, data / "cifar10" / f"{name}.parquet")
    (data / "dram_voltage").mkdir()
    (data / "dram_voltage" / "dimm_faulty_cachelines_out.csv").write_text(
        "dimm_name,vdd,vendor,error_cacheline_percent\n"
        "B1,1.0,B,50\nB1,1.1,B,1\nB1,1.2,B,0\nB1,1.35,B,0\nA1,1.0,A,0\n"
    )
    small = ("--data", "data/cifar10", "--depth", "8", "--epochs", "1")
    run("boost.py", *small, folder=tmp_path)
    run("boost.py", *small, "--errors", "no", folder=tmp_path)
    run("boost.py", *small, "--protected", "no", folder=tmp_path)
    run("boost.py", *small, "--chip", "0", folder=tmp_path)
    options = ("--data", "data", "--images", "5", "--fits", "0", "--seeds", "0")
    run("eden.py", *options, folder=tmp_path)
    claims = json.loads((tmp_path / "docs" / "results" / "eden.json").read_text())
    assert len(claims) == 17 and all(np.isfinite(claim["figure"]) for claim in claims)
    notes = (tmp_path / "docs" / "results" / "eden.md").read_text()
    assert "| protected and boosted on a chip |" in notes and "| B1 | 1.2 |" in notes

    # Killed before its last row, it goes on from what it had found.
    kept = tmp_path / "runs" / "boost"
    assert len(list(kept.glob("eden-*"))) == 7
    next(kept.glob("eden-*/on-chips*.json")).unlink()
    for rate in kept.glob("eden-*/rate-two-points.json"):
        rate.write_text("[0.5]")
    run("eden.py", *options, folder=tmp_path)
    again = (tmp_path / "docs" / "results" / "eden.md").read_text()
    assert again.splitlines()[-4:] == notes.splitlines()[-4:]
    assert "plain, bears 5.0e-01 at 8 bits" in again
