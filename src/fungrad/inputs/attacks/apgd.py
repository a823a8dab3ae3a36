"""Ascent with momentum and step sizes that adapt themselves: the first half of AutoAttack."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad.inputs.attacks import losses
from fungrad.inputs.attacks.descent import steepest
from fungrad.inputs.attacks.method import BallMethod
from fungrad.inputs.attacks.problem import Problem, better, nothing
from fungrad.inputs.constraints import project, random

LOSSES = ("cross_entropy", "logits_ratio", "targeted_logits_ratio")

MOMENTUM, INCREASES = 0.75, 0.75  # α and ρ of the paper


class State(NamedTuple):
    """δ and where it came from; the best point; what the next checkpoint decides by."""

    delta: jax.Array
    previous: jax.Array
    gradient: jax.Array
    loss: jax.Array
    size: jax.Array  # η [N]
    top: jax.Array  # the largest loss so far, with its δ and gradient
    top_delta: jax.Array
    top_gradient: jax.Array
    increases: jax.Array  # since the last checkpoint
    last_top: jax.Array  # at the last checkpoint
    halved: jax.Array  # at the last checkpoint
    best: tuple[jax.Array, jax.Array]  # (margin, δ)


@dataclass(frozen=True)
class APGD(BallMethod):
    """Projected ascent with momentum, whose steps are halved where they stop paying:

        z = P(δ_k + η d),        δ_{k+1} = P(δ_k + α (z − δ_k) + (1 − α) (δ_k − δ_{k−1}))

    η begins at 2 ε. At checkpoints that come ever more often it is halved, and the ascent goes back
    to its best point, if fewer than ρ of the steps since the last one raised the loss, or if
    neither η nor the largest loss has changed there; α = ρ = 0.75. Directions and projections are
    those of `PGD`.

    Attributes:
        norm: 1, 2 or ∞.
        steps: how many gradients each ascent takes.
        restarts: how many ascents there are, for each target.
        loss: "cross_entropy", "logits_ratio" (DLR), or "targeted_logits_ratio" (DLR towards
            one of the likeliest other classes after another: APGD-T).
        targets: how many of these.

    Raises:
        ValueError: if the loss is none of these.

    >>> APGD(loss="logits_ratio")
    APGD(norm=inf, steps=100, restarts=1, loss='logits_ratio', targets=9)

    Source: [croce2020]; [croce2021].
    """

    steps: int = 100
    restarts: int = 1
    loss: str = "cross_entropy"
    targets: int = 9

    counts: ClassVar[tuple[str, ...]] = ("steps", "restarts", "targets")

    def __post_init__(self):
        super().__post_init__()
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)} for APGD, got {self.loss!r}")

    def find(self, problem: Problem, epsilon: jax.Array) -> jax.Array:
        """δ [N, D], of all iterates the one with the largest margin."""
        if self.loss != "targeted_logits_ratio":
            loss = getattr(losses, self.loss)
            ascend = functools.partial(self._ascent, problem, epsilon, loss)
            return lax.fori_loop(0, self.restarts, ascend, nothing(problem))[1]
        rivals = problem.rivals(self.targets)

        def ascend_to(number, best):
            loss = losses.targeted_logits_ratio(rivals[number // self.restarts])
            return self._ascent(problem, epsilon, loss, number, best)

        return lax.fori_loop(0, len(rivals) * self.restarts, ascend_to, nothing(problem))[1]

    def _ascent(self, problem, epsilon, loss, number, best):
        """(margin, δ) after one more ascent."""
        room = problem.room
        ends, since = checkpoints(self.steps)

        def onto(delta):
            return project(delta, self.norm, epsilon, room)

        def climb(step, s: State) -> State:
            size = s.size[:, None]
            aim = onto(s.delta + size * steepest(s.gradient, self.norm)) - s.delta
            share = jnp.where(step == 0, 1, MOMENTUM).astype(size.dtype)
            delta = onto(s.delta + share * aim + (1 - share) * (s.delta - s.previous))
            gradient, value, margin = problem.gradient(delta, loss)
            risen = value > s.top
            after = s._replace(
                delta=delta,
                previous=s.delta,
                gradient=gradient,
                loss=value,
                top=jnp.where(risen, value, s.top),
                top_delta=jnp.where(risen[:, None], delta, s.top_delta),
                top_gradient=jnp.where(risen[:, None], gradient, s.top_gradient),
                increases=s.increases + (value > s.loss).astype(jnp.int32),
                best=better(margin, delta, s.best),
            )
            return _checked(after, jnp.asarray(ends)[step], jnp.asarray(since)[step])

        start = random(problem.draw(number), self.norm, epsilon, room)
        gradient, value, margin = problem.gradient(start, loss)
        begin = State(
            delta=start,
            previous=start,
            gradient=gradient,
            loss=value,
            size=jnp.broadcast_to(2 * epsilon, value.shape),
            top=value,
            top_delta=start,
            top_gradient=gradient,
            increases=jnp.zeros(value.shape, jnp.int32),
            last_top=value,
            halved=jnp.zeros(value.shape, bool),
            best=better(margin, start, best),
        )
        return lax.fori_loop(0, self.steps, climb, begin).best


def _checked(s: State, is_checkpoint: jax.Array, since: jax.Array) -> State:
    """What a checkpoint decides; elsewhere the state as it is."""
    few = s.increases.astype(s.top.dtype) < INCREASES * since.astype(s.top.dtype)
    stuck = ~s.halved & (s.last_top >= s.top)
    halve = is_checkpoint & (few | stuck)
    back = halve[:, None]
    return s._replace(
        size=jnp.where(halve, s.size / 2, s.size),
        delta=jnp.where(back, s.top_delta, s.delta),
        gradient=jnp.where(back, s.top_gradient, s.gradient),
        loss=jnp.where(halve, s.top, s.loss),
        increases=jnp.where(is_checkpoint, 0, s.increases),
        last_top=jnp.where(is_checkpoint, s.top, s.last_top),
        halved=jnp.where(is_checkpoint, halve, s.halved),
    )


def checkpoints(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each step is a checkpoint, and how many steps it has been since the last one.

        w_j = ⌈p_j steps⌉,        p_1 = 0.22,  p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)

    >>> checkpoints(10)[0].nonzero()[0].tolist()
    [2, 4, 5, 6, 7, 8, 9]
    """
    places, p, gap = [], 22, 22  # in hundredths, where ⌈p_j steps⌉ is exact
    while p <= 100:
        places.append(-(-p * steps // 100) - 1)
        gap = max(gap - 3, 6)
        p += gap
    ends = np.zeros(steps, bool)
    ends[places] = True
    last = np.maximum.accumulate(np.concatenate([[-1], np.where(ends, np.arange(steps), -1)[:-1]]))
    return ends, (np.arange(steps) - last).astype(np.int32)
