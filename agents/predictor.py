"""How likely each answer that lies ahead is right, judged by what a policy sees.

Letters: `n` inputs, `I` recorded ones, `V` nodes of the tree of decisions, `A` answers, `S` stages.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor, nn

from penstock.agents.foresight import ancestors, answers
from penstock.agents.node_network import NodeNetwork, copied
from penstock.backbones import InputError
from penstock.backbones.saving import read_tensors, write_tensors
from penstock.envs import Recording
from penstock.envs.recording import SAID, SEEN

WORTHS: Final = ("right", "likelihood")


@dataclass(frozen=True, slots=True)
class Fit:
    """How a network is trained on a recording."""

    hidden: int = 64
    """Units of each of two layers."""
    rate: float = 3e-3
    """Adam's, falling to 0 along a cosine."""
    decay: float = 1e-2
    """Of the weights, as in AdamW."""
    epochs: int = 30
    batch: int = 512
    """Rows of a predictor, inputs of a gate."""
    seed: int = 0


@final
class Predictor(nn.Module):
    """A multilayer perceptron from what is seen at a node to the worth of every answer below it.

    It gives a logit of each, and is trained with binary cross-entropy on what was recorded: whether
    each answer below is right, or the likelihood that it gives to the right class. Then scale and
    shift of all logits are fitted to other inputs (Platt scaling, as in Guo et al., On Calibration
    of Modern Neural Networks, ICML 2017), since a network is surer of the images it was trained on.

    Args:
        below: the answers that can be reached from each node, [V, A] bool.
        columns: of what is seen.
        hidden: units of each of two layers.
    """

    def __init__(self, below: Tensor, columns: int, hidden: int) -> None:
        super().__init__()
        nodes, count = below.shape
        self.below: Tensor
        self.register_buffer("below", below)
        self.network = NodeNetwork(nodes, columns, count, hidden)
        self.scale = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, seen: Tensor, node: Tensor) -> Tensor:
        """Logits [n, A]; those of answers that are not below mean nothing."""
        logits: Tensor = self.scale * self.network(seen, node) + self.shift
        return logits

    @torch.no_grad()
    def predict(self, seen: Tensor, node: Tensor) -> Tensor:
        """The expected worth of each answer, [n, A] float64; 0 where it is not below.

        Args:
            seen: as `Recording.seen` has it, [n, 21 + S].
            node: at which each stands, [n].
        """
        worth: Tensor = self(seen, node).sigmoid().double()
        return worth * self.below[node]


def below(recording: Recording) -> Tensor:
    """Which answers lie below each node, itself included, [V, A] bool."""
    tree, every = recording.tree, torch.arange(len(recording.tree))
    way = ancestors(tree)[:, answers(tree, recording.table.exits)]  # [S + 2, A]
    return way[tree.stage] == every.unsqueeze(1)


def fit_predictor(
    train: Recording,
    validation: Recording,
    *,
    worth: str = "right",
    fit: Fit | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> Predictor:
    """Train on one recording; on another the best epoch is chosen, then scale and shift.

    Args:
        train: on whose inputs the network itself was not trained, if it knows those by heart.
        validation: other inputs.
        worth: what is predicted, "right" or "likelihood".
        fit: how; none of it matters much [measured, handwritten digits].
        progress: called with 1 after each epoch.

    Raises:
        InputError: if the recordings are of different decisions, or there is no such worth.
    """
    fit = fit or Fit()
    if worth not in WORTHS:
        raise InputError(f'a worth is "right" or "likelihood", got {worth!r}; name one of them')
    if not torch.equal(train.tree.children, validation.tree.children):
        raise InputError(
            "training and validation recordings are of the same decisions, got "
            f"{len(train.tree)} and {len(validation.tree)} nodes; record both with one command"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.seed)
        model = Predictor(below(train), train.seen.shape[2], fit.hidden)
    rows, targets = _pairs(train), _targets(train, worth)
    optimiser = torch.optim.AdamW(model.network.parameters(), fit.rate, weight_decay=fit.decay)
    steps = fit.epochs * -(-len(rows) // fit.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = torch.Generator().manual_seed(fit.seed)
    best, kept = float("inf"), copied(model)
    for _ in range(fit.epochs):
        order = torch.randperm(len(rows), generator=rng)
        for batch in torch.split(rows[order], fit.batch):
            optimiser.zero_grad()
            _loss(model, train, targets, batch).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        loss = validation_loss(model, validation, worth)
        if loss < best:
            best, kept = loss, copied(model)
        progress(1)
    model.load_state_dict(kept)
    _calibrate(model, validation, worth)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def validation_loss(model: Predictor, recording: Recording, worth: str = "right") -> float:
    """Mean cross-entropy over inputs, nodes at which is decided, and answers below."""
    rows, targets = _pairs(recording), _targets(recording, worth)
    parts = [(_loss(model, recording, targets, b), len(b)) for b in torch.split(rows, 8192)]
    return float(sum(loss * n for loss, n in parts) / len(rows))


@torch.no_grad()
def calibration_error(model: Predictor, recording: Recording, bins: int = 15) -> float:
    """The expected calibration error of p(right), from 0 to 1.

    After Guo et al., On Calibration of Modern Neural Networks (ICML 2017): the gap between
    predicted and observed rate in bins of equal width, weighted by how many fall in.
    """
    rows, targets = _pairs(recording), _targets(recording, "right")
    predicted, found = [], []
    for batch in torch.split(rows, 8192):
        i, node = batch.unbind(dim=1)
        mask = model.below[node]
        predicted.append(model.predict(recording.seen[i, node], node)[mask])
        found.append(targets[i][mask].double())
    p, y = torch.cat(predicted), torch.cat(found)
    which = (p * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, which, p - y)
    return float(gap.abs().sum() / len(p))


def save_predictor(model: Predictor, path: Path | str) -> None:
    """Write it whole or not at all."""
    about = {"columns": [*SEEN], "hidden": model.network.first.out_features}
    write_tensors(path, model.state_dict(), {"kind": "predictor", "about": json.dumps(about)})


def load_predictor(path: Path | str, recording: Recording) -> Predictor:
    """A predictor from a file, for the decisions of a recording.

    Raises:
        InputError: if it is none, or of other decisions.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("kind") != "predictor":
        raise InputError(f"{path} should be a predictor; fit one and save it")
    about = json.loads(metadata["about"])
    if about["columns"] != [*SEEN] or not torch.equal(tensors["below"], below(recording)):
        raise InputError(
            f"{path} predicts answers of other decisions than were recorded; fit a new one"
        )
    model = Predictor(tensors["below"], recording.seen.shape[2], about["hidden"])
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def _calibrate(model: Predictor, recording: Recording, worth: str, most: int = 20_000) -> None:
    """Fit scale and shift, on at most so many rows, evenly spaced."""
    rows, targets = _pairs(recording), _targets(recording, worth)
    rows = rows[:: -(-len(rows) // most)]
    optimiser = torch.optim.LBFGS([model.scale, model.shift], max_iter=30)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = _loss(model, recording, targets, rows)
        loss.backward(inputs=[model.scale, model.shift])  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]


def _pairs(recording: Recording) -> Tensor:
    """Every input, under each condition, at every node at which is decided, [n, 2]."""
    deciding = (recording.tree.stage < len(recording.first)).nonzero().squeeze(1)
    return torch.cartesian_prod(torch.arange(len(recording.seen)), deciding)


def _targets(recording: Recording, worth: str) -> Tensor:
    """[I, A] float32."""
    said = recording.said[:, answers(recording.tree, recording.table.exits)]
    return said[:, :, SAID.index(worth)]


def _loss(model: Predictor, recording: Recording, targets: Tensor, batch: Tensor) -> Tensor:
    """Mean cross-entropy of inputs at nodes, [n, 2]."""
    i, node = batch.unbind(dim=1)
    logits = model(recording.seen[i, node], node)
    mask = model.below[node]
    each = nn.functional.binary_cross_entropy_with_logits(logits, targets[i], reduction="none")
    return (each * mask).sum() / mask.sum()
