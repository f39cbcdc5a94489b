"""Running inputs under every decision, and keeping what became of them.

Letters: `n` inputs of one batch, `C` conditions of the machine, `V` nodes, `R` resources.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from penstock.backbones import Images, InputError, in_order
from penstock.backbones.saving import read_tensors, write_tensors
from penstock.envs.live import Live
from penstock.envs.observation import FEATURES, UNKNOWN, confidence, pooled
from penstock.envs.price_table import PriceTable, activation_shapes, cut_stages
from penstock.envs.recording import SAID, SEEN, Recording, worst_case
from penstock.envs.source import Outline
from penstock.envs.stream import Stream
from penstock.envs.tree import Tree, count_nodes, grow, staying
from penstock.hardware import RESOURCES, Job, Machine, Split, State
from penstock.hardware.bound import machines
from penstock.hardware.features import arrived, coded_bytes
from penstock.hardware.fingerprint import digest, fingerprint
from penstock.hardware.machine import Condition, under, wrapped

OFFLOAD: Final = "offload"
"""The knob with which features leave."""

PARTS: Final = ("seen", "said", "here", "there")
"""What is kept of every input."""

Known = tuple[Tensor, Tensor]
"""What is seen of inputs and what was said of them, [n, 21] and [n, 3]."""

SURE: Final = slice(FEATURES, FEATURES + len(UNKNOWN))
"""Columns of confidence."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a recording takes, known before it is made."""

    inputs: int
    nodes: int
    conditions: int
    """Of the machine, under each of which all is run."""
    bytes: int
    """On disk and in memory."""
    passes: float
    """Work, in passes of the full network for each input."""


@final
class Recorder:
    """Records a network under the rules of a stream.

    Args:
        live: network, machine and images.
        stream: gives stages and choices.
        table: prices in place of the machine's, where dropped choices do the work of others.
        most_nodes: a tree with more is refused.

    Raises:
        InputError: if the machine cannot be recorded: a link anywhere but outermost, a real server,
            something that drifts within what does not, or a state that is observed and that running
            a block changes, of which no condition tells.
    """

    def __init__(
        self,
        live: Live,
        stream: Stream,
        *,
        table: PriceTable | None = None,
        most_nodes: int = 100_000,
    ) -> None:
        self.live, self.stream = live, stream
        outline = live.outline(stream)
        self.outline: Outline = outline if table is None else replace(outline, table=table)
        _check(live.machine)
        self.conditions: Sequence[Condition] = live.machine.conditions()
        """Under which every input is run."""
        knobs, table = self.outline.knobs, self.outline.table
        offered = {knob.name: knob.choices for knob in knobs}
        if 0 not in offered.get(OFFLOAD, (self.outline.fixed.get(OFFLOAD, 0),)):
            raise InputError(
                f"a recording begins behind the stem, at home: {OFFLOAD} has to offer to stay (0), "
                f"got {list(offered.get(OFFLOAD, ()))}; offer it, too"
            )
        self._staying = staying(knobs, OFFLOAD)
        nodes = count_nodes(table, self._staying)
        if nodes > most_nodes:
            raise InputError(
                f"decisions can go {nodes} ways, of which at most {most_nodes} are recorded; take "
                "fewer stages, or offer fewer choices"
            )
        self.tree: Tree = grow(table, self._staying)
        self._stages = cut_stages(self.outline.first, live.backbone.depth)
        self._settings = self.outline.settings()
        self._shapes = activation_shapes(live.backbone)
        split = live.machine
        self._near = split.near if isinstance(split, Split) else split
        self._far = split.far if isinstance(split, Split) else None
        self._rounded = isinstance(split, Split) and split.rounded

    def plan(self, numbers: Tensor, rest: str) -> str:
        """What makes a batch of these inputs, [I], what it is, in letters."""
        blocks = [fingerprint(block) for block, _ in in_order(self.live.backbone)]
        words = [*blocks, repr(self._settings), repr(self.outline.first), rest]
        words.append(repr(self.live.machine))
        images = self.live.images
        tensors = (numbers, self.outline.table.cost, images.pixels[numbers], images.labels[numbers])
        numbers_of = [tensor.contiguous().numpy().tobytes() for tensor in tensors]
        return digest([word.encode() for word in words] + numbers_of)

    def size(self, inputs: int) -> Size:
        """What so many inputs take."""
        conditions = len(self.conditions)
        nodes, costs = len(self.tree), 2 * 8 * len(RESOURCES)
        each = nodes * 4 * (len(SEEN) + len(self._stages) + len(SAID))
        each, once = (each + nodes * costs, 0) if self._costs_differ() else (each, nodes * costs)
        each = conditions * each + 2 * 8
        for part in (self.tree, self.outline.table):
            tensors = [getattr(part, field.name) for field in fields(part)]
            once += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        once += 8 * (nodes + len(self._staying))
        table, macs = self.outline.table, RESOURCES.index("macs")
        work = float(table.stem[macs])
        work += float(table.cost[self.tree.stage[1:] - 1, self.tree.combination[1:], macs].sum())
        full = float(table.stem[macs] + table.cost[:, -1, macs].sum())
        return Size(inputs, nodes, conditions, inputs * each + once, conditions * work / full)

    @torch.no_grad()
    def run(self, images: Images, seed: int) -> dict[str, Tensor]:
        """Images [n] through the whole tree under each condition: all `PARTS`, [C, n, V, ..]."""
        rng = torch.Generator().manual_seed(seed)
        walks = [self._walk(images, condition, rng) for condition in self.conditions]
        return {name: torch.stack([getattr(walk, name) for walk in walks]) for name in PARTS}

    def _walk(self, images: Images, condition: Condition, rng: torch.Generator) -> "_Walk":
        n, v = len(images), len(self.tree)
        walk = _Walk(
            seen=torch.zeros(n, v, len(SEEN) + len(self._stages)),
            said=torch.zeros(n, v, len(SAID)),
            here=torch.zeros(n, v, len(RESOURCES), dtype=torch.float64),
            there=torch.zeros(n, v, len(RESOURCES), dtype=torch.float64),
            labels=images.labels,
            condition=condition,
            rng=rng,
        )
        backbone, dearest = self.live.backbone, self._settings[-1]
        device = next(backbone.parameters()).device
        x = (images.pixels.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
        near = "" if self._far is None else "near_"
        state = under(self._near.reset(n, walk.rng), condition, near)
        state = self._near.next_input(state)
        job = Job(backbone.stem, x, dearest)
        y, state = self._job(self._near, job, state, walk.rng, walk.here[:, 0])
        known = torch.zeros(n, len(SEEN)), torch.zeros(n, len(SAID))
        known[0][:, SURE] = torch.tensor(UNKNOWN)
        self._visit(walk, 0, y, state, known)
        # A policy sees which block comes next, too.
        walk.seen[:, :, len(SEEN) :] = torch.eye(len(self._stages) + 1)[self.tree.stage, :-1]
        return walk

    def _visit(self, walk: "_Walk", node: int, x: Tensor, state: State, known: Known) -> None:
        """Note what stands at a node, and go on to all that lies behind."""
        seen, said = known
        seen[:, :FEATURES] = pooled(x).cpu()
        walk.seen[:, node, : len(SEEN)], walk.said[:, node] = seen, said
        for child in self.tree.under(node):
            self._visit(walk, child, *self._go(walk, child, x, state, (seen.clone(), said)))

    def _go(
        self, walk: "_Walk", node: int, x: Tensor, state: State, known: Known
    ) -> tuple[Tensor, State, Known]:
        """Through one stage."""
        seen, said = known
        tree, backbone = self.tree, self.live.backbone
        setting = self._settings[int(tree.combination[node])]
        blocks = self._stages[int(tree.stage[node]) - 1]
        machine, cost = self._near, walk.here[:, node]
        if bool(tree.away[node]):
            assert self._far is not None
            cost = walk.there[:, node]
            if not bool(tree.away[tree.parent[node]]):
                assert isinstance(self._far, Machine)
                state = under(self._far.reset(len(x), walk.rng), walk.condition, "far_")
                state = self._far.next_input(state)
                if self._rounded:
                    x = arrived(x, int(setting[OFFLOAD]))
            machine = self._far  # type: ignore[assignment]
        held = machine.held(setting)
        for d in blocks:
            block, taken = backbone.block(d), setting if d == blocks[0] else held
            job = Job(block, x, {**taken, **self.outline.idle(block, self.live.machine)})
            x, state = self._job(machine, job, state, walk.rng, cost)
        head = backbone.head(blocks[-1])
        if head is None:
            seen[:, SEEN.index("answered")] = 0.0
        else:
            job = Job(head, x, self._settings[-1])
            logits, state = self._job(machine, job, state, walk.rng, cost)
            logits = logits.cpu()
            seen[:, SURE] = confidence(logits)
            likely = logits.log_softmax(dim=1).gather(1, walk.labels.unsqueeze(1)).squeeze(1)
            right = (logits.argmax(dim=1) == walk.labels).float()
            said = torch.stack([right, likely.exp(), -likely], dim=1)
        return x, state, (seen, said)

    def _job(
        self, machine: Machine, job: Job, state: State, rng: torch.Generator, cost: Tensor
    ) -> tuple[Tensor, State]:
        y, spent, after = machine.run(job, state, rng)
        _, told = machine.bill(spent, state)
        for name in self.outline.states:
            own = name.removeprefix("near_").removeprefix("far_")
            if own in state and not torch.equal(told[own], after[own]):
                raise InputError(
                    f"a recording holds a machine's state still, but running {job.block.name} "
                    f"changes {name}, which a policy sees, by more than its bill does; learn on "
                    "the network itself"
                )
        cost += spent.rows().cpu()
        return y, after

    def sent_bits(self) -> Tensor:
        """What leaves on the way into each node, [V]."""
        tree = self.tree
        bits = torch.zeros(len(tree), dtype=torch.float64)
        for node in range(1, len(tree)):
            if bool(tree.away[node]) and not bool(tree.away[tree.parent[node]]):
                shape = self._shapes[self._stages[int(tree.stage[node]) - 1][0]]
                at = int(self._settings[int(tree.combination[node])][OFFLOAD])
                bits[node] = 8 * coded_bytes(shape, at)
        return bits

    def _costs_differ(self) -> bool:
        """Whether inputs cost different amounts, found out by running two."""
        images = self.live.images.take(torch.arange(min(2, len(self.live.images))))
        found = self.run(images, 0)
        return any(_differ(found[name].flatten(0, 1)) for name in ("here", "there"))

    def _throughout(self) -> tuple[str, ...]:
        """Knobs that turn stem, heads or the machine, and so what no decision governs."""
        backbone = self.live.backbone
        heads = [backbone.head(d) for d in range(backbone.depth)]
        knobs = [knob for head in heads if head is not None for knob in head.knobs]
        names = {k.name for k in (*knobs, *backbone.stem.knobs, *self.live.machine.knobs)}
        return tuple(sorted(names))

    def made(
        self, parts: Mapping[str, Tensor], numbers: Tensor, about: Mapping[str, Any]
    ) -> Recording:
        """Put outcomes of inputs, as `run` gives them, together as a recording."""
        parts = {name: part.flatten(0, 1) for name, part in parts.items()}
        costs = {name: parts[name] for name in ("here", "there")}
        if not any(_differ(cost) for cost in costs.values()):
            costs = {name: cost[0] for name, cost in costs.items()}
        return Recording(
            seen=parts["seen"],
            said=parts["said"],
            **costs,
            sent_bits=self.sent_bits(),
            staying=self._staying,
            numbers=numbers,
            labels=self.live.images.labels[numbers],
            tree=self.tree,
            table=self.outline.table,
            knobs=self.outline.knobs,
            fixed=self.outline.fixed,
            first=self.outline.first,
            states=self.outline.states,
            throughout=self._throughout(),
            conditions=tuple(dict(each) for each in self.conditions),
            priced_on=worst_case(self.live.machine),
            runs_on=self.live.machine,
            about=about,
        )


@dataclass(frozen=True, slots=True)
class _Walk:
    """What is being filled."""

    seen: Tensor
    said: Tensor
    here: Tensor
    there: Tensor
    labels: Tensor
    condition: Condition
    rng: torch.Generator


def record_outcomes(
    live: Live,
    stream: Stream,
    folder: Path | None = None,
    *,
    inputs: Tensor | None = None,
    seed: int = 0,
    batch: int = 250,
    table: PriceTable | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> Recording:
    """Record inputs of a network, batch by batch.

    Args:
        live: network, machine and images.
        stream: gives stages and choices.
        folder: for finished batches, from which a recording that was cut off goes on. None keeps
            them in memory.
        inputs: which of the images, [I]; None takes all. One that is named several times is run as
            often, with other draws of a machine that errs.
        seed: of the machine.
        batch: inputs that are run at once.
        table: see `Recorder`.
        about: what it takes to record it again.
        progress: called with the number of inputs recorded, now and then.

    Raises:
        InputError: if the folder holds batches of another recording.
    """
    recorder = Recorder(live, stream, table=table)
    numbers = torch.arange(live.inputs) if inputs is None else inputs
    plan = recorder.plan(numbers, json.dumps([about or {}, seed, batch], sort_keys=True))
    parts: dict[str, list[Tensor]] = {name: [] for name in PARTS}
    for count, chosen in enumerate(torch.split(numbers, batch)):
        path = folder / f"{count:05d}.safetensors" if folder else None
        found = _kept(path, plan)
        if found is None:
            found = recorder.run(live.images.take(chosen), seed + count)
            if path is not None:
                write_tensors(path, found, {"plan": plan})
        for name, tensors in parts.items():
            tensors.append(found[name])
        progress(len(chosen))
    whole = {name: torch.cat(parts.pop(name), dim=1) for name in list(parts)}
    return recorder.made(whole, numbers, about or {})


def _kept(path: Path | None, plan: str) -> dict[str, Tensor] | None:
    """A batch that was finished before, if there is one."""
    if path is None or not path.is_file():
        return None
    tensors, metadata = read_tensors(path)
    if metadata.get("plan") != plan:
        raise InputError(
            f"{path.parent} holds batches of another recording; remove that folder, or record with "
            "the same options"
        )
    return tensors


def _check(machine: Machine) -> None:
    """Refuse what a recording cannot stand for."""
    inner = [each for each in machines(machine) if each is not machine]
    if any(isinstance(each, Split) for each in inner):
        raise InputError(
            "a link is recorded where it is outermost, got one inside of another machine; put "
            "Split around the others"
        )
    if isinstance(machine, Split) and machine.bound:
        raise InputError(
            "a recording is made on a model, got a real server as far machine; record with a "
            "modelled one and judge on the server"
        )
    for each in machines(machine):
        told = len(each.conditions()[0])
        for inside in wrapped(each):
            if (own := len(inside.conditions()[0])) > told:
                kinds = type(inside).__name__, type(each).__name__
                raise InputError(
                    f"what drifts is recorded outside of what does not, got {kinds[0]} inside of "
                    f"{kinds[1]}; put {kinds[0]} around it"
                )
            told -= own


def _differ(cost: Tensor) -> bool:
    """Whether costs [n, V, R] are not the same for all inputs."""
    return bool((cost != cost[:1]).any())
