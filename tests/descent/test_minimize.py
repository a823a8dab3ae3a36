"""The loop: steps, batches, keys, and its progress bar."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fungrad as fg
from fungrad.descent import batches, minimize
from tests.descent.costs import KEY, bowl, line

# --- steps ----------------------------------------------------------------------------------------


def test_gradient_descent_by_hand():
    """θ ← θ − η ∂J/∂θ with η = 0.25 halves the distance to 3: J = 2 · 3² · 4^−t."""
    descent = minimize(bowl, jnp.zeros(2), optimizer=optax.sgd(0.25), steps=5)
    assert descent.history.tolist() == [18.0 / 4**t for t in range(5)]
    assert descent.params.tolist() == [3 - 3 / 2**5] * 2
    assert descent.steps == 5
    assert descent.stopped_because == "all 5 steps were made"
    assert descent.failure is None
    assert not descent.converged


def test_momentum_by_hand():
    """m ← α m + g and θ ← θ − η m."""
    eta, alpha, theta, m = 0.1, 0.9, 0.0, 0.0
    history = []
    for _ in range(20):
        history.append((theta - 3) ** 2)
        m = alpha * m + 2 * (theta - 3)
        theta = theta - eta * m
    descent = minimize(bowl, jnp.zeros(1), optimizer=optax.sgd(eta, momentum=alpha), steps=20)
    np.testing.assert_allclose(descent.history, history, rtol=1e-12)
    np.testing.assert_allclose(descent.params, theta, rtol=1e-12)


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.lbfgs()], ids=["adam", "lbfgs"])
def test_the_steps_are_those_of_a_plain_optax_loop(optimizer, points, start):
    def cost(params):
        return line(params, points)

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(cost)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optax.with_extra_args_support(optimizer).update(
                gradient, state, params, value=value, grad=gradient, value_fn=cost
            )
            return optax.apply_updates(params, updates), state, value

    params, state, history = start, optimizer.init(start), []
    for _ in range(8):
        params, state, value = step(params, state)
        history.append(float(value))

    descent = minimize(line, start, points, optimizer=optimizer, steps=8)
    np.testing.assert_allclose(descent.history, history, rtol=1e-9)
    np.testing.assert_allclose(descent.params["w"], params["w"], rtol=1e-9)


@pytest.mark.parametrize("keep", [True, False])
def test_backtracking_line_search(keep):
    search = optax.scale_by_backtracking_linesearch(15, store_grad=keep)
    optimizer = optax.chain(optax.sgd(1.0), search)
    descent = minimize(lambda x: jnp.sum(x**4), jnp.ones(2), optimizer=optimizer, steps=20)
    assert descent.history[-1] < 1e-3
    assert np.all(np.diff(descent.history) < 0)


def test_a_search_that_does_not_have_the_last_word():
    """What it knows is of other parameters than those of the next step: it is not used."""
    optimizer = optax.chain(optax.lbfgs(), optax.scale(0.5))
    shorter, longer = (
        minimize(bowl, jnp.zeros(2), optimizer=optimizer, steps=steps) for steps in (2, 3)
    )
    np.testing.assert_allclose(longer.history[2], bowl(shorter.params), rtol=1e-12)


def test_any_pytree_of_any_format():
    """Half precision beside double, complex beside real, scalars and matrices."""
    params = (jnp.ones(2, jnp.bfloat16), {"z": jnp.array(1 + 2j), "A": np.ones((2, 2)), "s": 2.0})

    def cost(params):
        half, rest = params
        total = jnp.sum(half.astype(float) ** 2) + jnp.abs(rest["z"]) ** 2
        return total + jnp.sum(rest["A"] ** 2) + rest["s"] ** 2

    descent = minimize(cost, params, optimizer=optax.sgd(0.25), steps=30)
    assert jax.tree.map(jnp.result_type, descent.params) == jax.tree.map(jnp.result_type, params)
    assert jax.tree.structure(descent.params) == jax.tree.structure(params)
    np.testing.assert_allclose(descent.history[:2], [15, 15 / 4], rtol=1e-12)
    assert descent.history[-1] < 1e-12


def test_a_complex_parameter_descends():
    """J = |z − c|² has plain gradient conj(z − c) · 2; the step goes along its conjugate."""
    target = jnp.array([1 + 2j, -1j])
    descent = minimize(
        lambda z: jnp.sum(jnp.abs(z - target) ** 2), 0j * target, optimizer=optax.sgd(0.5), steps=1
    )
    np.testing.assert_allclose(descent.params, target, rtol=1e-12)


def test_inputs_are_minimised_like_parameters():
    """argmin_x of a unit: the parameters are closed over."""
    W = jnp.array([[1.0, -2.0], [0.5, 1.0]])
    descent = minimize(
        lambda x: -fg.layers.linear(x, W)[0] + jnp.sum(x**2),
        jnp.zeros(2),
        optimizer=optax.sgd(0.5),
        steps=3,
    )
    np.testing.assert_allclose(descent.params, W[0] / 2, rtol=1e-12)


def test_the_callers_parameters_stay(start, points):
    minimize(line, start, points, optimizer=optax.sgd(0.1), steps=2)
    assert start["w"].tolist() == [0.0, 0.0, 0.0]


def test_no_steps():
    descent = minimize(bowl, jnp.ones(2), optimizer=optax.sgd(0.1), steps=0)
    assert descent.params.tolist() == [1.0, 1.0]
    assert descent.history.shape == (0,)
    assert repr(descent) == "Descent(no steps; all 0 steps were made)"


def test_the_gradient_is_taken_by_the_rules():
    """Under a rule that turns the gradient of tanh round, descent climbs."""
    book = fg.rules.replace({"tanh": lambda g, out, x: -g * (1 - out * out)})

    def J(x):
        return jnp.sum(jnp.tanh(x))

    up = minimize(J, jnp.zeros(1), optimizer=optax.sgd(0.1), steps=1, rules=book)
    assert up.params.tolist() == [0.1]
    # What a line search differentiates obeys the rules, too, whoever asks.
    asked = fg.descent.objective.Objective(J, rules=book).as_function()
    assert jax.grad(asked)(jnp.zeros(1)).tolist() == [-1.0]


def test_the_cost_is_traced_once_however_many_steps():
    """One compiled program makes all the steps: Python does not come back to the cost."""
    calls = []

    def cost(x, batch):
        calls.append(1)
        return jnp.mean((batch - x) ** 2)

    def traces(steps):
        calls.clear()
        data = np.arange(10.0)
        minimize(cost, 0.0, data, optimizer=optax.sgd(0.1), steps=steps, batch_size=3, key=KEY)
        return len(calls)

    assert traces(3) == traces(600) <= 2


# --- batches --------------------------------------------------------------------------------------


def test_an_epoch_is_cut_from_one_permutation():
    rows = np.asarray(batches.rows(KEY, 0, 12, examples=10, batch_size=3))
    assert rows.shape == (12, 3)
    epochs = rows.reshape(4, 9)
    assert all(len(set(epoch)) == 9 for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    assert set(rows.ravel().tolist()) == set(range(10)), "over the epochs every example is seen"


@pytest.mark.parametrize("start", [1, 2, 3, 7, 12])
def test_the_rows_of_a_step_do_not_depend_on_where_a_run_begins(start):
    ahead = [batches.rows(KEY, first, 12, 10, 3) for first in (0, 12)]
    rows = np.concatenate(ahead)[start : start + 12]
    assert batches.rows(KEY, start, 12, 10, 3).tolist() == rows.tolist()


def test_a_batch_holds_the_same_examples_of_every_array():
    data = {"x": jnp.arange(10.0), "y": np.arange(10) * 10}

    def cost(theta, batch):
        x, y = batch["x"], batch["y"].astype(float)
        return theta * 0.0 + jnp.sum(x) + 1e6 * jnp.sum(jnp.abs(y - 10 * x))

    descent = minimize(cost, 1.0, data, optimizer=optax.sgd(0.1), epochs=4, batch_size=3, key=KEY)
    rows = batches.rows(jax.random.split(KEY, 3)[0], 0, 12, 10, 3)
    assert descent.history.tolist() == rows.sum(axis=1).tolist()


def test_epochs_and_steps_count_alike(points, start):
    given = dict(optimizer=optax.sgd(0.05), batch_size=16, key=KEY)
    by_epochs = minimize(line, start, points, epochs=5, **given)
    by_steps = minimize(line, start, points, steps=15, **given)
    assert by_epochs.steps == 5 * (50 // 16)
    assert by_epochs.history.tolist() == by_steps.history.tolist()
    assert by_epochs.stopped_because == "all 15 steps of 5 epochs were made"


def test_a_batch_of_all_examples_is_plain_gradient_descent(points, start):
    whole = minimize(line, start, points, optimizer=optax.sgd(0.05), epochs=4)
    batch = minimize(line, start, points, optimizer=optax.sgd(0.05), epochs=4, batch_size=50)
    assert whole.history.tolist() == batch.history.tolist()
    assert whole.steps == 4


def test_a_key_decides_the_order(points, start):
    def histories(key):
        return minimize(
            line, start, points, optimizer=optax.sgd(0.05), epochs=1, batch_size=16, key=key
        ).history.tolist()

    assert histories(KEY) == histories(jax.random.PRNGKey(0)) != histories(jax.random.key(1))


# --- keys -----------------------------------------------------------------------------------------


def test_a_cost_gets_a_fresh_key_in_every_step():
    def cost(x, *, key):
        return 0.0 * x + jax.random.uniform(key)

    descent = minimize(cost, 1.0, optimizer=optax.sgd(0.1), steps=20, key=KEY)
    assert len(set(descent.history.tolist())) == 20


def test_a_key_with_a_default_may_be_left_out():
    def cost(x, key=None):
        return x if key is None else 2.0 * x

    assert minimize(cost, 1.0, optimizer=optax.sgd(0.1), steps=1).history == [1.0]
    assert minimize(cost, 1.0, optimizer=optax.sgd(0.1), steps=1, key=KEY).history == [2.0]


# --- the progress bar -----------------------------------------------------------------------------


def test_progress_shows_the_cost(capsys):
    minimize(bowl, jnp.zeros(2), optimizer=optax.sgd(0.25), steps=3, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "cost 1.125" in shown
    minimize(bowl, jnp.zeros(2), optimizer=optax.sgd(0.25), steps=3)
    assert capsys.readouterr().err == ""


def test_a_missing_library_is_named_with_its_extra(monkeypatch, tmp_path):
    given = dict(optimizer=optax.sgd(0.25), steps=3)
    for module in ("rich", "rich.progress", "orbax", "orbax.checkpoint", "evosax"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=r"progress=True needs rich.*fungrad\[experiments\]"):
        minimize(bowl, jnp.zeros(2), progress=True, **given)
    with pytest.raises(ImportError, match=r"checkpoint= needs orbax.*fungrad\[experiments\]"):
        minimize(bowl, jnp.zeros(2), checkpoint=tmp_path, **given)
    with pytest.raises(ImportError, match=r"evolution needs evosax.*fungrad\[experiments\]"):
        fg.descent.evolution()
