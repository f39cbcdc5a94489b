import subprocess
import sys
from pathlib import Path

import pytest
import torch

from penstock.backbones import load_data, shipped
from penstock.scripts.skipping import core, mismatches, saved, spent, zeros

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce" / "sparce.py"


def test_what_data_it_lacks_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--data", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("penstock: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "docs").exists()


def test_figures_of_the_digits_agree_with_each_other() -> None:
    backbone = shipped("digits").eval()
    images = load_data("digits").test.pixels[:3] / 255
    share = zeros(backbone, images)
    assert 0 < share.border < share.x < 1 and share.independent < share.four < share.x
    wrong = mismatches(backbone, images[:1], 0)
    assert len(wrong) == 18 * 16 and not any(wrong)  # products, loops

    one = saved(core(), backbone, images)
    # The inner loop alone would save s * 3 / 8; windows and outer loops take a few % of it.
    assert 0.9 * 37.5 * share.x < one.mean().item() < 37.5 * share.x
    assert (saved(core(mode="branch"), backbone, images) < 0).all()
    assert (saved(core(lanes=4), backbone, images) < one).all()
    exact, _ = spent(core(mode="dense"), backbone, images)
    assert torch.equal(exact, exact[:1].expand(3))


@pytest.mark.parametrize("mode", ["dense", "one_entry"])
def test_a_changed_product_is_what_is_counted(mode: str) -> None:
    backbone = shipped("digits").eval()
    images = load_data("digits").test.pixels[:2] / 255
    plain, _ = spent(core(mode=mode), backbone, images)
    blank, _ = spent(
        core(mode=mode), backbone, images, lambda p: p.with_values(x=0 * p.x.values).exact()
    )
    assert (blank <= plain).all() and (blank < plain).all() == (mode == "one_entry")
