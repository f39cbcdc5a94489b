"""Learning and judging on recordings: streams of inputs under budgets of every size."""

import sys
from dataclasses import replace
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from penstock.agents.arena import Arena, open_arena
from penstock.agents.calibration import careful
from penstock.agents.contenders import (
    FEW,
    HULL,
    LABELS,
    POINTS,
    POLICY,
    REALISABLE,
    contend,
)
from penstock.agents.decider import Streams
from penstock.agents.pictures import draw_score, draw_stream
from penstock.agents.policy import Policy
from penstock.agents.predictor import (
    Fit,
    Predictor,
    fit_predictor,
    load_predictor,
    save_predictor,
)
from penstock.agents.primal_dual import Careful
from penstock.agents.sb3 import load_policy, train
from penstock.agents.score import Score, budget_grid, cheapest_way
from penstock.backbones import InputError
from penstock.hardware import UNITS, build_machine
from penstock.scripts.experiment import Experiment
from penstock.scripts.picture import write_picture
from penstock.scripts.run import Run, make_run, open_run, provenance, write_json
from penstock.scripts.table import quantity


def arena_of(experiment: Experiment, machine: str | None = None) -> Arena:
    """The recordings that an experiment names, with its rules.

    Raises:
        InputError: if there are none, or they do not fit.
    """
    assert experiment.recording is not None
    learner = experiment.learner
    arena = open_arena(
        experiment.recording,
        experiment.stream,
        experiment.learn_on,
        build_machine(machine) if machine else None,
    )
    return replace(arena, hidden=learner.hidden, joint=learner.joint, memory=learner.remembers)


def learn(experiment: Experiment, folder: Path, seed: int, *, resume: bool) -> None:
    """Learn a policy on recordings, and judge it."""
    arena = arena_of(experiment)
    # Everything is checked before anything is written.
    arena.lanes("learn", learned=True, lanes=1)
    least, most = judged_range(experiment, arena)
    here = make_run(folder, experiment, seed, resume=resume)
    print(f"run folder: {here.folder}", file=sys.stderr)
    learner = experiment.learner
    length = learner.inputs or experiment.stream.inputs_per_episode
    shorter = replace(arena, stream=replace(arena.stream, inputs_per_episode=length))
    lanes = shorter.lanes("learn", learned=True, lanes=learner.lanes, seed=seed)
    about = {**experiment.table(), "seed": seed}
    teacher = teacher_of(arena, here) if learner.imitate else None
    policy = train(
        lanes, learner, here.folder, seed=seed, resume=resume, about=about, teacher=teacher
    )
    judge(policy, arena, here, least, most)


def teacher_of(arena: Arena, here: Run) -> Careful:
    """Whom a policy imitates at first."""
    streams = arena.streams("choose", FEW, here.seed)
    lanes = arena.lanes("choose", learned=False, lanes=POINTS * FEW)
    predictor = predictor_of(arena, here)
    with tqdm(desc="teacher", unit="input") as bar:
        return careful(predictor, lanes, streams, seed=here.seed, progress=bar.update)


def predictor_of(arena: Arena, here: Run) -> Predictor:
    """A predictor of the worth of answers, fitted to what a run learns on; kept in its folder."""
    path = here.folder / "predictor.safetensors"
    if path.is_file():
        return load_predictor(path, arena.learn)
    fit = Fit()
    with tqdm(desc="predict", total=fit.epochs, unit="epoch") as bar:
        predictor = fit_predictor(
            arena.learn, arena.choose, worth=arena.stream.worth, fit=fit, progress=bar.update
        )
    save_predictor(predictor, path)
    return predictor


def judged_range(experiment: Experiment, arena: Arena) -> tuple[float, float]:
    """Least and most budget for an input at which a policy is judged, in the resource's unit.

    Raises:
        InputError: if the experiment's budget is no such range.
    """
    budget, stream = experiment.budget, arena.stream
    if budget.most is None or budget.kind != "average" or budget.resource != stream.resource:
        raise InputError(
            "on recordings a policy is judged over a range of average budgets of the priced "
            f"resource, got {budget.resource} from {budget.limit:g} to {budget.most}; give the "
            f'experiment a [budget] with resource = "{stream.resource}", a limit and a most'
        )
    free = arena.lanes("judge", learned=True, lanes=1)
    least = budget.absolute(free.full)
    most = least * budget.most / budget.limit
    lowest, cheapest = float(budget_grid(least, most)[0][0]), cheapest_way(free)
    if lowest < cheapest:
        raise InputError(
            f"the lowest budget at which is judged, {lowest:.4g} {budget.resource}, one step "
            f"below the experiment's, is under the cheapest way to an answer, {cheapest:.4g}; "
            "raise the limit"
        )
    return least, most


def judge(policy: Policy, arena: Arena, here: Run, least: float, most: float) -> None:
    """Score a policy among everything that needs no learning; leave table and pictures."""
    found, streams = scored(policy, arena, least, most, here)
    write_json(here.folder / "score.json", {**found.table(), "seed": here.seed, **provenance()})
    frontier, timeline = draw_score(found), draw_stream(streams, arena.stream.resource)
    write_picture(here.picture, frontier)
    write_picture(here.folder / "timeline.png", timeline)
    with SummaryWriter(here.folder) as board:
        board.add_figure("frontier", frontier, close=False)
        board.add_figure("timeline", timeline, close=False)
        board.add_text("score", f"```\n{as_text(found)}\n```")
    print(as_text(found))
    print(f"pictures: {here.picture}, timeline.png beside it", file=sys.stderr)


def scored(
    policy: Policy, arena: Arena, least: float, most: float, here: Run
) -> tuple[Score, Streams]:
    """A policy among its controls, with a progress bar."""
    budgets, inside = budget_grid(least, most)
    predictor = predictor_of(arena, here)
    with tqdm(desc="judge", unit="input") as bar:
        return contend(
            policy,
            predictor,
            arena,
            budgets,
            inside,
            count=here.experiment.streams,
            seed=here.seed,
            progress=bar.update,
        )


def recorded_run(what: str) -> Run | None:
    """A run that learned on recordings; None if it is no run, or of another kind."""
    folder = Path(what)
    if not (folder / "experiment.json").is_file():
        return None
    here = open_run(folder)
    return here if here.experiment.recording is not None else None


def judged(here: Run, machine: str | None) -> tuple[Score, Streams]:
    """The score of a run that learned on recordings, perhaps over another link."""
    arena = arena_of(here.experiment, machine)
    least, most = judged_range(here.experiment, arena)
    lanes = arena.lanes("choose", learned=True, lanes=1)
    policy = load_policy(lanes, here.experiment.learner, here.folder)
    return scored(policy, arena, least, most, here)


def as_text(score: Score) -> str:
    """Utility of all contenders at all budgets, and how well they kept them."""
    unit = UNITS[score.resource]
    heads = [quantity(budget) + unit for budget in score.budgets]
    lines = [
        f"utility, % of an input's worth, by mean {score.resource} of an input; "
        f"the full network takes {quantity(score.full)}{unit}; * learned for no such budget",
        "",
        f"{'':30}"
        + "".join(
            f"{head + ('' if known else '*'):>10}"
            for head, known in zip(heads, score.inside, strict=True)
        ),
    ]
    for row in score.rows:
        cells = "".join(f"{100 * utility:10.2f}" for utility in row.utility)
        lines.append(f"{row.name:30}{cells}")
    policy = score.row(POLICY)
    for name, values in (
        ("cost / budget, %", 100 * policy.cost),
        ("violating streams, %", 100 * policy.violating),
        ("95 % overshoot by, %", 100 * policy.overshoot_p95),
        ("G, realisable oracle", score.gain(POLICY, HULL, REALISABLE)),
        ("G, label oracle", score.gain(POLICY, HULL, LABELS)),
    ):
        lines.append(f"{POLICY + ': ' + name:30}" + "".join(f"{v:10.2f}" for v in values))
    return "\n".join(lines)
