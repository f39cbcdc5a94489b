"""A network that is run for real, block by block, on a machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import final

import torch
from torch import Tensor

from penstock.backbones import Backbone, Images
from penstock.backbones.compatible import check_images
from penstock.envs.actions import groups, offered_knobs
from penstock.envs.activations import Activations, Rows, rows_or_all, together
from penstock.envs.observation import UNKNOWN, Observation, confidence, pooled
from penstock.envs.price_table import activation_shapes, cut_stages, price_table
from penstock.envs.source import Outline, Runner, Source
from penstock.envs.stream import Stream
from penstock.hardware import RESOURCES, Job, Machine
from penstock.hardware.bound import check_network


@final
@dataclass(frozen=True)
class Live(Source):
    """A network, a machine and images.

    Raises:
        InputError: if images or machine do not fit the backbone.
    """

    backbone: Backbone
    """Put into evaluation mode."""
    runs_on: Machine
    """Runs and prices every stem, block and head."""
    images: Images
    """Inputs and their labels."""

    def __post_init__(self) -> None:
        check_images(self.images, self.backbone)
        check_network(self.runs_on, self.backbone)
        self.backbone.eval()

    @property
    def machine(self) -> Machine:
        """The one that runs blocks."""
        return self.runs_on

    @property
    def inputs(self) -> int:
        """How many images there are."""
        return len(self.images)

    def outline(self, stream: Stream) -> Outline:
        """Knobs offered, stages and prices."""
        knobs, fixed = offered_knobs(self.backbone, self.machine, stream.choices)
        stages = cut_stages(stream.stages, self.backbone.depth)
        state = self.machine.reset(1, torch.Generator())
        return Outline(
            knobs=knobs,
            fixed=fixed,
            first=tuple(blocks[0] for blocks in stages),
            table=price_table(self.backbone, self.machine, knobs, fixed, stages),
            states=tuple(name for name, value in state.items() if value.dim() == 1),
        )

    def runner(
        self, outline: Outline, stream: Stream, lanes: int, layout: Observation
    ) -> "LiveRunner":
        """Who runs the network."""
        return LiveRunner(self, outline, stream, lanes, layout)


@final
class LiveRunner(Runner):
    """Groups lanes by stage and setting, and runs each group as one batch.

    Letters: `N` lanes, `n` lanes of one group, `R` resources, `F` columns.
    """

    def __init__(
        self,
        live: Live,
        outline: Outline,
        stream: Stream,
        lanes: int,
        layout: Observation,
    ) -> None:
        self._backbone, self._machine, self._images = live.backbone, live.machine, live.images
        self._stream, self._layout = stream, layout
        self._shown = torch.zeros(lanes, layout.network.stop)  # columns of the network
        self._reached = torch.zeros(lanes, dtype=torch.int64)  # which stage comes next
        self._places = torch.eye(layout.depth + 1)[:, :-1]
        self._stages = cut_stages(outline.first, live.backbone.depth)
        self._settings = outline.settings()
        held = [live.machine.held(setting) for setting in self._settings]
        self._held = held
        blocks = [live.backbone.block(d) for d in range(live.backbone.depth)]
        self._idle = [outline.idle(block, live.machine) for block in blocks]
        self._same = outline.table.same
        self._shapes = activation_shapes(live.backbone)
        self._device = next(live.backbone.parameters()).device
        self._n = n = lanes
        self._activations = Activations(n, self._device)
        self.logits = torch.zeros(n, live.backbone.classes)
        """[N, classes]: what the head that a lane passed last said."""
        state = live.machine.reset(1, torch.Generator())
        self._state = {name: value.repeat_interleave(n, 0) for name, value in state.items()}

    def begin(self, rows: Tensor, rng: torch.Generator) -> None:
        """Reset the machine for some lanes."""
        for name, value in self._machine.reset(len(rows), rng).items():
            self._state[name][rows] = value

    def present(self, mask: Tensor, inputs: Tensor, rng: torch.Generator) -> Tensor:
        """Images through the stem."""
        rows = mask.nonzero().squeeze(1)
        self._reached[rows] = 0
        cost = torch.zeros(self._n, len(RESOURCES), dtype=torch.float64)
        if len(rows) == 0:
            return cost.T
        pixels = self._images.pixels[inputs[rows]].to(self._device)
        x = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
        where = rows_or_all(rows, self._n)
        y = self._job(Job(self._backbone.stem, x, self._settings[-1]), where, rng, cost)
        self._activations.put(self._shapes[0], where, y)
        self._shown[rows, self._layout.features] = pooled(y).cpu()
        self._shown[rows, self._layout.confidence] = torch.tensor(UNKNOWN)
        return cost.T

    def run(self, mask: Tensor, stage: Tensor, combination: Tensor, rng: torch.Generator) -> Tensor:
        """All groups of a stage through its blocks, then together through the head behind."""
        cost = torch.zeros(self._n, len(RESOURCES), dtype=torch.float64)
        self._reached += mask
        settings = len(self._settings)
        code = stage * settings + self._same[stage, combination]
        for s, at_stage in groupby(groups(mask, code), lambda group: group[0] // settings):
            parts = [(number % settings, rows) for number, rows in at_stage]
            self._run_stage(self._stages[s], parts, rng, cost)
        return cost.T

    def _run_stage(
        self,
        blocks: range,
        parts: Sequence[tuple[int, Rows]],
        rng: torch.Generator,
        cost: Tensor,
    ) -> None:
        head = self._backbone.head(blocks[-1])
        here, there = self._shapes[blocks[0]], self._shapes[blocks[-1] + 1]
        changed: list[Rows] = []
        for setting, rows in parts:
            x = y = self._activations.take(here, rows)
            for d in blocks:
                taken = self._settings[setting] if d == blocks[0] else self._held[setting]
                job = Job(self._backbone.block(d), y, {**taken, **self._idle[d]})
                y = self._job(job, rows, rng, cost)
            if y is not x:
                self._activations.put(there, rows, y)
                changed.append(rows)
        if changed:
            rows = together(changed)
            features = pooled(self._activations.take(there, rows)).cpu()
            self._shown[rows, self._layout.features] = features
        rows = together([rows for _, rows in parts])
        if head is None:
            self._shown[rows, self._layout.answered] = 0.0
        else:
            y = self._activations.take(there, rows)
            logits = self._job(Job(head, y, self._settings[-1]), rows, rng, cost).cpu()
            self.logits[rows] = logits
            self._shown[rows, self._layout.confidence] = confidence(logits)

    def _job(self, job: Job, rows: Rows, rng: torch.Generator, cost: Tensor) -> Tensor:
        """Have the machine run a job, and book what it cost and what it left behind."""
        before = {name: value[rows] for name, value in self._state.items()}
        y, spent, after = self._machine.run(job, before, rng)
        cost[rows] += spent.rows().cpu()
        for name, value in after.items():
            self._state[name][rows] = value
        return y

    def answers(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compared with the labels."""
        labels = self._images.labels[inputs]
        return self.logits.argmax(dim=1) == labels, self._stream.value(self.logits, labels)

    def wait(self, seconds: Tensor) -> None:
        """The machine's state goes on."""
        if self._state:
            self._state = dict(self._machine.later(self._state, seconds))

    def lost(self) -> Tensor | None:
        """As the machine counts them."""
        count = self._state.get("lost")
        if count is None:
            return None
        return (count if count.dim() == 1 else count[:, 0]).long()

    def observe(self, rows: Rows, seen: Tensor) -> list[Tensor]:
        """What was seen, and the numbers of the state."""
        seen[:, self._layout.network] = self._shown[rows]
        seen[:, self._layout.block] = self._places[self._reached[rows]]
        return [self._state[name][rows] for name in self._layout.states]
