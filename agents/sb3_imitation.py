"""A policy that begins as a copy of someone who knows how: behaviour cloning before PPO.

Letters: `N` lanes, `K` knobs.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn
from tqdm import tqdm

from penstock.agents.decider import Decider
from penstock.agents.learner import Learner
from penstock.agents.sb3_lanes import SB3VecEnv
from penstock.agents.sb3_state import save_model

VALUE_WEIGHT: Final = 0.5
"""Of the error of the value beside the likelihood, as in SB3's PPO."""


def imitate(
    model: OnPolicyAlgorithm,
    environment: SB3VecEnv,
    teacher: Decider,
    learner: Learner,
    checkpoint: Path,
) -> None:
    """Follow a teacher for the first `learner.imitate` steps, and learn to decide as it does.

        min over weights   -log p(teacher's decision) + (value - return)^2 / 2

    on the states that the teacher comes to (behaviour cloning; Pomerleau, ALVINN, NeurIPS 1988), so
    that PPO starts from a policy that is no worse than the rule, with a value that fits it.

    Args:
        model: PPO, with or without masks; goes on from its own number of steps.
        environment: of the model.
        teacher: decides at the engine's prices.
        learner: settings.
        checkpoint: where the model is kept now and then, and at the end.
    """
    lanes, buffer = environment.lanes, model.rollout_buffer
    observation: Any = environment.reset()
    teacher.begin(lanes)
    lanes.pricing = environment.prices  # which the teacher left to itself
    teacher.start(lanes, torch.arange(lanes.n))
    starts, saved_s = torch.ones(lanes.n, dtype=torch.bool).numpy(), time.monotonic()
    done = starts
    with tqdm(
        total=learner.imitate, initial=model.num_timesteps, desc="imitate", unit="step"
    ) as bar:
        while model.num_timesteps < learner.imitate:
            buffer.reset()
            for _ in range(learner.horizon):
                masks: Mapping[str, Any] = {}
                if learner.algorithm == "maskable_ppo":
                    masks = {"action_masks": environment.action_masks()}
                actions = teacher.act(lanes)
                seen = torch.as_tensor(observation)
                values, likelihood = _judged(model, seen, actions, masks)
                before = observation
                observation, reward, done, _ = environment.step(actions.numpy())
                buffer.add(before, actions.numpy(), reward, starts, values, likelihood, **masks)
                teacher.learn(lanes, environment.inner.last)
                if done.any():
                    teacher.start(lanes, torch.as_tensor(done).nonzero().squeeze(1))
                starts = done
            with torch.no_grad():
                last = model.policy.predict_values(torch.as_tensor(observation))
            buffer.compute_returns_and_advantage(last_values=last, dones=done)
            loss = _fit(model, learner)
            count = learner.horizon * lanes.n
            model.num_timesteps += count
            bar.update(count)
            bar.set_postfix_str(f"-log p {loss:.3f}")
            model.logger.record("imitation/loss", loss)
            model.logger.dump(model.num_timesteps)
            if time.monotonic() - saved_s > learner.checkpoint_s:
                save_model(model, checkpoint, learner, environment.prices)
                saved_s = time.monotonic()
    save_model(model, checkpoint, learner, environment.prices)


@torch.no_grad()
def _judged(
    model: OnPolicyAlgorithm, seen: Tensor, actions: Tensor, masks: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Values [N] and log-likelihoods [N] of a teacher's actions [N, K]."""
    values, likelihood, _ = model.policy.evaluate_actions(seen, actions, **masks)
    return values.flatten(), likelihood


def _fit(model: OnPolicyAlgorithm, learner: Learner) -> float:
    """A few passes over the buffer; the mean loss of the last."""
    model.policy.set_training_mode(True)
    losses: list[float] = []
    for _ in range(learner.epochs):
        losses = []
        for batch in model.rollout_buffer.get(learner.batch_size):
            masks: Mapping[str, Any] = {}
            if learner.algorithm == "maskable_ppo":
                masks = {"action_masks": batch.action_masks}  # type: ignore[attr-defined]
            values, likelihood, _ = model.policy.evaluate_actions(
                batch.observations, batch.actions, **masks
            )
            error = nn.functional.mse_loss(values.flatten(), batch.returns)
            loss = -likelihood.mean() + VALUE_WEIGHT * error
            model.policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.policy.parameters(), model.max_grad_norm)
            model.policy.optimizer.step()
            losses.append(-float(likelihood.detach().mean()))
    model.policy.set_training_mode(False)
    return sum(losses) / len(losses)
