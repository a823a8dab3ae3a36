"""What minimum-norm methods share: keeping the nearest, and the last stretch to the boundary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.inputs.attacks.problem import Problem
from fungrad.inputs.constraints import lengths

HALVINGS = 24
STRETCHES = (1.0, 1.0001, 1.001, 1.01, 1.1)


def closer(delta: jax.Array, wins: jax.Array, best, norm: float):
    """Row by row the shorter change, of those that win: (length, δ)."""
    length = lengths(delta, norm)
    better = wins & (length < best[0])
    return jnp.where(better, length, best[0]), jnp.where(better[:, None], delta, best[1])


def none_yet(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """A change that any one is closer than: (∞, 0)."""
    return jnp.full_like(problem.x[:, 0], jnp.inf), jnp.zeros_like(problem.x)


def pulled_in(problem: Problem, delta: jax.Array) -> jax.Array:
    """The shortest s δ on the segment for which the criterion holds, by bisection; 0 where none.

    It is judged as the outcome will be: at the highest precision, and in the dtype that is handed
    back, with a hair more than rounding error to spare, so that whoever evaluates the model in
    another order of operations finds the same class. Where s = 1 fails by that hair, slightly
    longer changes are tried. x itself is the answer where the criterion holds there.
    """

    def outcome(scale):
        scaled = problem.room.clip(scale[:, None] * delta)
        return problem.outcome(scaled, 2, None)

    def holds(scale):
        z = problem.precise(outcome(scale))
        form = jnp.finfo(problem.dtype)
        spare = (8 if form.bits >= 32 else 1) * float(form.eps)
        return problem.criterion.margin(z) > spare * jnp.max(jnp.abs(z), axis=-1)

    ones = jnp.ones_like(problem.x[:, 0])
    far = jnp.zeros_like(ones)
    for stretch in reversed(STRETCHES):
        far = jnp.where(holds(stretch * ones), stretch, far)

    def halve(_, ends):
        near, far = ends
        middle = (near + far) / 2
        reached = holds(middle)
        return jnp.where(reached, near, middle), jnp.where(reached, middle, far)

    _, far = lax.fori_loop(0, HALVINGS, halve, (0 * far, far))
    already = problem.criterion.holds(problem.precise(problem.x.astype(problem.dtype)))
    reached = outcome(far).astype(problem.x.dtype) - problem.x
    return jnp.where((already | (far == 0))[:, None], 0, reached)
