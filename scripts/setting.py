"""What a run rests on, in words: network, machine, data, rules, learner, versions."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from penstock.backbones import Knob
from penstock.envs import Lanes, Live
from penstock.hardware import UNITS
from penstock.scripts.at_work import AtWork
from penstock.scripts.experiment import Network
from penstock.scripts.page import Section, section, tag
from penstock.scripts.run import Run
from penstock.scripts.table import quantity


def amount(value: float, resource: str) -> str:
    """A quantity of a resource with its unit, never broken at the end of a line."""
    unit = UNITS[resource]
    words = quantity(value) + (unit if len(unit) == 1 else f" {unit}")
    return " ".join(words.split()).replace(" u", " µ").replace(" ", "\u00a0")


def signed(points: float, digits: int = 1) -> str:
    """A difference with its sign.

    >>> signed(0.456)
    '+0.5'
    """
    return f"{points:+.{digits}f}".replace("-", "\u2212")


def noun(resource: str) -> str:
    """A resource as people call it.

    >>> noun("energy_j"), noun("macs"), noun("sent_bytes")
    ('energy', 'MACs', 'sent bytes')
    """
    return {"energy_j": "energy", "latency_s": "latency", "macs": "MACs"}.get(
        resource, resource.replace("_", " ")
    )


def setting(here: Run, work: AtWork, about: Mapping[str, Any]) -> Section:
    """The section that says what was run.

    Args:
        here: the run.
        work: its policy at work.
        about: the run's `run.json`.
    """
    experiment, lanes = here.experiment, work.lanes
    full = {name: float(value) for name, value in lanes.full.each().items()}
    costs = ", ".join(amount(value, name) for name, value in full.items() if value)
    terms = {
        "Network": _network(experiment.backbone, lanes),
        "Machine": f"{experiment.machine}; the full network takes {costs} for an input",
        "Data": _data(work, experiment.data.name),
        "Decisions": _decisions(lanes),
        "Stream": _stream(lanes),
        "Learner": _learner(here),
        "Seed": str(here.seed),
        "Made": f"{about.get('date', 'date unknown')}, commit {about.get('commit', 'unknown')}",
        "Versions": _pairs(about.get("versions", {})),
    }
    rows = [part for term in terms.items() for part in (tag("dt", term[0]), tag("dd", term[1]))]
    whole = json.dumps(experiment.table(), indent=2)
    details = tag(
        "details",
        tag("summary", "Every setting, defaults included (experiment.json)"),
        tag("pre", tag("code", whole), tabindex="0"),
    )
    return section("setting", "Setting", tag("dl", *rows, class_="terms"), details)


def reproduction(here: Run, work: AtWork, about: Mapping[str, Any]) -> Section:
    """The section with the commands that make this run and page again."""
    commit = about.get("commit", "unknown")
    lines = [] if commit == "unknown" else [f"git checkout {commit}"]
    lines += [work.about["command"]] if work.about else []
    lines += [about.get("command", f"penstock train {here.folder.name}")]
    lines += [f"penstock report {shlex.quote(str(here.folder))}"]
    versions = (
        "Versions are those above; requirements.lock of that commit pins all of them. Costs are "
        "computed and every draw comes from the seed; what a policy learns may still differ in "
        "the last digits between processors, and then in its decisions."
    )
    block = tag("pre", tag("code", "\n".join(lines)), tabindex="0")
    return section("again", "Make it again", block, tag("p", versions))


def _network(chosen: Network, lanes: Lanes) -> str:
    """Name or builder, blocks and the exits that can be taken; of one that is run, its weights."""
    words = chosen.weights
    if words is None:
        words = f"{chosen.builder.rpartition(':')[2]}({_pairs(chosen.arguments, '=')})"
    elif words.endswith(".safetensors"):
        words = Path(words).name
    heads = lanes.prices.last[lanes.prices.exits].tolist()
    words += f"; {int(lanes.prices.last[-1]) + 1} blocks, exits after {_listed(heads)}"
    if isinstance(lanes.source, Live):
        count = sum(weights.numel() for weights in lanes.backbone.parameters())
        words += f", {count:,} weights"
    return words


def _data(work: AtWork, name: str) -> str:
    channels, rows, columns = work.images.shape
    if work.about:
        name = work.about["experiment"]["data"]["name"]
    if Path(name).is_absolute():
        name = Path(name).name
    return (
        f"{name}: {len(work.images)} test images of {rows} x {columns} pixels, {channels} "
        f"{'channel' if channels == 1 else 'channels'}, {len(work.images.classes)} classes"
    )


def _decisions(lanes: Lanes) -> str:
    """What can be chosen, and when."""
    outline = lanes.source.outline(lanes.stream)
    words = [f"before block {_listed(outline.first)}: go on or answer, where there is an exit"]
    words += [_choices(knob) for knob in lanes.offered]
    if outline.fixed:
        words.append("fixed: " + _pairs(outline.fixed))
    return "; ".join(words)


def _stream(lanes: Lanes) -> str:
    """The rules of an episode."""
    stream, plain = lanes.stream, asdict(lanes.stream)
    n = stream.inputs_per_episode
    low, high = stream.price
    words = [
        f"{n} inputs" if n > 1 else "one input at a time",
        f"price on {noun(stream.resource)}: the full network's counts as much as {low:g} to "
        f"{high:g} right answers",
        "an answer is worth 1 if right"
        if stream.worth == "right"
        else "an answer is worth the probability that it gives to the right class",
    ]
    words += [f"{name}: {_pairs(plain[name])}" for name in ("arrivals", "battery") if plain[name]]
    words += [f"turning {_pairs(each)}" for each in plain["switching"]]
    words += [
        f"hard budget per {budget.per}: {noun(budget.resource)} {_limit(budget.limit, budget)}"
        for budget in stream.budgets
        if budget.kind == "hard"
    ]
    if stream.history:
        words.append(f"the policy sees {stream.history} inputs back")
    return "; ".join(words)


def _limit(limit: float, budget: Any) -> str:
    return f"{100 * limit:g} % of full" if budget.relative else amount(limit, budget.resource)


def _learner(here: Run) -> str:
    learner = here.experiment.learner
    hidden = " and ".join(map(str, learner.hidden)) or "no"
    memory = f", an LSTM of {learner.remembers} units" if learner.remembers else ""
    prices = {"drawn": "prices drawn"}.get(learner.prices, f"prices moved by {learner.prices}")
    return (
        f"{learner.algorithm}, {learner.steps:,} decisions in {learner.lanes} lanes, hidden layers "
        f"of {hidden} units{memory}; {prices}; on {here.experiment.learn_on} images"
    )


def _choices(knob: Knob) -> str:
    return f"{knob.name} {', '.join(f'{choice:g}' for choice in knob.choices)}"


def _listed(blocks: Sequence[int]) -> str:
    """Blocks, or from which to which if there are many."""
    if len(blocks) > 6 and list(blocks) == list(range(blocks[0], blocks[-1] + 1)):
        return f"{blocks[0]} to {blocks[-1]}"
    return ", ".join(map(str, blocks))


def _pairs(table: Mapping[str, Any], between: str = " ") -> str:
    """Entries of a table in a line."""
    shown = {name: value for name, value in table.items() if value is not None}
    return ", ".join(
        f"{name}{between}{value:g}" if isinstance(value, float) else f"{name}{between}{value}"
        for name, value in shown.items()
    )


def written_by(about: Mapping[str, Any]) -> str:
    """Who wrote the page, and when."""
    version = about["versions"]["penstock"]
    return f"Written by penstock {version}, commit {about['commit']}, {about['date']}."
