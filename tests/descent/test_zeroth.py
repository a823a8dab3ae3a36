"""Zeroth order: the cost alone is looked at, and nothing is differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fungrad.descent import evolution, minimize, spsa, zeroth
from fungrad.descent.objective import Objective

KEY = jax.random.key(0)


def steps_of(x):
    """A cost whose gradient is 0 wherever it has one: ⌊8 ‖x − 3‖²⌋ / 8."""
    return jnp.floor(8 * jnp.sum((x - 3.0) ** 2)) / 8


def looks_only(x):
    """A cost that cannot be differentiated backwards: it has a while loop."""
    return jax.lax.while_loop(lambda s: s > 10.0, lambda s: s / 2, jnp.sum((x - 3.0) ** 2))


# --- SPSA -----------------------------------------------------------------------------------------


def test_the_estimate_is_exact_for_a_quadratic_along_every_direction():
    """(J(θ + cΔ) − J(θ − cΔ)) / 2c · Δ = (∂J/∂θ · Δ) Δ; with one parameter it is ∂J/∂θ."""
    one = minimize(
        lambda x: (x - 3.0) ** 2, jnp.array(0.0), optimizer=spsa(optax.sgd(0.25)), steps=3, key=KEY
    )
    np.testing.assert_allclose(one.history, [9.0, 2.25, 0.5625], rtol=1e-10)

    g = jnp.array([1.0, -2.0, 0.5])
    method = spsa(optax.sgd(1.0), radius=0.1)
    J = Objective(lambda x: x @ g, promotion="strict")
    value, x, _ = method.step(J, jnp.zeros(3), method.init(jnp.zeros(3), None), KEY)
    delta = -jnp.sign(x / x[0]) * jnp.sign(x[0])  # θ ← θ − (g · Δ) Δ
    np.testing.assert_allclose(x, -(g @ delta) * delta, rtol=1e-12)
    assert value == 0.0


def test_the_estimate_is_right_on_average():
    """E (g · Δ) Δ = g, as E ΔΔᵀ = I; the error of the mean of k falls as 1/√k."""
    g = jnp.array([1.0, -2.0, 0.5])
    method = spsa(optax.sgd(1.0), directions=20_000)
    J = Objective(lambda x: x @ g, promotion="strict")
    _, x, _ = method.step(J, jnp.zeros(3), method.init(jnp.zeros(3), None), KEY)
    np.testing.assert_allclose(x, -g, atol=4 * 2.3 / 20_000**0.5)


def test_spsa_in_mini_batches_of_a_pytree():
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 2))
    y = x @ np.array([1.0, -2.0]) + 0.5

    def cost(params, batch):
        return jnp.mean((batch[0] @ params["w"] + params["b"] - batch[1]) ** 2)

    descent = minimize(
        cost,
        {"w": jnp.zeros(2), "b": jnp.zeros(())},
        (x, y),
        optimizer=spsa(optax.sgd(0.05), radius=lambda k: 0.1 / (k + 1) ** 0.101, directions=4),
        epochs=60,
        batch_size=16,
        key=KEY,
    )
    np.testing.assert_allclose(descent.params["w"], [1.0, -2.0], atol=1e-3)
    np.testing.assert_allclose(descent.params["b"], 0.5, atol=1e-3)


# --- evolution ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", sorted({*zeroth.STRATEGIES} - {"CMA_ES"}))
def test_the_other_strategies_find_a_minimum(strategy):
    method = evolution(strategy, population=16, deviation=0.5)
    descent = minimize(steps_of, jnp.zeros(3), optimizer=method, steps=150, key=KEY)
    assert descent.history[0] == 27.0
    assert descent.history[-1] == 0.0


def test_cma_es_learns_the_shape_of_a_narrow_valley():
    descent = minimize(
        lambda p: 1e4 * (p["a"] - p["b"] ** 2) ** 2 + (1 - p["b"]) ** 2,
        {"a": jnp.zeros(()), "b": jnp.array(-0.5)},
        optimizer=evolution(deviation=0.5),
        steps=600,
        key=KEY,
    )
    np.testing.assert_allclose(descent.params["b"], 1.0, atol=1e-6)


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [spsa(optax.sgd(0.1)), evolution()], ids=lambda m: m.name)
def test_nothing_is_differentiated_and_single_precision_stays_single(method):
    start = jnp.zeros(2, jnp.float32)
    descent = minimize(looks_only, start, optimizer=method, steps=300, key=KEY)
    np.testing.assert_allclose(descent.params, 3.0, atol=1e-2)
    assert descent.params.dtype == jnp.float32


def test_the_key_decides():
    def path(key):
        descent = minimize(
            looks_only, jnp.zeros(2), optimizer=spsa(optax.sgd(0.1)), steps=3, key=key
        )
        return descent.history.tolist()

    assert path(KEY) != path(jax.random.key(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spsa(optax.sgd(0.1), radius=0.0), r"radius must be positive, got 0\.0"),
        (lambda: spsa(optax.sgd(0.1), directions=0), "directions must be at least 1, got 0"),
        (lambda: evolution("CMA"), "unknown strategy 'CMA'; the names are CMA_ES, "),
        (lambda: evolution(population=1), "population must be at least 2, got 1"),
        (lambda: evolution(deviation=-1.0), r"deviation must be positive, got -1\.0"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_spsa_needs_an_optax_optimizer():
    with pytest.raises(TypeError, match=r"optimizer must be an optax optimizer.*got 'sgd'"):
        spsa("sgd")
