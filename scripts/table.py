"""An evaluation as text for people and as plain values for programs."""

from typing import Any

from penstock.agents.evaluation import POLICY, Evaluation

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
    budget = evaluation.budget
    unit = budget.resource.rpartition("_")[2]
    lines = [
        f"{len(evaluation.rows[0].right)} test images; {budget.kind} budget of "
        f"{quantity(evaluation.limit)}{unit} ({budget.resource}) per {budget.per}; controls at "
        f"{quantity(evaluation.matched)}{unit}",
        "",
        f"{'':28} accuracy   energy (p95)        latency (p95)       MACs      violations",
    ]
    for row in evaluation.rows:
        cells = row.table()
        energy = f"{quantity(cells['energy_j'])}J ({quantity(cells['energy_j_p95'])}J)"
        latency = f"{quantity(cells['latency_s'])}s ({quantity(cells['latency_s_p95'])}s)"
        macs = quantity(cells["macs"])
        lines.append(
            f"{row.name:28} {100 * row.accuracy:6.2f} %   {energy:18}  {latency:18}  {macs:8}  "
            f"{row.violations:6}"
        )
    if evaluation.gaps:
        lines += ["", f"{POLICY} minus control, in points, 95 % paired interval:"]
    for gap in evaluation.gaps:
        lines.append(
            f"  {gap.control:26} {100 * gap.gap:+6.2f}   "
            f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
        )
    if evaluation.score is not None:
        lines.append(f"  score G = (policy - hull) / (oracle - hull) = {evaluation.score:.2f}")
    return "\n".join(lines)


def quantity(value: float) -> str:
    """Three significant digits with a unit prefix: 0.00123 -> "1.23 m"."""
    if value == 0:
        return "0 "
    scale, prefix = next(((s, p) for s, p in reversed(PREFIXES) if abs(value) >= s), PREFIXES[0])
    return f"{value / scale:.3g} {prefix}"
