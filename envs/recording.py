"""What became of every input under every decision, recorded once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from penstock.backbones import RUN, InputError, Knob, every_setting
from penstock.backbones.saving import read_tensors, write_tensors
from penstock.envs.observation import FEATURES, Observation
from penstock.envs.price_table import PriceTable
from penstock.envs.replay import Outlook, Replay
from penstock.envs.source import Outline, Source
from penstock.envs.stream import Stream
from penstock.envs.tree import Tree
from penstock.hardware import Machine
from penstock.hardware.bound import machines
from penstock.hardware.machine import Condition

SCHEMA: Final = 2
"""Of the file; a reader refuses others."""

SEEN: Final = (
    *(f"feature_{i}" for i in range(FEATURES)),
    *("first", "second", "third", "entropy", "answered"),
)
"""Columns of `seen`, the block that comes next behind them."""

SAID: Final = ("right", "likelihood", "loss")
"""Columns of `said`: whether the last answer on the way here is right, the probability that it
gives to the right class, and minus its logarithm; 0 before one."""


NEVER: Final = (RUN.name, RUN.choices[:1])
"""What cannot be offered: never to run a block."""


@final
@dataclass(frozen=True)
class Recording(Source):
    """Inputs under every combination of choices of every stage, each run once.

    A source for `Lanes` like the network itself: the same decisions are seen, masked, paid for and
    rewarded in the same way. What a link, a server's load and heat do is not recorded but computed
    anew. Of a machine that errs one draw for each input and node is kept. One whose results change
    while a stream goes on was run under several conditions, each of which holds all inputs.

    Letters: `C` conditions, mostly one, `I` inputs, `V` nodes of the tree of decisions, `R`
    resources, `S` stages. Row c * I + i is input i under condition c.
    """

    seen: Tensor  # [C * I, V, 21 + S] float32, what a policy sees of the network, see SEEN
    said: Tensor  # [C * I, V, 3] float32, see SAID
    here: Tensor  # [V, R] float64 what the way into a node took; [C * I, V, R] where rows differ
    there: Tensor  # the same of the machine to which features leave; [0] where there is none
    sent_bits: Tensor  # [V] float64 what leaves on the way into a node
    staying: Tensor  # [M] see `penstock.envs.tree.staying`
    numbers: Tensor  # [I] which input of the split each one is
    labels: Tensor  # [I]
    tree: Tree
    table: PriceTable
    knobs: tuple[Knob, ...]
    fixed: Mapping[str, float]
    first: tuple[int, ...]
    """The first block of each stage."""
    states: tuple[str, ...]
    """The machine's state as far as it is observed."""
    throughout: tuple[str, ...]
    """Knobs that turn stem, heads or machine, which stand at the last choice recorded."""
    conditions: tuple[Condition, ...]
    """States of the machine under which each input was run."""
    priced_on: str
    """What the prices of the table rest on, see `worst_case`."""
    runs_on: Machine
    """The machine on which it was recorded, with the links that streams meet now."""
    about: Mapping[str, Any]
    """Experiment, machine, split, seed, versions: what it takes to record it again."""

    def __post_init__(self) -> None:
        state = self.runs_on.reset(1, torch.Generator())
        shown = tuple(name for name, value in state.items() if value.dim() == 1)
        if shown != self.states:
            raise InputError(
                f"recorded was a machine that shows {', '.join(self.states) or 'nothing'} of its "
                f"state, got one that shows {', '.join(shown) or 'nothing'}; give the machine on "
                "which it was recorded"
            )
        conditions = tuple(dict(each) for each in self.runs_on.conditions())
        if conditions != self.conditions:
            raise InputError(
                f"recorded was a machine under {_in_words(self.conditions)}, got one that changes "
                f"under {_in_words(conditions)}; give the machine on which it was recorded"
            )

    @property
    def machine(self) -> Machine:
        """Prices decisions; its links are met."""
        return self.runs_on

    @property
    def inputs(self) -> int:
        """How many there are."""
        return len(self.labels)

    def outline(self, stream: Stream) -> Outline:
        """What was recorded, or the part of it that a stream offers.

        Raises:
            InputError: if the stream offers more than was recorded, or has a hard budget on another
                link than was recorded on.
        """
        if tuple(stream.stages) not in ((), self.first):
            raise InputError(
                f"decisions were recorded before blocks {list(self.first)}, the stream takes them "
                f"before {list(stream.stages)}; leave stages out, or record again"
            )
        recorded = {knob.name: knob.choices for knob in self.knobs}
        recorded |= {name: (choice,) for name, choice in self.fixed.items()}
        for name, wanted in stream.choices.items():
            if name not in recorded:
                raise InputError(
                    f"there is no knob {name!r} among those recorded, {', '.join(recorded)}; leave "
                    "it out, or record again"
                )
            # Stem and heads were recorded with the last choice of each.
            full = recorded[name][-1]
            lacking = not wanted or (name in self.throughout and full not in wanted)
            if lacking or not set(wanted) <= set(recorded[name]) or (name, tuple(wanted)) == NEVER:
                raise InputError(
                    f"{name} was recorded at {list(recorded[name])}, of which a stream offers some"
                    + f" and {full:g}" * (name in self.throughout)
                    + f", got {name} = {list(wanted)}; change that, or record again"
                )
        limited = stream.battery or any(budget.kind == "hard" for budget in stream.budgets)
        if limited and self.priced_on != worst_case(self.machine):
            raise InputError(
                "hard budgets and batteries rest on the slowest link and clock that could be met "
                "while recording, got others; record again on this machine, or make budgets average"
            )
        return self._offering(stream.choices)

    def _offering(self, choices: Mapping[str, Any]) -> Outline:
        cut = [
            Knob(k.name, tuple(c for c in k.choices if c in choices.get(k.name, k.choices)))
            for k in self.knobs
        ]
        left = self._left(cut)
        offered = tuple(knob for knob in cut if len(knob.choices) > 1)
        only = {knob.name: knob.full for knob in cut if len(knob.choices) == 1}
        kept = self.combinations(offered, only)
        places = [[knob.name for knob in self.knobs].index(knob.name) for knob in offered]
        same = self.table.same[:, kept]
        first = (same.unsqueeze(2) == same.unsqueeze(1)).to(torch.uint8).argmax(dim=2)
        table = replace(
            self.table,
            cost=self.table.cost[:, kept],
            own=self.table.own[:, places],
            same=first,
            offered=left,
        )
        return Outline(offered, {**self.fixed, **only}, self.first, table, self.states)

    def _left(self, cut: Sequence[Knob]) -> Tensor:
        """What of the offered choices was not dropped, [S, T - 2]; knobs with one choice left out.

        Raises:
            InputError: if nothing of a knob is left in a stage.
        """
        columns, start = [self.table.offered[:, :0]], 0
        for knob, part in zip(self.knobs, cut, strict=True):
            places = [start + knob.index(choice) for choice in part.choices]
            left = self.table.offered[:, places]
            if bool((gone := ~left.any(dim=1)).any()):
                block = self.first[int(gone.to(torch.uint8).argmax())]
                raise InputError(
                    f"{knob.name} at {list(part.choices)} was dropped as dominated before block "
                    f"{block}; offer more of {list(knob.choices)}, or record without dropping"
                )
            columns += [left] if len(places) > 1 else []
            start += len(knob.choices)
        return torch.cat(columns, dim=1)

    def combinations(self, offered: tuple[Knob, ...], only: Mapping[str, float]) -> Tensor:
        """Which of the recorded combinations those of the offered knobs are, [m]."""
        recorded = [tuple(setting.values()) for setting in every_setting(self.knobs)]
        names = [knob.name for knob in self.knobs]
        found = []
        for setting in every_setting(offered):
            whole = {**only, **setting}
            found.append(recorded.index(tuple(whole[name] for name in names)))
        return torch.tensor(found)

    def runner(self, outline: Outline, stream: Stream, lanes: int, layout: Observation) -> Replay:
        """Who looks outcomes up."""
        only = {k: v for k, v in outline.fixed.items() if k not in self.fixed}
        kept = self.combinations(outline.knobs, only)
        children = self.tree.children
        outlook = Outlook(
            self.seen,
            self.said,
            self.here,
            self.there,
            self.sent_bits,
            replace(self.tree, children=children[:, kept].contiguous()),
            children[:, self.staying[kept]].contiguous(),
            self.machine,
            len(self.conditions),
        )
        return Replay(outlook, stream, lanes, layout)

    def full_worth(self, worth: str) -> Tensor:
        """What the full network's answer to every input is worth, [I]; "right" or "likelihood".

        The mean over conditions.
        """
        node = 0
        while int(self.tree.stage[node]) < len(self.first):
            node = int(self.tree.children[node, -1])
        each = self.said[:, node, SAID.index(worth)]
        return each.view(len(self.conditions), self.inputs).mean(dim=0)

    def rows(self, inputs: Tensor) -> Tensor:
        """Where inputs [n] stand in `seen` and `said`, condition by condition, [C * n]."""
        first = torch.arange(len(self.conditions)).unsqueeze(1) * self.inputs
        return (first + inputs).view(-1)

    def take(self, chosen: Tensor) -> "Recording":
        """Some of the inputs: indices [k] or a mask [I]."""
        each = {"seen", "said"}
        each |= {name for name in ("here", "there") if getattr(self, name).dim() == 3}
        rows = self.rows(torch.arange(self.inputs)[chosen])
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in each},
            numbers=self.numbers[chosen],
            labels=self.labels[chosen],
        )


def worst_case(machine: Machine) -> str:
    """What the bounds of costs rest on beside the work, in words; empty if on nothing."""
    return "".join(each.bounded_by for each in machines(machine))


def _in_words(conditions: Sequence[Condition]) -> str:
    found = [
        ", ".join(f"{name} = {value:g}" for name, value in each.items()) for each in conditions
    ]
    return " or ".join(each or "no condition" for each in found)


def write_recording(recording: Recording, path: Path | str) -> None:
    """Write it whole or not at all."""
    tensors = {
        field.name: value
        for field in fields(recording)
        if isinstance(value := getattr(recording, field.name), Tensor)
    }
    for part in ("tree", "table"):
        inner = getattr(recording, part)
        tensors |= {f"{part}.{f.name}": getattr(inner, f.name) for f in fields(inner)}
    plain = {
        "schema": SCHEMA,
        "columns": [SEEN, SAID],
        "knobs": {knob.name: knob.choices for knob in recording.knobs},
        "fixed": recording.fixed,
        "first": recording.first,
        "states": recording.states,
        "throughout": recording.throughout,
        "conditions": recording.conditions,
        "priced_on": recording.priced_on,
        "about": recording.about,
    }
    metadata = {name: json.dumps(value) for name, value in plain.items()}
    write_tensors(path, tensors, {"kind": "recording", **metadata})


def read_recording(path: Path | str, machine: Machine) -> Recording:
    """A recording from a file.

    Args:
        path: that `write_recording` wrote.
        machine: on which it was recorded, perhaps with other links.

    Raises:
        InputError: if it is none, or of another schema.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("kind") != "recording":
        raise InputError(f"{path} should be a recording; make one with penstock record")
    plain = {name: json.loads(text) for name, text in metadata.items() if name != "kind"}
    if plain["schema"] != SCHEMA or plain["columns"] != [list(SEEN), list(SAID)]:
        raise InputError(
            f"{path} was written by another release (schema {plain['schema']}, this one reads "
            f"{SCHEMA}); record it again"
        )

    def part(kind: Any, name: str) -> Any:
        return kind(**{field.name: tensors.pop(f"{name}.{field.name}") for field in fields(kind)})

    tree, table = part(Tree, "tree"), part(PriceTable, "table")
    return Recording(
        **tensors,
        tree=tree,
        table=table,
        knobs=tuple(Knob(name, tuple(choices)) for name, choices in plain["knobs"].items()),
        fixed=plain["fixed"],
        first=tuple(plain["first"]),
        states=tuple(plain["states"]),
        throughout=tuple(plain["throughout"]),
        conditions=tuple(plain["conditions"]),
        priced_on=plain["priced_on"],
        runs_on=machine,
        about=plain["about"],
    )
