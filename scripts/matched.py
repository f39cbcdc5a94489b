"""How a run did among its controls at one budget: what wins, what loses, in a table."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from penstock.agents.evaluation import HULL, POLICY
from penstock.scripts.page import Html, Section, items, scrolling, section, tag
from penstock.scripts.ranking import SLACK, boxes, knows_more
from penstock.scripts.setting import amount, noun, signed

Table = Mapping[str, Any]


def matched(table: Table, full: float) -> tuple[Section, Section]:
    """The sections in short, and in full.

    Args:
        table: a run's evaluation.json.
        full: what the full network takes of the budget's resource.
    """
    resource = table["budget"]["resource"]
    policy = table["policies"][0]
    share = 100 * policy[resource] / full
    found = [
        ("Test accuracy", f"{100 * policy['accuracy']:.1f} %", f"of {table['n']} images"),
        (
            f"Mean {noun(resource)}",
            f"{share:.0f} %",
            f"of the full network's: {amount(policy[resource], resource)}",
        ),
    ]
    for gap in table["gaps"]:
        if gap["control"] == HULL:
            found.append(
                (f"Against {HULL}", f"{signed(100 * gap['gap'])}\u00a0points", _interval(gap))
            )
    if table["score"] is not None:
        found.append(("Score G", f"{table['score']:.2f}", "0 the hull, 1 the label oracle"))
    short = section("short", "In short", boxes(found), items(verdict(table)))
    return short, section(
        "table", "All contenders", scrolling(_table(table), _caption(table)), _how(table)
    )


def verdict(table: Table) -> list[str]:
    """Where the policy wins, loses and overspends, a sentence each."""
    budget = table["budget"]
    resource, limit = budget["resource"], budget["limit"]
    policy = table["policies"][0]
    allowed = amount(limit, resource)
    lines = []
    spent = amount(policy[resource], resource)
    if budget["kind"] == "hard":
        lines.append(
            f"The budget is hard, {allowed} for each {budget['per']}; {policy['violations']} of "
            f"{table['n']} inputs exceeded it."
        )
    elif policy[resource] > SLACK * limit:
        lines.append(f"It overspends: {spent} on average where {allowed} are allowed.")
    else:
        lines.append(
            f"It keeps its budget, within 2 %: {spent} on average where {allowed} are allowed."
        )
    kinds: dict[str, list[str]] = {"Better than": [], "No different from": [], "Worse than": []}
    cost = {row["name"]: row[resource] for row in table["policies"]}
    for gap in table["gaps"]:
        low, high = gap["interval"]
        kind = "Better than" if low > 0 else "Worse than" if high < 0 else "No different from"
        times = cost[gap["control"]] / policy[resource]
        dearer = f" at {times:.1f} times the cost" if times > SLACK else ""
        kinds[kind].append(f"{gap['control']} ({signed(100 * gap['gap'])} points{dearer})")
    lines += [f"{kind} {', '.join(names)}." for kind, names in kinds.items() if names]
    better = [
        row["name"]
        for row in table["policies"][1:]
        if not knows_more(row["name"])
        and row["accuracy"] > policy["accuracy"]
        and row[resource] <= SLACK * policy[resource]
    ]
    if better:
        lines.append(f"It loses, at no more cost, to {', '.join(better)}.")
    return lines


def best(table: Table) -> str:
    """The row with the highest accuracy among those that cost no more than the policy."""
    resource = table["budget"]["resource"]
    most = SLACK * table["budget"]["matched"]
    rows = [row for row in table["policies"] if not knows_more(row["name"])]
    keep = [row for row in rows if row[resource] <= most] or rows
    name: str = max(keep, key=lambda row: float(row["accuracy"]))["name"]
    return name


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n, after Wilson (1927).

    >>> low, high = wilson(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def _table(table: Table) -> Html:
    resource, rows = table["budget"]["resource"], table["policies"]
    gaps = {gap["control"]: gap for gap in table["gaps"]}
    sent, over = (any(row[name] for row in rows) for name in ("sent_bytes", "violations"))
    first, most = best(table), SLACK * table["budget"]["matched"]
    names = ["accuracy, %", "policy's lead, points"]
    names += ["energy (p95)", "latency (p95)", "MACs"]
    names += ["sent"] * sent + ["violations"] * over
    body = []
    for row in rows:
        low, high = (100 * end for end in wilson(row["accuracy"], table["n"]))
        kind = "best" if row["name"] == first else "over" if row[resource] > most else ""
        kind = "aside" if knows_more(row["name"]) else kind
        star = "*" if kind == "over" else ""
        accuracy = f"{100 * row['accuracy']:.1f}{star}"
        cells = [
            tag("td", accuracy, tag("small", f"{low:.1f}\u2013{high:.1f}"), class_=kind),
            _gap(gaps.get(row["name"])),
            *(_spent(row, name) for name in ("energy_j", "latency_s")),
            tag("td", amount(row["macs"], "macs").removesuffix("MACs").rstrip()),
        ]
        if sent:
            cells.append(tag("td", amount(row["sent_bytes"], "sent_bytes")))
        if over:
            cells.append(tag("td", str(row["violations"])))
        own = "own" if row["name"] == POLICY else ""
        body.append(tag("tr", tag("th", row["name"], scope="row"), *cells, class_=own))
    corner = tag("th", "contender", scope="col", class_="corner")
    head = tag("tr", corner, *(tag("th", name, scope="col") for name in names))
    return tag("table", tag("thead", head), tag("tbody", *body))


def _caption(table: Table) -> str:
    return (
        f"{table['n']} test images; controls may take {_allowed(table)} of an input. Below "
        "accuracies and differences their 95 % intervals."
    )


def _how(table: Table) -> Html:
    return tag(
        "p",
        "Green: the highest accuracy among contenders that cost no more than the policy, within "
        "2 %; oracles know the labels, and do not compete. Grey with *: costs more. Intervals of "
        "accuracies after Wilson, each alone; of differences by the bootstrap over the same "
        "images, paired: those decide. p95: 95 % of inputs stay below.",
        class_="lead",
    )


def _allowed(table: Table) -> str:
    budget = table["budget"]
    return f"{amount(budget['matched'], budget['resource'])} ({noun(budget['resource'])})"


def _gap(gap: Table | None) -> Html:
    if gap is None:
        return tag("td", "\u2013")
    return tag("td", signed(100 * gap["gap"]), tag("small", _interval(gap)))


def _interval(gap: Table) -> str:
    ends: Sequence[float] = gap["interval"]
    return f"{signed(100 * ends[0])} to {signed(100 * ends[1])}"


def _spent(row: Table, resource: str) -> Html:
    return tag(
        "td",
        amount(row[resource], resource),
        tag("small", f"({amount(row[f'{resource}_p95'], resource)})"),
    )
