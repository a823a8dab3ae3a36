"""The compiled half of a descent: many steps in one loop, with the data on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.descent.problem import Keys, Problem

RUNNING, STOPPED_CHANGING, COST_NOT_FINITE, PARAMS_NOT_FINITE = range(4)


class State(NamedTuple):
    """What changes from step to step; all that a checkpoint has to hold beside the history.

    Attributes:
        step: the number of updates made.
        status: RUNNING, or why the run has ended.
        params: the parameters θ_t after `step` updates.
        previous: θ_{t−1}, where a burst of steps ends; within one it lags behind.
        method: what the method keeps beside the parameters.
        total: the sum of the costs in the current window of steps.
        mean: the mean cost of the last whole window; NaN before there is one.
    """

    step: jax.Array
    status: jax.Array
    params: Any
    previous: Any
    method: Any
    total: jax.Array
    mean: jax.Array


def initial(problem: Problem, params: Any, keys: Keys) -> State:
    """The state before the first step."""
    state = State(
        step=jnp.int32(0),
        status=jnp.int32(RUNNING),
        params=params,
        previous=params,
        method=problem.method.init(params, keys.method),
        total=jnp.zeros(()),
        mean=jnp.full((), jnp.nan),
    )
    return jax.tree.map(_strong, state)


def burst(problem: Problem) -> Callable[..., tuple[State, jax.Array]]:
    """The function `(state, end, rows, data, keys) -> (state, costs[length])`, to be jitted.

    It makes the steps up to `end`, each on its batch of the `rows`: at most `problem.length` of
    them, and fewer where the run stops. It is a scan whose length is known only when it runs,
    hence a `while_loop`. What it returns after a number that is not finite is of no use but for
    its status: nothing is kept or compared in every step for a case that ends the run.
    """

    def run(
        state: State, end: jax.Array, rows: Any, data: Any, keys: Keys
    ) -> tuple[State, jax.Array]:
        first = state

        def step(carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, costs = carry
            here = state.step - first.step
            seen = None if rows is None else rows[here]
            state, value = _advance(problem, state, data, seen, keys)
            return state, costs.at[here].set(value)

        def until(number: jax.Array, carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            """Up to the last step but one, and then the last, so that `previous` is before it."""
            state, costs = carry
            stop = jnp.where(number == 0, end - 1, end)
            return lax.while_loop(
                lambda carry: (carry[0].status == RUNNING) & (carry[0].step < stop),
                step,
                (state._replace(previous=state.params), costs),
            )

        state, costs = lax.fori_loop(0, 2, until, (state, jnp.zeros(problem.length)))
        broken = (state.status != COST_NOT_FINITE) & _breaks(first.params, state.params)
        return state._replace(status=jnp.where(broken, PARAMS_NOT_FINITE, state.status)), costs

    return run


def failed(state: State) -> bool:
    """Whether a number that is not finite has ended the run."""
    return int(state.status) in (COST_NOT_FINITE, PARAMS_NOT_FINITE)


def _advance(
    problem: Problem, state: State, data: Any, rows: Any, keys: Keys
) -> tuple[State, jax.Array]:
    """One step."""
    objective = problem.objective(data, rows, keys, state.step)
    key = jax.random.fold_in(keys.method, state.step) if problem.method.random else None
    value, params, method = problem.method.step(objective, state.params, state.method, key)
    value = value.astype(state.total.dtype)
    total, mean, settled = _window(problem, state, value)
    after = State(
        step=state.step + 1,
        status=jnp.where(settled, STOPPED_CHANGING, RUNNING),
        params=params,
        previous=state.previous,
        method=method,
        total=total,
        mean=mean,
    )
    after = after._replace(status=jnp.where(jnp.isfinite(value), after.status, COST_NOT_FINITE))
    return _like(after, state), value


def _window(problem: Problem, state: State, value: jax.Array) -> tuple[Any, Any, Any]:
    """The running sum, the last mean, and whether two windows' means M, M' agree:

    |M' − M| <= tolerance · max(|M'|, |M|, 1)
    """
    total = state.total + value
    whole = (state.step + 1) % problem.window == 0
    mean = total / problem.window
    settled = jnp.bool_(False)
    if problem.tolerance is not None:
        scale = jnp.maximum(1.0, jnp.maximum(jnp.abs(mean), jnp.abs(state.mean)))
        settled = whole & (jnp.abs(mean - state.mean) <= problem.tolerance * scale)
    return jnp.where(whole, 0.0, total), jnp.where(whole, mean, state.mean), settled


def _breaks(old: Any, new: Any) -> jax.Array:
    """Whether an entry that was finite no longer is."""
    broken = jax.tree.map(lambda x, y: jnp.any(jnp.isfinite(x) & ~jnp.isfinite(y)), old, new)
    return jax.tree.reduce(jnp.logical_or, broken)


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _strong(leaf: Any) -> jax.Array:
    """An array whose dtype is its own, not one that gives way to others'."""
    leaf = jnp.asarray(leaf)
    return leaf if _is_key(leaf) else lax.convert_element_type(leaf, leaf.dtype)


def _like(new: Any, old: Any) -> Any:
    """New values in the old dtypes: some optimizers widen their state in the first step."""

    def cast(n: Any, o: Any) -> Any:
        return n if _is_key(o) else lax.convert_element_type(n, o.dtype)

    return jax.tree.map(cast, new, old)
