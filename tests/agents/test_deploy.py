"""A deployed network decides and answers as the engine does, for each learner and batch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.agents import Learner, Scene, play
from penstock.agents.alone import certainty, glance, spans
from penstock.agents.deploy import Deployed
from penstock.agents.network import PolicyNetwork, read_network
from penstock.agents.sb3 import train
from penstock.backbones import Block, InputError, Setting
from penstock.backbones.prepared import Prepared, Way, as_it_is, prepare
from penstock.backbones.saving import read_tensors, write_tensors
from penstock.envs import Budget
from penstock.envs.observation import confidence, pooled
from penstock.hardware import Analog, Machine, build_machine

TINY: dict[str, Any] = {"lanes": 8, "horizon": 8, "batch_size": 32, "epochs": 1, "hidden": (8,)}


def floats(scene: Scene) -> Tensor:
    return scene.data.test.pixels.float() / 255


@pytest.mark.parametrize("algorithm", ["maskable_ppo", "ppo", "dqn"])
def test_it_decides_as_the_engine_does(scene: Scene, tmp_path: Path, algorithm: str) -> None:
    learner = Learner(**{**TINY, "algorithm": algorithm, "steps": 192})
    scene = replace(scene, joint=learner.joint)
    policy = train(scene.lanes("train", learned=True, lanes=8), learner, tmp_path)
    lanes = scene.lanes("test", learned=True)
    network = read_network(tmp_path / "policy.safetensors")
    cases: list[tuple[float, Way]] = [(0.03, as_it_is), (0.5, as_it_is)]
    for price, way in cases + [(0.1, prepare)] * (algorithm == "maskable_ppo"):
        played = play(policy, lanes, price=price)
        deployed = Deployed(lanes, network, price=price, way=way)
        for n in (1, 7, 60):
            answers = [deployed(x) for x in torch.split(floats(scene), n)]
            exits = torch.cat([each.exit for each in answers]).numpy()
            choices = torch.cat([each.choices for each in answers]).numpy()
            logits = torch.cat([each.logits for each in answers])
            np.testing.assert_array_equal(exits, played.exit)
            np.testing.assert_array_equal(choices, played.choices)
            right = logits.argmax(dim=1) == scene.data.test.labels
            np.testing.assert_array_equal(right.numpy(), played.right)


def always(lanes: Any, wanted: Callable[[int, int], int]) -> PolicyNetwork:
    """A policy that scores the wanted choice of each knob highest: wanted(knob, choices)."""
    bias: list[float] = []
    for k, knob in enumerate(lanes.knobs):
        count = len(knob.choices)
        bias += [float(i == wanted(k, count)) for i in range(count)]
    columns = lanes.observation.shape[1]
    layers = ((torch.zeros(len(bias), columns), torch.tensor(bias)),)
    return PolicyNetwork(layers, "maskable_ppo")


@pytest.mark.parametrize("n", [1, 6])
def test_work_that_is_left_out_is_not_done(scene: Scene, n: int) -> None:
    lanes, ran = scene.lanes("test", learned=True, lanes=1), []

    def watched(block: Block, setting: Setting, shape: tuple[int, ...]) -> Prepared:
        run = as_it_is(block, setting, shape)

        def noted(x: Tensor) -> Tensor:
            y = run(x)
            if y is not x:
                ran.append(block.name)
            return y

        return noted

    cheapest = Deployed(lanes, always(lanes, lambda k, count: 0), price=0.1, way=watched)
    answers = cheapest(floats(scene)[:n])
    # Blocks 0 and 1 are skipped; the first head stands behind block 1.
    assert ran == ["stem", "exits.1"]
    assert answers.exit.tolist() == [1] * n and answers.choices[:, 2, 0].tolist() == [0] * n
    ran.clear()
    full = Deployed(lanes, always(lanes, lambda k, count: count - 1), price=0.1, way=watched)
    answers = full(floats(scene)[:n])
    expected = lanes.backbone.answers(floats(scene)[:n], {"bits": 8}, stem={"bits": 8})
    torch.testing.assert_close(answers.logits, expected[5], atol=1e-3, rtol=1e-3)
    assert [name for name in ran if name.startswith("blocks")] == [f"blocks.{d}" for d in range(6)]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12), st.sampled_from([8, 16, 40])
)
def test_one_image_sees_what_the_engine_sees(logits: list[float], channels: int) -> None:
    expected = confidence(torch.tensor([logits]))[0]
    torch.testing.assert_close(torch.tensor(certainty(logits)), expected, atol=1e-5, rtol=1e-4)
    x = torch.randn(1, channels, 3, 3, generator=torch.Generator().manual_seed(len(logits)))
    means = x.mean(dim=(2, 3))[0].tolist()
    torch.testing.assert_close(torch.tensor(glance(means, spans(channels))), pooled(x)[0])


def test_what_a_bare_network_cannot_know_is_refused(scene: Scene) -> None:
    hard = Budget("energy_j", 0.9, relative=True, kind="hard")
    several = replace(scene.stream, inputs_per_episode=3)
    for stream, what in (
        (replace(scene.stream, budgets=(hard,)), "hard budgets"),
        (several, "streams of several inputs"),
    ):
        lanes = replace(scene, stream=stream).lanes("test", learned=True, lanes=1)
        policy = always(lanes, lambda k, count: 0)
        with pytest.raises(InputError, match=f"by the image alone, got {what}"):
            Deployed(lanes, policy, price=0.1, way=as_it_is)


@pytest.mark.parametrize(
    ("machine", "what"),
    [
        (Analog(build_machine("phone"), snr_db=(0,)), "a machine that errs"),
        (build_machine("sparse_core"), "a machine whose costs depend on the image"),
    ],
)
def test_machines_that_need_the_engine_are_refused(
    scene: Scene, machine: Machine, what: str
) -> None:
    lanes = replace(scene, machine=machine).lanes("test", learned=True, lanes=1)
    with pytest.raises(InputError, match=f"by the image alone, got {what}"):
        Deployed(lanes, always(lanes, lambda k, count: 0), price=0.1, way=as_it_is)


def test_a_price_is_above_nothing(scene: Scene) -> None:
    lanes = scene.lanes("test", learned=True, lanes=1)
    with pytest.raises(InputError, match="above 0, got 0"):
        Deployed(lanes, always(lanes, lambda k, count: 0), price=0.0, way=as_it_is)


def test_a_file_without_a_policy_is_refused(scene: Scene, tmp_path: Path) -> None:
    learner = Learner(**TINY, steps=64)
    train(scene.lanes("train", learned=True, lanes=8), learner, tmp_path)
    tensors, metadata = read_tensors(tmp_path / "policy.safetensors")
    del tensors["weights.action_net.bias"]
    write_tensors(tmp_path / "other.safetensors", tensors, metadata)
    with pytest.raises(InputError, match=r"policy with 'weights.action_net.bias', and does not"):
        read_network(tmp_path / "other.safetensors")
