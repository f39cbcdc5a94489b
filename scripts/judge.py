"""What a finished run gets: its table, its picture, and both in TensorBoard."""

import sys
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from penstock.agents.evaluation import Evaluation, evaluate, record
from penstock.agents.frontier import draw, frontier
from penstock.agents.policy import Policy
from penstock.agents.scene import Scene
from penstock.scripts.picture import write_picture
from penstock.scripts.run import Run, provenance, write_json
from penstock.scripts.table import as_json, as_text


def judge(policy: Policy, scene: Scene, here: Run) -> Evaluation:
    """Evaluate at the experiment's budget, draw the frontier, print the table."""
    budget = here.experiment.budget
    with tqdm(desc="record baselines", unit="setting") as bar:
        recorded = record(scene, seed=here.seed, progress=bar.update)
    with tqdm(desc="judge", unit="image") as bar:
        evaluation = evaluate(
            policy,
            scene,
            recorded,
            budget,
            seed=here.seed,
            progress=bar.update,
        )
        curves = frontier(policy, scene, recorded, budget.resource, progress=bar.update)
    about: dict[str, Any] = {"machine": here.experiment.machine, "seed": here.seed}
    write_json(here.evaluation, {**as_json(evaluation), **about, **provenance()})
    figure = draw(curves, evaluation)
    write_picture(here.picture, figure)
    with SummaryWriter(here.folder) as board:
        board.add_figure("frontier", figure, close=False)
        board.add_text("evaluation", f"```\n{as_text(evaluation)}\n```")
    print(as_text(evaluation))
    print(f"picture: {here.picture}", file=sys.stderr)
    return evaluation
