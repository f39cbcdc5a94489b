"""An evaluation as text for people and as plain values for programs."""

from collections.abc import Mapping
from typing import Any

from penstock.agents.evaluation import POLICY, Evaluation
from penstock.hardware import UNITS

PREFIXES = ((1e-12, "p"), (1e-9, "n"), (1e-6, "u"), (1e-3, "m"), (1.0, ""), (1e3, "k"), (1e6, "M"))


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """One object: n, policies, budget, gaps, score."""
    budget = evaluation.budget
    return {
        "n": len(evaluation.rows[0].right),
        "budget": {
            "resource": budget.resource,
            "limit": evaluation.limit,
            "kind": budget.kind,
            "per": budget.per,
            "matched": evaluation.matched,
        },
        "price": evaluation.price,
        "policies": [row.table() for row in evaluation.rows],
        "gaps": [
            {"control": gap.control, "gap": gap.gap, "interval": [gap.low, gap.high]}
            for gap in evaluation.gaps
        ],
        "score": evaluation.score,
    }


def as_text(evaluation: Evaluation) -> str:
    """The table, the gaps to the controls with their intervals, and the score."""
    return written(as_json(evaluation))


def written(table: Mapping[str, Any]) -> str:
    """What `as_json` gave, or a run's evaluation.json holds, as text for people."""
    budget = table["budget"]
    unit = UNITS[budget["resource"]]
    lines = [
        f"{table['n']} test images; {budget['kind']} budget of {quantity(budget['limit'])}{unit} "
        f"({budget['resource']}) per {budget['per']}; controls at "
        f"{quantity(budget['matched'])}{unit}",
        "",
        f"{'':28} accuracy   energy (p95)        latency (p95)       MACs      violations",
    ]
    if table["price"] is not None and budget["matched"] > 1.05 * budget["limit"]:
        lines.insert(
            1, "no price that the policy learned with meets the budget; this is the highest"
        )
    sent = any(row["sent_bytes"] for row in table["policies"])
    if sent:
        lines[-1] += "  sent        lost"
    for row in table["policies"]:
        energy = f"{quantity(row['energy_j'])}J ({quantity(row['energy_j_p95'])}J)"
        latency = f"{quantity(row['latency_s'])}s ({quantity(row['latency_s_p95'])}s)"
        lines.append(
            f"{row['name']:28} {100 * row['accuracy']:6.2f} %   {energy:18}  {latency:18}  "
            f"{quantity(row['macs']):8}  {row['violations']:6}"
        )
        if sent:
            lines[-1] += f"      {quantity(row['sent_bytes']) + 'B':9} {row.get('lost', '-'):>6}"
    if table["gaps"]:
        lines += ["", f"{POLICY} minus control, in points, 95 % paired interval:"]
    for gap in table["gaps"]:
        low, high = (100 * end for end in gap["interval"])
        lines.append(f"  {gap['control']:26} {100 * gap['gap']:+6.2f}   [{low:+.2f}, {high:+.2f}]")
    if table["score"] is not None:
        lines.append(f"  score G = (policy - hull) / (oracle - hull) = {table['score']:.2f}")
    return "\n".join(lines)


def quantity(value: float) -> str:
    """Three significant digits with a unit prefix: 0.00123 -> "1.23 m"."""
    if value == 0:
        return "0 "
    scale, prefix = next(((s, p) for s, p in reversed(PREFIXES) if abs(value) >= s), PREFIXES[0])
    return f"{value / scale:.3g} {prefix}"
