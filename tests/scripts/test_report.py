"""The page of a run: whole, self-contained, and honest about what loses."""

import json
import re
from base64 import b64decode
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from penstock.scripts.main import run
from penstock.scripts.matched import best as best_row
from penstock.scripts.page import VOID, section, tag
from penstock.scripts.ranking import best, ranking, score_of


class Page(HTMLParser):
    """Tags that are open, attributes that load something, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        if name not in VOID:
            self.open.append(name)
        given = dict(attributes)
        self.ids |= {str(given[key]) for key in ("id",) if key in given}
        self.loaded += [str(given[key]) for key in ("src", "srcset", "href") if key in given]
        if name == "img":
            assert given.get("alt")

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Page:
    """A page that is whole and loads nothing from elsewhere."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert text.startswith("<!doctype html>") and 'name="viewport"' in text
    assert not re.search(r"url\(|@import|<script|<link|<iframe", text)
    for target in page.loaded:
        if target.startswith("#"):
            assert target[1:] in page.ids
            continue
        kind, _, content = target.partition(";base64,")
        if kind == "data:image/png":
            Image.open(BytesIO(b64decode(content))).load()
        else:
            assert kind == "data:image/svg+xml"
            assert ElementTree.fromstring(b64decode(content)).tag.endswith("svg")
    return page


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory, recorded_text: Callable[..., str]) -> Path:
    """A run on recordings."""
    folder = tmp_path_factory.mktemp("report")
    experiment = folder / "small.toml"
    experiment.write_text(recorded_text(folder / "recording"))
    splits = ["--splits", "validation", "test"]
    assert run("record", str(experiment), "--out", str(folder / "recording"), *splits) == 0
    assert run("train", str(experiment), "--out", str(folder / "run")) == 0
    return folder / "run"


def test_a_run_on_recordings(streams: Path) -> None:
    assert run("report", str(streams)) == 0
    page = read(streams / "report.html")
    score = json.loads((streams / "score.json").read_text())
    for row in score["rows"]:
        assert row["name"] in page.text
        for low, high in row["intervals"]:
            assert f"{100 * low:.1f}\u2013{100 * high:.1f}" in page.text
    assert page.text.count("entropy 0.") == 12
    assert "answered right" in page.text and "One stream" in page.text
    about = json.loads((streams / "run.json").read_text())
    assert about["command"] in page.text and "penstock report" in page.text
    assert "Each line of the price" not in page.text

    # Prices that a learner moved are shown as they moved; the figures stay as they were.
    with SummaryWriter(streams) as board:
        for step in (1000, 2000, 3000):
            board.add_scalar("price/0.0001", 1 / step, step)
            board.add_scalar("price/0.0002", 0.5 / step, step)
            board.add_scalar("price/overshoot", 0.1, step)
    assert run("report", str(streams), "--out", str(streams / "again.html")) == 0
    again = read(streams / "again.html")
    assert "Each line of the price" in again.text
    assert len(set(page.loaded) - set(again.loaded)) <= 2  # learning alone, in two widths


def test_a_run_of_the_network_itself(tiny: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "a<b>&c", tmp_path / "page.html"
    assert run("train", str(tiny), "--out", str(folder)) == 0
    assert run("report", str(folder), "--out", str(out)) == 0
    page = read(out)
    table = json.loads((folder / "evaluation.json").read_text())
    for row in table["policies"]:
        assert row["name"] in page.text and f"{100 * row['accuracy']:.1f}" in page.text
    for gap in table["gaps"]:
        assert f"{100 * gap['interval'][0]:+.1f}".replace("-", "\u2212") in page.text
    assert "a<b>&c" in page.text  # as text: the tags would not be closed
    assert "What the policy decided for 359 inputs" in page.text
    assert "One stream" not in page.text  # inputs come alone
    # The same policy on the same images decides as it did when it was judged.
    at_block_0 = table["policies"][0]["decisions"]["width"][0]
    assert f"{100 * at_block_0[0] / 359:.0f}" in page.text


def test_what_cannot_be_told_is_answered_in_a_sentence(
    streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert run("report", *arguments) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("penstock: ")
        assert not list(tmp_path.glob("*.html*"))
        return said

    assert "should be a run folder" in refused(str(tmp_path))
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("experiment.json", "run.json"):
        (unfinished / name).write_text((streams / name).read_text())
    assert "finish it with penstock train --resume" in refused(str(unfinished))
    old = json.loads((streams / "score.json").read_text())
    del old["rows"][0]["spread"]
    (unfinished / "score.json").write_text(json.dumps(old))
    (unfinished / "policy.safetensors").write_bytes((streams / "policy.safetensors").read_bytes())
    assert "no entry 'spread'" in refused(str(unfinished))
    out = ["--out", str(tmp_path / "page.html")]
    elsewhere = ["--recording", str(tmp_path / "nowhere")]
    assert "make them with penstock record" in refused(str(streams), *out, *elsewhere)
    images = tmp_path / "other" / "test"
    for label in ("a", "b"):
        (images / label).mkdir(parents=True)
        for i in range(20):
            Image.new("L", (8, 8), i).save(images / label / f"{i}.png")
    assert "with --data" in refused(str(streams), *out, "--data", str(images))
    assert "--out" in refused(str(streams), "--out", str(unfinished / "run.json" / "page"))


def test_whoever_overspends_or_knows_more_does_not_win() -> None:
    rows = []
    for name, utility, cost in (
        ("policy", [0.8, 0.9], [1.0, 1.0]),
        ("full network", [0.95, 0.95], [4.0, 2.0]),
        ("time-sharing hull", [0.7, 0.91], [1.0, 1.01]),
        ("realisable oracle", [0.99, 0.99], [1.0, 1.0]),
    ):
        row = {"name": name, "utility": utility, "cost": cost, "intervals": [[0.6, 0.99]] * 2}
        others = ("spread", "violating", "overshoot_p95", "missed", "over")
        rows.append({**row, **{key: [0, 0] for key in others}})
    table = {"resource": "energy_j", "full": 1.0, "budgets": [0.25, 0.5], "rows": rows}
    table["inside"] = [True, True]
    score = score_of(table)
    assert best(score) == ["policy", "time-sharing hull"]
    short, _ = ranking(table, score)
    words = "".join(part.text for part in short.inside if not isinstance(part, str | None))
    assert "at 1 (25" in words
    assert "loses to time-sharing hull at 50" in words and "(by 1.0 points)" in words
    assert "may be chance" in words
    assert np.isclose(score.gain("policy", "time-sharing hull", "realisable oracle")[0], 1 / 2.9)

    single = {
        "budget": {"resource": "energy_j", "matched": 1.0},
        "policies": [
            {"name": "policy", "accuracy": 0.8, "energy_j": 1.0},
            {"name": "full network", "accuracy": 0.9, "energy_j": 2.0},
            {"name": "bits 8", "accuracy": 0.85, "energy_j": 1.01},
            {"name": "label oracle", "accuracy": 0.99, "energy_j": 1.0},
        ],
    }
    assert best_row(single) == "bits 8"


def test_text_is_escaped_and_markup_is_not() -> None:
    link = tag("a", "<x>", href='"&')
    assert link.text == '<a href="&quot;&amp;">&lt;x&gt;</a>'
    assert tag("p", link).text == f"<p>{link.text}</p>"
    assert section("a", "b", None).title == "b"
