"""Bad input: each refusal names the argument, what was given, and what would do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fungrad as fg
from fungrad.descent import minimize

KEY = jax.random.key(0)
DATA = np.zeros((10, 3))


def bowl(x):
    return jnp.sum((x - 3.0) ** 2)


def with_data(x, batch):
    return jnp.mean((batch - x) ** 2)


def refuse(error, message, cost=bowl, params=0.0, data=None, **changes):
    """minimize refuses these arguments with this error and message."""
    given = {"optimizer": optax.sgd(0.1), "steps": 3} | changes
    with pytest.raises(error, match=message):
        minimize(cost, params, data, **given)


# --- how long -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "give either epochs or steps, got epochs=None and steps=None"),
        ({"epochs": 2}, "give either epochs or steps, got epochs=2 and steps=3"),
        ({"steps": None, "epochs": 2}, "epochs = 2 needs data; without data give steps"),
        ({"steps": -1}, "steps must be a whole number of at least 0, got -1"),
        ({"steps": True}, "steps must be a whole number of at least 0, got True"),
        ({"tolerance": -1e-3}, "tolerance must be a finite number of at least 0.* got -0.001"),
        ({"tolerance": float("nan")}, "tolerance must be a finite number of at least 0.* got nan"),
        ({"window": 0}, "window must be a whole number of at least 1, got 0"),
    ],
)
def test_how_long(changes, message):
    refuse(ValueError, message, **changes)


def test_steps_are_whole_numbers():
    refuse(TypeError, "steps must be a whole number, got 2.5", steps=2.5)


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (None, {"batch_size": 4}, "batch_size = 4 needs data"),
        (DATA, {"batch_size": 11, "key": KEY}, "at most the number of examples, got 11 of 10"),
        (DATA, {"batch_size": 0, "key": KEY}, "batch_size must be a whole number of at least 1"),
        (DATA, {"batch_size": 4}, "key is missing: shuffling the data into batches needs one"),
        ((DATA, DATA[:9]), {}, r"same leading axis.*data\[0\] .*\[10,3\] and data\[1\] .*\[9,3\]"),
        ({"x": DATA, "n": 3.0}, {}, r"data\['n'\] must have a leading axis of examples"),
        (DATA[:0], {}, "data must hold at least one example"),
        ((), {}, "data has no arrays"),
    ],
)
def test_data(data, changes, message):
    refuse(ValueError, message, with_data, 0.0, data, **changes)


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [{}, (), None, {"a": None}], ids=repr)
def test_params_need_an_array(empty):
    refuse(ValueError, "params has no arrays", params=empty)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (3, r"params must be floating-point or complex, got .*int.*; convert it with"),
        ({"a": np.arange(3)}, r"params\['a'\] must be floating-point or complex, got int64\[3\]"),
        ({"a": [1.0, True]}, r"params\['a'\]\[1\] must be floating-point or complex, got bool"),
        ({"a": bowl}, r"params\['a'\] must be a floating-point array, got function"),
        ((1.0, "text"), r"params\[1\] must be a floating-point array, got str"),
        (KEY, r"params must be a floating-point array|params must be floating-point or complex"),
    ],
)
def test_params_are_floating_point(params, message):
    refuse(TypeError, message, params=params)


def test_params_are_not_traced():
    @jax.jit
    def traced(x):
        return minimize(bowl, x, optimizer=optax.sgd(0.1), steps=3).params

    with pytest.raises(TypeError, match=r"params is traced.*call it outside of jax\.jit"):
        traced(1.0)


@pytest.mark.parametrize(
    "method", [fg.descent.newton_cg(), fg.descent.spsa(optax.sgd(0.1)), fg.descent.evolution()]
)
def test_methods_over_real_vectors_refuse_complex_ones(method):
    refuse(
        TypeError,
        rf"params\['z'\] is complex128\[2\], and {method.name} minimises over real parameters",
        params={"z": np.ones(2, complex)},
        optimizer=method,
        key=KEY,
    )


# --- cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (lambda x: jnp.ones(3) * x, r"cost must return one real scalar, got float64\[3\]; reduce"),
        (lambda x: (x, {}), "cost must return one real scalar, got tuple; return the cost alone"),
        (lambda x: x.astype(complex), r"cost must return one real scalar, got complex128\[\]"),
        (lambda x: jnp.argmax(x), r"cost must return one real scalar, got int64\[\]"),
        (lambda x: None, "cost must return one real scalar, got NoneType"),
        ("cost", "cost must be a function of the parameters, got str"),
    ],
)
@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), fg.descent.spsa(optax.sgd(0.1))])
def test_a_cost_is_a_real_scalar(cost, message, optimizer):
    refuse(TypeError, message, cost, optimizer=optimizer, key=KEY)


def test_a_cost_that_takes_a_key_needs_one():
    refuse(ValueError, "key is missing: the cost's parameter `key` needs", lambda x, key: x)


# --- key, optimizer -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [0, jax.random.split(KEY, 2), np.zeros(2), "seed"], ids=repr)
def test_a_key_is_one_key(key):
    refuse(TypeError, r"key must be one key, such as jax\.random\.key\(0\), got", key=key)


@pytest.mark.parametrize(
    "method", [fg.descent.spsa(optax.sgd(0.1)), fg.descent.evolution()], ids=lambda m: m.name
)
def test_random_optimizers_need_a_key(method):
    refuse(ValueError, f"key is missing: the optimizer {method.name} needs", optimizer=method)


@pytest.mark.parametrize(
    ("optimizer", "got"), [("adam", "'adam'"), (None, "NoneType"), (optax.adam, "function")]
)
def test_an_optimizer_is_optax_or_a_method(optimizer, got):
    refuse(TypeError, f"optimizer must be an optax optimizer.*got {got}", optimizer=optimizer)


def test_rules_are_a_rulebook():
    refuse(TypeError, "rules must be a Rulebook", rules={"tanh": None})
