"""Zeroth order: descent by looking at J alone; nothing is differentiated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fungrad.descent.methods import Method, require_real, update
from fungrad.descent.objective import Objective

# The strategies of evosax that sample around a mean with a first deviation.
STRATEGIES = ("CMA_ES", "SNES", "Sep_CMA_ES", "xNES")


def spsa(
    optimizer: optax.GradientTransformation,
    radius: float | Callable[[jax.Array], Any] = 0.01,
    directions: int = 1,
) -> Method:
    """Simultaneous perturbation: all parameters are shaken at once, by Δ with entries ±1.

        ∂J/∂θ ≈ (J(θ + cΔ) − J(θ − cΔ)) / 2c · Δ        E = ∂J/∂θ + O(c²)

    Two evaluations give an estimate, however many parameters there are (a third one is for the
    history). Any optax optimizer makes the step from it.

    Args:
        optimizer: an optax optimizer, such as `optax.sgd(1e-2)`.
        radius: c, or a function of the step's number as optax's schedules are.
        directions: the number of independent Δ whose estimates are averaged.

    Source: [spall1992].

    >>> import fungrad as fg, jax, jax.numpy as jnp, optax
    >>> descent = fg.descent.minimize(
    ...     lambda x: jnp.sum((x - 3.0) ** 2),
    ...     jnp.zeros(2),
    ...     optimizer=fg.descent.spsa(optax.sgd(0.1)),
    ...     steps=200,
    ...     key=jax.random.key(0),
    ... )
    >>> bool(jnp.allclose(descent.params, 3.0, atol=1e-3))
    True
    """
    if not callable(radius) and not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    if directions < 1:
        raise ValueError(f"directions must be at least 1, got {directions}")
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"optimizer must be an optax optimizer, such as optax.sgd(1e-2), got {optimizer!r}"
        )
    extended = optax.with_extra_args_support(optimizer)

    def init(params: Any, key: Any) -> tuple[Any, Any]:
        require_real("spsa", params)
        with jax.numpy_dtype_promotion("standard"):
            return jnp.int32(0), extended.init(params)

    def step(objective: Objective, params: Any, state: Any, key: Any):
        count, inner = state
        with jax.numpy_dtype_promotion("standard"):  # as optax calls its schedules
            c = radius(count) if callable(radius) else radius

        def estimate(key: jax.Array) -> Any:
            delta = _signs(key, params)
            rise = objective(_shifted(params, c, delta)) - objective(_shifted(params, -c, delta))
            return jax.tree.map(lambda d: (rise / (2 * c)).astype(d.dtype) * d, delta)

        estimates = jax.vmap(estimate)(jax.random.split(key, directions))
        gradient = jax.tree.map(lambda leaf: leaf.mean(axis=0), estimates)
        value = objective(params)
        params, inner = update(extended, objective, params, inner, value, gradient)
        return value, params, (count + 1, inner)

    return Method("spsa", init, step, random=True)


def evolution(
    strategy: str = "CMA_ES", population: int | None = None, deviation: float = 0.1
) -> Method:
    """An evolution strategy of evosax: sample a population, keep what the better ones share.

        θ_i ~ N(m, σ²C),  i = 1, ..., population;   m, σ, C ← from the θ_i, ranked by J(θ_i)

    The parameters are the mean m. A step is one generation, with all of its costs evaluated at
    once. CMA-ES adapts the whole covariance C, [n × n] for n parameters; for many parameters take
    "Sep_CMA_ES" or "SNES", which keep its diagonal alone.

    Args:
        strategy: "CMA_ES", or another name in `fungrad.descent.zeroth.STRATEGIES`.
        population: the number of samples; None: 4 + ⌊3 ln n⌋.
        deviation: the first σ.

    Raises:
        ImportError: if evosax is not installed; the extra `experiments` brings it.
        ValueError: if the strategy is unknown; the message lists the names.

    Source: [hansen2016]; [lange2022].

    >>> import fungrad as fg, jax, jax.numpy as jnp
    >>> descent = fg.descent.minimize(
    ...     lambda x: jnp.sum(jnp.abs(x - 3.0)),
    ...     jnp.zeros(2),
    ...     optimizer=fg.descent.evolution(deviation=1.0),
    ...     steps=100,
    ...     key=jax.random.key(0),
    ... )
    >>> bool(jnp.allclose(descent.params, 3.0, atol=1e-3))
    True
    """
    algorithm = _algorithm(strategy)
    if not deviation > 0:
        raise ValueError(f"deviation must be positive, got {deviation}")
    if population is not None and population < 2:
        raise ValueError(f"population must be at least 2, got {population}")

    def strategy_for(params: Any) -> tuple[Any, Any]:
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        with jax.ensure_compile_time_eval():
            made = algorithm(population or 4 + int(3 * math.log(count)), zeros)
            settings = made.default_params
            return made, settings.replace(std_init=jnp.asarray(deviation))

    def init(params: Any, key: Any) -> Any:
        require_real("evolution", params)
        with jax.numpy_dtype_promotion("standard"):
            made, settings = strategy_for(params)
            return made.init(key, params, settings)

    def step(objective: Objective, params: Any, state: Any, key: Any):
        ask, tell = jax.random.split(key)
        with jax.numpy_dtype_promotion("standard"):  # evosax mixes dtypes freely
            made, settings = strategy_for(params)
            samples, state = made.ask(ask, state, settings)
            state, _ = made.tell(tell, samples, jax.vmap(objective)(samples), state, settings)
            return objective(params), made.get_mean(state), state

    return Method("evolution", init, step, random=True)


def _signs(key: jax.Array, params: Any) -> Any:
    """A tree like params with entries ±1."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, signs)


def _shifted(params: Any, by: Any, direction: Any) -> Any:
    return jax.tree.map(lambda x, d: x + jnp.asarray(by, x.dtype) * d, params, direction)


def _algorithm(name: str) -> Any:
    """evosax's algorithm of that name."""
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r}; the names are {', '.join(STRATEGIES)}")
    try:
        from evosax import algorithms
    except ImportError as error:
        raise ImportError("evolution needs evosax: pip install 'fungrad[experiments]'") from error
    return getattr(algorithms, name)
