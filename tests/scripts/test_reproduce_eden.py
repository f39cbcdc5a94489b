"""EDEN's scripts from images to record, on a small network that learns nothing."""

import json
import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from PIL import Image
from pyarrow import parquet

from penstock.scripts.reproduce import boost, eden


def test_networks_are_boosted_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(script: ModuleType, *options: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(script.__file__), *options])
        script.main()

    monkeypatch.chdir(tmp_path)
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
    run(boost, *small)
    run(boost, *small, "--errors", "no")
    run(boost, *small, "--protected", "no")
    run(boost, *small, "--chip", "0")
    few = ("--images", "5", "--calibrated-on", "5")
    options = ("--data", "data", *few, "--fits", "0", "--seeds", "0")
    run(eden, *options)
    claims = json.loads((tmp_path / "docs" / "results" / "eden.json").read_text())
    assert len(claims) == 17 and all(np.isfinite(claim["figure"]) for claim in claims)
    notes = (tmp_path / "docs" / "results" / "eden.md").read_text()
    assert "| protected and boosted on a chip |" in notes and "| B1 | 1.2 |" in notes

    # Killed before its last row, it goes on from what it had found.
    kept = tmp_path / "runs" / "boost"
    assert len(list(kept.glob("eden-*"))) == 7
    next(kept.glob("eden-*/on-chips*.json")).unlink()
    for rate in kept.glob("eden-*/rate-of-float32.json"):
        rate.write_text("[0.5]")
    run(eden, *options)
    again = (tmp_path / "docs" / "results" / "eden.md").read_text()
    assert again.splitlines()[-4:] == notes.splitlines()[-4:]
    assert "float32 bears 5.0e-01 without correction" in again
