"""One loop that minimises any cost over any pytree: parameters, inputs or latents."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad.descent import loop, problem
from fungrad.descent.checkpoints import Checkpoint, Store, describe
from fungrad.descent.loop import State
from fungrad.descent.methods import as_method
from fungrad.descent.problem import Keys, Problem
from fungrad.descent.progress import bar
from fungrad.descent.result import Descent, Failure
from fungrad.rulebook import Rulebook


def minimize(
    cost: Callable[..., Any],
    params: Any,
    data: Any = None,
    *,
    optimizer: Any,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    key: jax.Array | None = None,
    tolerance: float | None = None,
    window: int | None = None,
    rules: Rulebook | None = None,
    progress: bool = False,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
) -> Descent:
    """Minimises J(θ) step by step, with g = ∂J/∂θ at the θ of the step.

        θ ← θ − η g                       gradient descent, `optax.sgd(η)`
        m ← α m + g,   θ ← θ − η m        with momentum [goh2017], `optax.sgd(η, momentum=α)`
        θ ← θ − η D g                     D ≈ H⁻¹ from the last steps [liu1989], `optax.lbfgs()`

    Many steps run in one compiled loop, with the data on the device. What a step does depends on
    the arguments and its number alone: not on progress bars, checkpoints or interruptions.

    Args:
        cost: `cost(params)`, or `cost(params, batch)` where there are data; returns a real
            scalar. If it has a parameter named `key`, it gets a fresh key under that name in
            every step.
        params: θ, any pytree of floating-point or complex arrays.
        data: any pytree of arrays with a common leading axis, one entry per example.
        optimizer: an optax optimizer, also one with a line search such as `optax.lbfgs()`, or
            `newton_cg()`, `spsa(...)`, `evolution(...)` of this package.
        epochs: the number of passes over the data; or
        steps: the number of updates.
        batch_size: the number of examples in a step. Each epoch shuffles the examples anew and
            leaves out those that are too few for a batch, other ones in every epoch. None:
            every step sees all of the data, in their order.
        key: where the random numbers come from. Needed to shuffle, by a cost with a parameter
            `key` that has no default, and by random optimizers.
        tolerance: the descent stops when the cost has stopped changing: with M and M' the mean
            costs of two successive windows of steps, when |M' − M| <= tolerance · max(|M'|,
            |M|, 1), which is relative for large costs and absolute for small ones. None: never.
        window: the number of steps in a window; None: an epoch's, so 1 where a step sees all of
            the data. A cost that is random itself needs a longer one.
        rules: the rulebook that the gradients are taken with.
        progress: whether to show a progress bar with the cost.
        checkpoint: a folder, or a `Checkpoint` with a folder and an interval. If it holds a
            checkpoint of the same run, the descent goes on from there, and ends bit for bit
            where it would have ended. `epochs` or `steps` may be more than they were.

    Returns:
        A `Descent`: `.params`, `.history` (the cost before each step), `.stopped_because`. A cost
        that is not finite, or an update that makes the parameters so, stops the descent:
        `.params` are then the last good ones, for which the cost was finite, and `.failure`
        holds the step and its batch.

    Raises:
        TypeError: if params are not floating-point, the cost does not return a real scalar, or
            an argument is not of its kind.
        ValueError: if epochs and steps, batch size, data or key do not go together, or the
            checkpoint is of another run.
        OSError: if the checkpoint's folder cannot be written; raised before any work is done.

    >>> import fungrad as fg, jax.numpy as jnp, optax
    >>> descent = fg.descent.minimize(
    ...     lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(2), optimizer=optax.sgd(0.25), steps=3
    ... )
    >>> [float(cost) for cost in descent.history]
    [18.0, 4.5, 1.125]
    >>> descent.params.tolist()
    [2.625, 2.625]
    >>> descent.stopped_because
    'all 3 steps were made'
    """
    theta = problem.checked_params(params)
    data, examples = problem.checked_data(data)
    batch_size = problem.checked_batch_size(batch_size, examples)
    per_epoch = examples // batch_size if batch_size else 1
    method = as_method(optimizer)
    takes = problem.key_parameter(cost)
    key = problem.checked_key(key, _who_needs_a_key(batch_size, method, takes))
    task = Problem(
        cost=cost,
        method=method,
        rules=rules,
        promotion=jax.numpy_dtype_promotion.value,
        examples=examples,
        batch_size=batch_size,
        total=problem.checked_total(epochs, steps, examples, per_epoch),
        window=problem.checked_window(window, per_epoch),
        tolerance=problem.checked_tolerance(tolerance),
        takes_key=takes is not None and key is not None,
    )
    keys = Keys.of(key)
    state = loop.initial(task, theta, keys)
    state, history = _run(task, state, data, keys, progress, checkpoint)
    return _descent(task, state, history, data, keys, epochs)


def _who_needs_a_key(batch_size: int | None, method: Any, takes: Any) -> str | None:
    if batch_size is not None:
        return "shuffling the data into batches"
    if method.random:
        return f"the optimizer {method.name}"
    if takes is not None and takes.default is takes.empty:
        return "the cost's parameter `key`"
    return None


def _run(
    task: Problem, state: State, data: Any, keys: Keys, progress: bool, checkpoint: Any
) -> tuple[State, np.ndarray]:
    """Makes the steps in bursts of about a fifth of a second, and looks around in between."""
    compiled = jax.jit(loop.burst(task))

    def steps_to(end: int, state: State) -> tuple[State, np.ndarray]:
        rows = task.rows(keys, int(state.step))
        after, costs = compiled(state, jnp.int32(end), rows, data, keys)
        return after, np.asarray(costs)[: int(after.step) - int(state.step)]

    with contextlib.ExitStack() as stack:
        store, history = None, np.zeros(0)
        if checkpoint is not None:
            store = stack.enter_context(Store(checkpoint))
            traced = compiled.trace(state, jnp.int32(0), task.rows(keys, 0), data, keys)
            state, history = store.restore(state, describe(task, state, data, keys, traced))
            _require_not_beyond(task, int(state.step), store)
        history, step, size = [history], int(state.step), 16
        show = stack.enter_context(bar(progress, task.total, step))

        while step < task.total and int(state.status) == loop.RUNNING:
            end = min(step + size, task.total, *_next_checkpoint(store, step))
            began = time.monotonic()
            after, costs = steps_to(end, state)
            if loop.failed(after):
                after, costs = _one_by_one(steps_to, end, state)
            now = time.monotonic()
            state, step, size = after, int(after.step), _next_size(size, now - began, task.length)
            history.append(costs)

            show(step, float(costs[-1]))
            ended = step == task.total or int(state.status) != loop.RUNNING
            if store is not None and not loop.failed(state) and (ended or store.due(step, now)):
                history = [np.concatenate(history)]
                store.save(state, history[0])
    return state, np.concatenate(history)


def _one_by_one(steps_to: Callable[..., Any], end: int, state: State) -> tuple[State, np.ndarray]:
    """Makes the steps of a burst that failed again, each on its own: the state before the one
    that fails, with the status after it, and the costs, the failing one's included."""
    costs: list[np.ndarray] = []
    while int(state.step) < end and int(state.status) == loop.RUNNING:
        after, cost = steps_to(int(state.step) + 1, state)
        costs.append(cost)
        state = state._replace(status=after.status) if loop.failed(after) else after
    return state, np.concatenate(costs)


def _next_size(size: int, took: float, most: int) -> int:
    if took < 0.1:
        return min(2 * size, most)
    return size if took < 0.4 else max(size // 2, 1)


def _next_checkpoint(store: Store | None, step: int) -> list[int]:
    """The step at which the next checkpoint is due, where that is known."""
    every = store.every if store is not None else None
    return [] if every is None else [step - step % every + every]


def _require_not_beyond(task: Problem, step: int, store: Store) -> None:
    if step > task.total:
        raise ValueError(
            f"the checkpoint in {store.folder} has made {step} steps, more than the {task.total} "
            "asked for; ask for at least as many, or choose another folder"
        )


# --- the end --------------------------------------------------------------------------------------


def _descent(
    task: Problem, state: State, history: np.ndarray, data: Any, keys: Keys, epochs: Any
) -> Descent:
    """The result, with the reason for the end in words."""
    status, params, failure = int(state.status), state.params, None
    if status == loop.STOPPED_CHANGING:
        because = _settled(task, history)
    elif status == loop.RUNNING:
        passes = "" if epochs is None else f" of {epochs} epochs"
        because = f"all {task.total} steps{passes} were made"
    else:
        params, failure, because = _failure(task, state, history, data, keys)
    return Descent(
        params=params,
        history=history,
        stopped_because=because,
        steps=int(state.step),
        converged=status == loop.STOPPED_CHANGING,
        failure=failure,
        optimizer_state=state.method,
    )


def _settled(task: Problem, history: np.ndarray) -> str:
    last, now = history[-2 * task.window :].reshape(2, task.window).mean(axis=1)
    means = "the cost" if task.window == 1 else f"the mean cost of {task.window} steps"
    return (
        f"the cost stopped changing: {means} went from {last:.10g} to {now:.10g}, "
        f"within the tolerance {task.tolerance:g}"
    )


def _failure(
    task: Problem, state: State, history: np.ndarray, data: Any, keys: Keys
) -> tuple[Any, Failure, str]:
    """The last good parameters, the failing step, and what to say about it."""
    step = int(state.step)
    rows, objective = _objective_at(task, data, keys, step)
    failure = Failure(
        step=step,
        cost=float(history[-1]),
        params=state.params,
        batch=objective.batch[0] if objective.batch else None,
        rows=None if rows is None else np.asarray(rows),
        key=objective.options.get("key"),
    )
    where = f"step {step}" if rows is None else f"step {step} (its batch is .failure.batch)"
    if int(state.status) == loop.PARAMS_NOT_FINITE:
        said = f"the update of {where} is not finite, although the cost there is {failure.cost:.6g}"
        return state.params, failure, f"{said}; params are those before the step"
    said = f"the cost is {failure.cost} at {where}"
    if step == 0:
        return state.params, failure, f"{said}; params are the initial ones"
    # The previous parameters are good: their cost was finite. These are good too if their cost
    # is finite on the previous batch; then it is the new batch, or its key, that is to blame.
    _, earlier = _objective_at(task, data, keys, step - 1)
    if jnp.isfinite(jax.jit(lambda theta: earlier(theta))(state.params)):
        return state.params, failure, f"{said}, but finite on the batch of the step before"
    return state.previous, failure, f"{said}; params are those before the last update"


def _objective_at(task: Problem, data: Any, keys: Keys, step: int) -> tuple[Any, Any]:
    rows = task.rows(keys, step)
    rows = None if rows is None else rows[0]
    return rows, task.objective(data, rows, keys, step)
