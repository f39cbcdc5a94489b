"""`penstock frontier`: accuracy against cost as a picture."""

import sys
from dataclasses import dataclass
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.evaluation import record
from penstock.agents.frontier import draw, frontier
from penstock.agents.pictures import draw_score, draw_stream
from penstock.scripts.evaluate import open_scene
from penstock.scripts.picture import write_picture
from penstock.scripts.streams import judged, recorded_run


@dataclass(frozen=True)
class Arguments:
    """Draw accuracy against cost: policy and baselines."""

    run: Positional[str]
    """A run folder; or an experiment's name, then the baselines alone are drawn."""
    data: str | None = None
    """Images to use instead."""
    machine: str | None = None
    """Machine to use instead."""
    out: Path | None = None
    """The picture; RUN/frontier.png if not given."""


def run(arguments: Arguments) -> None:
    """Open, sweep, draw."""
    here = recorded_run(arguments.run)
    if here is not None:
        found, streams = judged(here, arguments.machine)
        out = arguments.out or here.picture
        write_picture(out, draw_score(found))
        timeline = out.with_name("timeline.png")
        write_picture(timeline, draw_stream(streams, found.resource))
        print(out, timeline, sep="\n")
        return
    policy, scene, experiment, seed = open_scene(arguments.run, arguments.data, arguments.machine)
    out = arguments.out or (
        Path("frontier.png") if policy is None else Path(arguments.run) / "frontier.png"
    )
    with tqdm(desc="record baselines", unit="setting") as bar:
        recorded = record(scene, seed=seed, progress=bar.update)
    with tqdm(desc="sweep", unit="image") as bar:
        curves = frontier(
            policy,
            scene,
            recorded,
            experiment.budget.resource,
            progress=bar.update,
        )
    figure = draw(curves)
    write_picture(out, figure)
    if policy is not None:
        with SummaryWriter(Path(arguments.run)) as board:
            board.add_figure("frontier", figure, close=False)
    print(out)
    print("open it, or the run in TensorBoard", file=sys.stderr)
