"""Second order: Newton's method with conjugate gradients in a trust region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from fungrad.descent.methods import Method, require_real
from fungrad.descent.objective import Objective

Vector = jax.Array

# A step is taken if the cost falls by at least this share of what the model predicts; the region
# shrinks below the second share and grows above the third.
TAKEN, POOR, GOOD = 1e-4, 0.25, 0.75
SHRINKAGES = 40


def newton_cg(radius: float = 1.0, cg_steps: int = 100) -> Method:
    """Newton-CG: θ ← θ + s, where s minimises the quadratic model of J within a ball.

        s = argmin over ‖s‖ ≤ Δ of  g·s + ½ s·H s        g = ∂J/∂θ,  H = ∂²J/∂θ²

    Conjugate gradients find s from products H v alone (`fungrad.hvp`); they stop at the ball's
    surface, along a direction of negative curvature also, and where the residual has fallen to
    min(½, √‖g‖) ‖g‖, which makes the convergence superlinear. Δ shrinks until the cost falls about
    as the model predicts, so no step makes the cost rise.

    Args:
        radius: the first Δ.
        cg_steps: the most products H v for one s.

    Source: [nocedal2006], algorithms 4.1 and 7.2; [steihaug1983].

    >>> import fungrad as fg, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> x = jnp.array([-1.2, 1.0])
    >>> descent = fg.descent.minimize(rosenbrock, x, optimizer=fg.descent.newton_cg(), steps=40)
    >>> bool(jnp.allclose(descent.params, 1.0, atol=1e-3))
    True
    """
    if not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    if cg_steps < 1:
        raise ValueError(f"cg_steps must be at least 1, got {cg_steps}")

    def init(params: Any, key: Any) -> Vector:
        require_real("newton_cg", params)
        return jnp.asarray(radius, ravel_pytree(params)[0].dtype)

    def step(objective: Objective, params: Any, radius: Vector, key: Any):
        theta, unravel = ravel_pytree(params)
        value, gradient = objective.value_and_grad(params)
        hessian = objective.hessian(params)

        trial = _trust_region(
            value=lambda theta: objective(unravel(theta)).astype(theta.dtype),
            theta=theta,
            gradient=ravel_pytree(gradient)[0],
            hessian=lambda v: ravel_pytree(hessian(unravel(v)))[0],
            radius=radius,
            cg_steps=cg_steps,
        )
        return value, unravel(theta + trial.step), trial.radius

    return Method("newton_cg", init, step)


class Trial(NamedTuple):
    """A step s, the radius for the next one, and whether the cost has agreed to s."""

    step: Vector
    radius: Vector
    taken: Vector
    tries: Vector


def _trust_region(
    value: Callable[[Vector], Vector],
    theta: Vector,
    gradient: Vector,
    hessian: Callable[[Vector], Vector],
    radius: Vector,
    cg_steps: int,
) -> Trial:
    """Shrinks the region until the model is right about s; s = 0 where it never is."""
    before = value(theta)
    # Differences below the rounding of J say nothing: add it to both sides of the ratio.
    rounding = 10 * jnp.finfo(theta.dtype).eps * jnp.maximum(1.0, jnp.abs(before))

    def attempt(trial: Trial) -> Trial:
        s, residual = _steihaug(hessian, gradient, trial.radius, cg_steps)
        predicted = -0.5 * jnp.vdot(s, gradient + residual)  # −(g·s + ½ s·Hs), for H s = r − g
        ratio = (before - value(theta + s) + rounding) / (predicted + rounding)
        taken, length = ratio > TAKEN, jnp.linalg.norm(s)
        shrunk = 0.25 * jnp.where(length > 0, length, trial.radius)
        grown = jnp.maximum(trial.radius, 2 * length)
        radius = jnp.where(ratio > GOOD, grown, trial.radius)
        radius = jnp.where(ratio > POOR, radius, shrunk)  # a ratio that is NaN shrinks too
        return Trial(jnp.where(taken, s, jnp.zeros_like(s)), radius, taken, trial.tries + 1)

    first = Trial(jnp.zeros_like(theta), radius, jnp.bool_(False), jnp.int32(0))
    return lax.while_loop(lambda t: ~t.taken & (t.tries < SHRINKAGES), attempt, first)


class Search(NamedTuple):
    """Conjugate gradients at work: s, r = g + H s, the direction d, and the count."""

    s: Vector
    r: Vector
    d: Vector
    at_boundary: Vector
    count: Vector


def _steihaug(
    hessian: Callable[[Vector], Vector], gradient: Vector, radius: Vector, cg_steps: int
) -> tuple[Vector, Vector]:
    """(s, g + H s) for s that about minimises g·s + ½ s·H s within ‖s‖ ≤ Δ."""
    size = jnp.linalg.norm(gradient)
    tolerance = jnp.minimum(0.5, jnp.sqrt(size)) * size

    def unfinished(c: Search) -> jax.Array:
        return (jnp.linalg.norm(c.r) > tolerance) & ~c.at_boundary & (c.count < cg_steps)

    def go_on(c: Search) -> Search:
        Hd = hessian(c.d)
        curvature, rr = jnp.vdot(c.d, Hd), jnp.vdot(c.r, c.r)
        alpha = rr / jnp.where(curvature > 0, curvature, 1.0)
        outside = (curvature <= 0) | (jnp.linalg.norm(c.s + alpha * c.d) >= radius)
        alpha = jnp.where(outside, _to_boundary(c.s, c.d, radius), alpha)
        s, r = c.s + alpha * c.d, c.r + alpha * Hd
        return Search(s, r, jnp.vdot(r, r) / rr * c.d - r, outside, c.count + 1)

    start = Search(jnp.zeros_like(gradient), gradient, -gradient, jnp.bool_(False), jnp.int32(0))
    found = lax.while_loop(unfinished, go_on, start)
    return found.s, found.r


def _to_boundary(s: Vector, d: Vector, radius: Vector) -> Vector:
    """τ ≥ 0 with ‖s + τ d‖ = Δ: the root of τ² d·d + 2 τ s·d = Δ² − s·s, where s·d ≥ 0."""
    a, b, c = jnp.vdot(d, d), jnp.vdot(s, d), radius**2 - jnp.vdot(s, s)
    return c / (b + jnp.sqrt(b**2 + a * c))
