"""The loop that all optimisation of images shares: `fungrad.descent`, uphill.

Outside of `jax.jit` it is `fungrad.descent.minimize`, with its bursts, progress bar and care for
numbers that are not finite; under `jax.jit` and `jax.vmap` the same compiled bursts follow one
another without a look in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fungrad import descent, rulebooks
from fungrad._arguments import known
from fungrad.descent import loop, problem
from fungrad.descent.methods import Method, as_method
from fungrad.transforms import vjp


@dataclass(frozen=True)
class Ascent:
    """Where an ascent ended.

    Attributes:
        params: after the last step.
        history: the value before each step, [steps].
        stopped_because: one sentence.
    """

    params: Any
    history: Any
    stopped_because: str


def ascend(
    value: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    *,
    optimizer: Any,
    steps: int,
    key: jax.Array,
    nearest: Callable[[Any], Any] = lambda params: params,
    progress: bool = False,
) -> Ascent:
    """Maximises value(params, key), with a fresh key in every step.

    Args:
        value: a real scalar function.
        params: any pytree of floating-point arrays.
        optimizer: as for `fungrad.descent.minimize`.
        steps: how many.
        key: where the keys of the steps come from.
        nearest: the projection after every step.
        progress: whether to show a progress bar.
    """
    # One evaluation by shape: what is wrong with the arguments shows before any work is done.
    traced = jax.make_jaxpr(value)(params, key)

    def cost(params: Any, key: jax.Array) -> jax.Array:
        return -value(params, key)

    method = _projected(as_method(optimizer), nearest)
    if not known(key, *jax.tree.leaves(params), *traced.consts):
        return _compiled(cost, params, method, steps, key)
    result = descent.minimize(
        cost, params, optimizer=method, steps=steps, key=key, progress=progress
    )
    return Ascent(result.params, -result.history, result.stopped_because)


def _projected(method: Method, nearest: Callable[[Any], Any]) -> Method:
    """`method`, with a projection after each of its steps."""

    def step(objective, params, state, key):
        # What a line search knows about the end of its step is not about the projection of it.
        value, params, state = method.step(replace(objective, fixed=False), params, state, key)
        return value, nearest(params), state

    return replace(method, step=step)


def _compiled(cost: Any, params: Any, method: Method, steps: int, key: jax.Array) -> Ascent:
    """All bursts, as one program."""
    task = problem.Problem(
        cost=cost,
        method=method,
        rules=None,
        promotion=jax.numpy_dtype_promotion.value,
        examples=0,
        batch_size=None,
        total=steps,
        window=1,
        tolerance=None,
        takes_key=True,
    )
    keys = problem.Keys.of(key)
    state, history = loop.initial(task, params, keys), [jnp.zeros(0)]
    burst = jax.jit(loop.burst(task))
    for start in range(0, steps, task.length):
        end = min(start + task.length, steps)
        state, costs = burst(state, jnp.int32(end), None, None, keys)
        history.append(-costs[: end - start])
    return Ascent(state.params, jnp.concatenate(history), f"{steps} steps were compiled")


# --- Rescue -----------------------------------------------------------------------------------


def rescued(value: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """`value`, images x[N, ...] -> [N], with gradients where relu lets none through.

    The gradient at the images for which it is zero, as it is at a unit that is off, is that of
    `fungrad.rulebooks.rectified_relu`. So the swapped rule serves for the first steps, and until
    the unit has come to life.
    """

    @jax.custom_vjp
    def alive(x: jax.Array) -> jax.Array:
        return value(x)

    def forward(x: jax.Array) -> tuple[jax.Array, Any]:
        out, pullback = vjp(value, x)
        return out, (pullback, x)

    def backward(saved: Any, g: jax.Array) -> tuple[jax.Array]:
        pullback, x = saved
        (usual,) = pullback(g)
        dead = jnp.all(usual == 0, axis=tuple(range(1, usual.ndim)), keepdims=True)

        def redirected() -> jax.Array:
            (other,) = vjp(value, x, rules=rulebooks.rectified_relu)[1](g)
            return jnp.where(dead, other, usual)

        return (lax.cond(jnp.any(dead), redirected, lambda: usual),)

    alive.defvjp(forward, backward)
    return alive
