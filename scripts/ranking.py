"""How a run did among its controls at budgets of every size: what wins, what loses, in a table."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from penstock.agents.contenders import FULL, HULL, POLICY
from penstock.agents.score import Row, Score
from penstock.backbones import InputError
from penstock.scripts.page import Html, Section, items, scrolling, section, tag
from penstock.scripts.setting import amount, noun, signed

SLACK: Final = 1.02
"""Mean cost, as a share of the budget, up to which a budget counts as kept."""


ROOM: Final = 0.01
"""Utility by which an oracle is better than the hull before shares of that are told."""


def score_of(table: Mapping[str, Any]) -> Score:
    """What a run's score.json holds; the worth of each stream alone is not in it.

    Raises:
        InputError: if an entry is missing.
    """
    try:
        shared = [name for name in Row.__slots__ if name not in ("name", "each")]
        rows = tuple(
            Row(
                row["name"],
                each=np.empty((len(table["budgets"]), 0)),
                **{name: np.array(row[name]) for name in shared},
            )
            for row in table["rows"]
        )
        budgets, inside = np.array(table["budgets"]), np.array(table["inside"])
        return Score(table["resource"], float(table["full"]), budgets, inside, rows)
    except KeyError as error:
        raise InputError(
            f"score.json has no entry {error}, as one that another release wrote; judge the run "
            "again with penstock train --resume"
        ) from error


def knows_more(name: str) -> bool:
    """Whether a row knows what nobody can know beforehand: a mark, not a contender."""
    return "oracle" in name


def best(score: Score) -> list[str]:
    """At each budget the contender with the highest utility among those that keep it."""
    rows = [row for row in score.rows if not knows_more(row.name)]
    found = []
    for b in range(len(score.budgets)):
        keep = [row for row in rows if row.cost[b] <= SLACK] or rows
        found.append(max(keep, key=lambda row: float(row.utility[b])).name)
    return found


def verdict(score: Score, intervals: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """Where the policy wins, loses and overspends, a sentence each."""
    policy, winners = score.row(POLICY), best(score)
    within = np.flatnonzero(score.inside).tolist()
    heads = [_share(score, b) for b in range(len(score.budgets))]
    won = [heads[b] for b in within if winners[b] == POLICY]
    lines = [
        f"Of the {len(within)} budgets that it learned for, the policy has the highest utility of "
        f"all that keep the budget at {len(won)} ({', '.join(won)} of full)."
        if won
        else f"At none of the {len(within)} budgets that it learned for the policy has the highest "
        "utility of all that keep the budget."
    ]
    over = [heads[b] for b in within if policy.cost[b] > SLACK]
    if over:
        lines.append(
            f"It overspends, by more than 2 % on average, at {', '.join(over)} of full: there its "
            "utility is bought with what it did not have."
        )
    lost = [(b, winners[b]) for b in within if winners[b] != POLICY and policy.cost[b] <= SLACK]
    if lost:
        told, apart = [], 0
        for name in dict.fromkeys(winner for _, winner in lost):
            places = [b for b, winner in lost if winner == name]
            points = [100 * float(score.row(name).utility[b] - policy.utility[b]) for b in places]
            apart += sum(intervals[name][b][0] > intervals[POLICY][b][1] for b in places)
            where = ", ".join(heads[b] for b in places)
            told.append(f"{name} at {where} (by {_range(points)} points)")
        chance = (
            f"At {apart} of these the intervals do not even touch."
            if apart
            else "The intervals overlap everywhere, so each of these alone may be chance."
        )
        lines.append(f"It loses to {'; to '.join(told)}. {chance}")
    return lines


def numbers(score: Score) -> list[tuple[str, str, str]]:
    """Of the budgets that the policy learned for: label, number, remark."""
    policy, inside = score.row(POLICY), score.inside
    mean = 100 * float(policy.utility[inside].mean())
    kept = int((policy.cost[inside] <= SLACK).sum())
    found = [
        ("Utility, mean over budgets", f"{mean:.1f} %", "of an input's worth"),
        ("Budgets kept", f"{kept} of {int(inside.sum())}", "mean cost within 2 %"),
    ]
    times = float((score.row(FULL).cost[inside] / policy.cost[inside]).mean())
    dearer = f"which takes {times:.1f} times as much"
    for name, about in ((HULL, "the best mix of two settings"), (FULL, dearer)):
        gap = mean - 100 * float(score.row(name).utility[inside].mean())
        found.append((f"Against {name}", f"{signed(gap)}\u00a0points", about))
    return found


def ranking(table: Mapping[str, Any], score: Score) -> tuple[Section, Section]:
    """The sections in short, and in full."""
    intervals = {row["name"]: row["intervals"] for row in table["rows"]}
    short = section("short", "In short", boxes(numbers(score)), items(verdict(score, intervals)))
    caption = (
        "Utility, % of an input's worth: mean over streams, and below it the 95 % interval of that "
        f"mean (bootstrap), each row alone. Columns: mean {noun(score.resource)} allowed for an "
        "input, as a share of the full network's; in brackets beyond what the policy learned for."
    )
    winners = best(score)
    rows = []
    for row in score.rows:
        cells = [
            _cell(row, b, intervals[row.name][b], first=winners[b] == row.name)
            for b in range(len(score.budgets))
        ]
        area = tag("td", f"{100 * row.hypervolume(score.budgets):.1f}")
        name = tag("th", row.name, scope="row")
        rows.append(tag("tr", name, *cells, area, class_="own" if row.name == POLICY else ""))
    top = _head(score, "contender", tag("th", "area", scope="col"))
    whole = tag("table", tag("thead", top), tag("tbody", *rows))
    how = (
        "Green: the highest utility among contenders that keep the budget; oracles know what "
        "nobody can, and do not compete. Grey with *: took more than 102 % of the budget. Area: "
        "utility averaged over budgets on a logarithmic scale."
    )
    full = section(
        "table",
        "All contenders at all budgets",
        scrolling(whole, caption),
        tag("p", how, class_="lead"),
        tag("h3", "How well the policy keeps its budgets"),
        scrolling(
            _keeping(score),
            "Mean cost of an input over all streams, and how streams differ in it. G: the share of "
            "the way from the time-sharing hull to an oracle; it means little where the budget "
            "is overspent, and is left out where the oracle is less than a point better.",
        ),
    )
    return short, full


def boxes(found: Sequence[tuple[str, str, str]]) -> Html:
    """Numbers side by side, each with its label and a remark."""
    each = [
        tag("div", tag("dt", label), tag("dd", value, tag("small", about)))
        for label, value, about in found
    ]
    return tag("dl", *each, class_="numbers")


def _cell(row: Row, b: int, interval: Sequence[float], *, first: bool) -> Html:
    over = bool(row.cost[b] > SLACK)
    low, high = (100 * end for end in interval)
    kind = "best" if first else "over" if over else "aside" if knows_more(row.name) else ""
    value = f"{100 * row.utility[b]:.1f}{'*' if over else ''}"
    return tag("td", value, tag("small", f"{low:.1f}\u2013{high:.1f}"), class_=kind)


def _keeping(score: Score) -> Html:
    """Cost, spread, violations and misses of the policy, by budget."""
    policy = score.row(POLICY)
    lines: list[tuple[str, Any]] = [
        ("mean cost, % of budget", policy.cost),
        ("spread among streams, points", policy.spread),
        ("streams above budget, %", policy.violating),
        ("overshoot, 95 % stay below, %", policy.overshoot_p95),
    ]
    if policy.missed.any():
        lines.append(("inputs late or dropped, %", policy.missed))
    rows = [
        tag("tr", tag("th", name, scope="row"), *(tag("td", f"{100 * v:.1f}") for v in values))
        for name, values in lines
    ]
    for name in (row.name for row in score.rows if knows_more(row.name)):
        room = score.row(name).utility - score.row(HULL).utility
        gain = np.where(room > ROOM, score.gain(POLICY, HULL, name), np.nan)
        cells = [tag("td", "\u2013" if np.isnan(g) else signed(g, 2)) for g in gain]
        rows.append(tag("tr", tag("th", f"G, {name}", scope="row"), *cells))
    return tag("table", tag("thead", _head(score, "policy")), tag("tbody", *rows))


def _head(score: Score, first: str, *more: Html) -> Html:
    """The budgets."""
    heads = []
    for b, budget in enumerate(score.budgets.tolist()):
        unit = tag("small", amount(budget, score.resource))
        heads.append(tag("th", _share(score, b), unit, scope="col"))
    return tag("tr", tag("th", first, scope="col", class_="corner"), *heads, *more)


def _share(score: Score, b: int) -> str:
    text = f"{100 * score.budgets[b] / score.full:.2g}\u00a0%"
    return text if score.inside[b] else f"[{text}]"


def _range(points: Sequence[float]) -> str:
    low, high = min(points), max(points)
    return f"{high:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"
