"""`penstock report`: a run as one page of HTML, with everything that it shows inside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.decided import groups
from penstock.agents.score import Score
from penstock.scripts.at_work import AtWork, live, read_table, recorded
from penstock.scripts.curves import price_names, read_curves
from penstock.scripts.examples import by_stage, examples
from penstock.scripts.figures import (
    difficulty_figure,
    frontier_figure,
    learning_figure,
    price_figure,
    stream_figure,
)
from penstock.scripts.matched import matched
from penstock.scripts.page import (
    Html,
    Section,
    document,
    drawn,
    picture_file,
    section,
    tag,
    write_page,
)
from penstock.scripts.ranking import ranking, score_of
from penstock.scripts.run import Run, check_file, open_run, provenance
from penstock.scripts.setting import noun, reproduction, setting, written_by


@dataclass(frozen=True)
class Arguments:
    """Write a run as one page of HTML, to be handed to somebody."""

    run: Positional[str]
    """A run folder whose training has ended."""
    out: Path | None = None
    """The page; RUN/report.html if not given."""
    data: str | None = None
    """Where the run's images are now."""
    recording: str | None = None
    """Where the recordings are now on which the run learned."""


def run(arguments: Arguments) -> None:
    """Open, let the policy decide once more, write."""
    here = open_run(Path(arguments.run))
    if arguments.recording is not None and here.experiment.recording is not None:
        moved = replace(here.experiment, recording=arguments.recording)
        here = replace(here, experiment=moved)
    out = arguments.out or here.folder / "report.html"
    table = read_table(here)
    score = None if here.experiment.recording is None else score_of(table)
    check_file(out)
    with tqdm(desc="decide", unit="input") as bar:
        if score is None:
            work = live(here, arguments.data, float(table["price"]), bar.update)
        else:
            work = recorded(here, arguments.data, bar.update)
    write_page(out, page(here, table, score, work))
    print(out)


def page(here: Run, table: Mapping[str, Any], score: Score | None, work: AtWork) -> str:
    """All of it; a run that was judged at one budget has no score."""
    about = json.loads((here.folder / "run.json").read_text())
    title = f"Penstock: {here.folder.resolve().name}"
    lanes = work.lanes
    full = float(lanes.full.each()[lanes.stream.resource])
    if score is None:
        short, whole = matched(table, float(lanes.full.each()[table["budget"]["resource"]]))
        front = _picture(here)
    else:
        short, whole = ranking(table, score)
        front = _frontier(score, table["rows"][0]["intervals"])
    parts = [
        short,
        setting(here, work, about),
        section("frontier", "Frontier", front),
        whole,
        _decisions(work, full),
        _timeline(work),
        _learning(here, work, full),
        reproduction(here, work, about),
    ]
    lead = (
        "One policy that decides, for each input, how much of a network to run, and how it did "
        "among everything that needs no learning."
    )
    sections = [part for part in parts if part is not None]
    return document(title, lead, sections, written_by(provenance()))


def _frontier(score: Score, intervals: Sequence[tuple[float, float]]) -> Html:
    """All contenders over the budgets; intervals of the policy, [B, 2]."""
    return drawn(
        lambda narrow: frontier_figure(score, intervals, narrow=narrow),
        "Utility of every contender against the budget of an input",
        "Higher is better, further left is cheaper. Shaded red: the policy's 95 % interval; "
        "grey: budgets beyond those that it learned for; a hollow dot: the policy took more than "
        "102 % of that budget. Others that overspend are grey in the table.",
    )


def _picture(here: Run) -> Html:
    """The frontier as it was drawn when the run was judged."""
    if not here.picture.is_file():
        return tag("p", "There is no picture yet: penstock frontier draws it.")
    return picture_file(
        here.picture,
        "Test accuracy of every contender against mean cost",
        "Higher is better, further left is cheaper. The policy's curve is swept over its prices, "
        "the others over their budgets; crosses and dots are single settings for all inputs.",
    )


def _decisions(work: AtWork, full: float) -> Section:
    """By stage, by difficulty, and examples."""
    decided, resource = work.decided, work.lanes.stream.resource
    group = groups(decided, work.hard)
    figure = drawn(
        lambda narrow: difficulty_figure(decided, group, full, resource, narrow=narrow),
        "Where inputs of each difficulty were answered, how many right, and at what cost",
        "Inputs in five groups of equal size. Left or first: after which block they were "
        "answered; then how many were right; then what they took. A policy that looks at its "
        "inputs spends more on the right-hand groups, where that helps.",
    )
    return section(
        "decisions",
        "Decisions",
        tag("p", f"What the policy decided for {len(decided)} inputs, {work.where}."),
        tag("h3", "By block"),
        by_stage(work),
        tag("h3", "By difficulty"),
        tag(
            "p",
            "Difficulty is how unsure the first exit is when everything before it runs at full: "
            "the entropy of its answer, from 0 (sure) to 1 (a guess among all classes).",
        ),
        figure,
        tag("h3", "The easiest inputs"),
        examples(work, hardest=False),
        tag("h3", "The hardest inputs"),
        examples(work, hardest=True),
    )


def _timeline(work: AtWork) -> Section | None:
    """One stream from its first input to its last; None where inputs come alone."""
    if work.lanes.stream.inputs_per_episode == 1:
        return None
    resource, count = work.lanes.stream.resource, len(work.streams.inputs)
    figure = drawn(
        lambda narrow: stream_figure(work.streams, resource, narrow=narrow),
        "What one stream met, what it took, and where its inputs were answered",
        "From left to right the inputs of one stream. The upper panels are what the policy sees "
        "of the world; then what each input took, with the mean so far, which ends at the budget "
        "if it is used up and kept; at the bottom where each was answered, and whether right.",
    )
    return section(
        "timeline", "One stream", tag("p", f"The first of {count}, {work.where}."), figure
    )


def _learning(here: Run, work: AtWork, full: float) -> Section | None:
    """Curves that were logged, and prices; None without either."""
    resource, prices = work.lanes.stream.resource, work.prices
    curves = read_curves(here.folder)
    parts: list[Html] = []
    if curves:
        moved = (
            " Each line of the price is that of one budget: it settles where the budget is met."
            if price_names(curves)
            else " Prices are drawn anew for every stream, so these are means over all of them."
        )
        parts.append(
            drawn(
                lambda narrow: learning_figure(curves, resource, narrow=narrow),
                "Accuracy, cost and prices while the policy learned",
                "Means of the decisions since the entry before, with those that explore." + moved,
            )
        )
    if prices is not None:
        parts += [
            tag("h3", "Prices that meet budgets"),
            drawn(
                lambda narrow: price_figure(prices, full, resource, narrow=narrow),
                "The price at which the policy meets each budget",
                f"Read off on validation inputs. A price of 1: the full network's "
                f"{noun(resource)} counts as much as a right answer. While a stream runs, the "
                "price follows what is left of its budget along this line.",
            ),
        ]
    return section("learning", "Learning and prices", *parts) if parts else None
