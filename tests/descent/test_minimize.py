"""The loop: steps, batches, keys, when it stops, and what it keeps when numbers break."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fungrad as fg
from fungrad.descent import batches, minimize

KEY = jax.random.key(0)


def bowl(x):
    """J(x) = Σ (x − 3)², with ∂J/∂x = 2 (x − 3)."""
    return jnp.sum((x - 3.0) ** 2)


def line(params, batch):
    """Mean squared error of a line."""
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


@pytest.fixture
def points():
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 3))
    return x, x @ np.array([1.0, 2.0, 3.0]) + 0.5


@pytest.fixture
def start():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


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


# --- when it stops --------------------------------------------------------------------------------


def test_it_stops_when_the_cost_has_stopped_changing():
    """J_t = 18 · 4^−t; the change 18 · 3 · 4^−t−1 is at most 1e-6 from t = 11 to t = 12."""
    descent = minimize(bowl, jnp.zeros(2), optimizer=optax.sgd(0.25), steps=1000, tolerance=1e-6)
    changes = np.abs(np.diff(descent.history))
    assert descent.converged
    assert changes[-1] <= 1e-6 < changes[-2]
    assert descent.stopped_because == (
        f"the cost stopped changing: the cost went from {descent.history[-2]:.10g} to "
        f"{descent.history[-1]:.10g}, within the tolerance 1e-06"
    )


def test_the_tolerance_is_relative_for_large_costs():
    descent = minimize(
        lambda x: 1e8 + bowl(x), jnp.zeros(2), optimizer=optax.sgd(0.25), steps=99, tolerance=1e-6
    )
    assert descent.steps == 2, "a change of 13.5 in 1e8"


def test_the_change_is_that_of_the_loss_not_of_the_parameters():
    """Question 10 of seed 001: small steps on a steep cost go on, large ones on a flat cost end."""
    steep = minimize(
        lambda x: 1e4 * x, jnp.array(0.0), optimizer=optax.sgd(1e-11), steps=50, tolerance=1e-4
    )
    flat = minimize(
        lambda x: 1e-5 * x, jnp.array(0.0), optimizer=optax.sgd(1e5), steps=50, tolerance=1e-4
    )
    assert abs(steep.history[-1] - steep.history[-2]) == pytest.approx(1e-3)
    assert (steep.steps, flat.steps) == (50, 2)


def test_mini_batches_are_compared_epoch_by_epoch(points, start):
    descent = minimize(
        line,
        start,
        points,
        optimizer=optax.sgd(0.1),
        epochs=500,
        batch_size=16,
        key=KEY,
        tolerance=1e-6,
    )
    means = descent.history.reshape(-1, 3).mean(axis=1)
    changes = np.abs(np.diff(means))
    assert descent.converged
    assert changes[-1] <= 1e-6 < changes[:-1].min()
    assert "the mean cost of 3 steps went from" in descent.stopped_because


def test_a_window_of_steps_may_be_given():
    """An oscillating cost has the same mean in every window of two steps: |x| with step 2."""
    given = dict(optimizer=optax.sgd(1.0), steps=100, tolerance=1e-12)
    descent = minimize(lambda x: jnp.abs(x - 0.25), jnp.array(0.0), window=2, **given)
    assert descent.steps == 4
    assert not minimize(lambda x: jnp.abs(x - 0.25), jnp.array(0.0), **given).converged


def test_no_tolerance_never_stops_early():
    descent = minimize(lambda x: 0.0 * x, jnp.array(1.0), optimizer=optax.sgd(1.0), steps=300)
    assert descent.steps == 300
    exact = minimize(
        lambda x: 0.0 * x, jnp.array(1.0), optimizer=optax.sgd(1.0), steps=300, tolerance=0.0
    )
    assert exact.steps == 2


# --- numbers that are not finite ------------------------------------------------------------------


def test_a_cost_that_is_not_finite_stops_at_the_last_good_parameters():
    """log x falls by steps until x < 0, where it is NaN: the parameters before are kept."""
    descent = minimize(jnp.log, jnp.array(1.0), optimizer=optax.sgd(0.3), steps=100)
    x, path = 1.0, []
    while x > 0:
        path.append(x)
        x -= 0.3 / x
    assert descent.steps == len(path)
    np.testing.assert_allclose(descent.params, path[-1], rtol=1e-12)
    np.testing.assert_allclose(descent.history[:-1], np.log(path), rtol=1e-12)
    assert np.isnan(descent.history[-1])
    assert descent.failure.step == len(path)
    assert np.isnan(descent.failure.cost)
    np.testing.assert_allclose(descent.failure.params, x, rtol=1e-12)
    assert descent.failure.batch is None
    assert descent.stopped_because == (
        f"the cost is nan at step {len(path)}; params are those before the last update"
    )


def test_a_bad_example_is_found(points, start):
    x, y = points
    y[37] = np.nan
    given = dict(optimizer=optax.sgd(0.05), batch_size=16, key=KEY)
    descent = minimize(line, start, (x, y), epochs=10, **given)
    failure = descent.failure
    assert 37 in failure.rows
    assert np.isnan(failure.batch[1]).sum() == 1
    np.testing.assert_array_equal(failure.batch[0], x[failure.rows])
    assert jnp.isnan(line(failure.params, failure.batch))
    assert f"step {failure.step}" in descent.stopped_because
    assert "finite on the batch of the step before" in descent.stopped_because

    good = minimize(line, start, (x, np.nan_to_num(y)), steps=failure.step, **given)
    assert good.params["w"].tolist() == descent.params["w"].tolist(), "all good steps are kept"
    assert good.history.tolist() == descent.history[:-1].tolist()


def test_divergence_is_found_within_a_long_burst(points, start):
    """The failing step is found and its predecessor kept, whichever step of a burst it is."""
    descent = minimize(
        line, start, points, optimizer=optax.sgd(3.0), epochs=1000, batch_size=16, key=KEY
    )
    failing = descent.failure.step
    assert not np.isfinite(descent.history[-1])
    assert np.isfinite(descent.history[:-1]).all()
    assert len(descent.history) == failing + 1
    for steps in (failing - 1, failing):
        before = minimize(
            line, start, points, optimizer=optax.sgd(3.0), steps=steps, batch_size=16, key=KEY
        )
        if steps == failing - 1:
            assert before.params["w"].tolist() == descent.params["w"].tolist()
        else:
            assert before.params["w"].tolist() == descent.failure.params["w"].tolist()


@pytest.mark.parametrize("steps_before", [15, 16, 48])
def test_the_last_good_parameters_at_the_edges_of_bursts(steps_before):
    """x_t = t; the cost is NaN from x = steps_before + ½ on: bursts end at 16, 48, 112 steps."""

    def cost(x):
        return -x + jnp.where(x > steps_before - 0.5, jnp.nan, 0.0)

    descent = minimize(cost, jnp.array(0.0), optimizer=optax.sgd(1.0), steps=100)
    assert (descent.failure.step, float(descent.params)) == (steps_before, steps_before - 1)


def test_an_update_that_is_not_finite():
    """√x has a finite cost and an infinite gradient at 0."""
    descent = minimize(
        lambda x: jnp.sum(jnp.sqrt(x)), jnp.array([1.0, 0.0]), optimizer=optax.sgd(0.1), steps=9
    )
    assert descent.params.tolist() == [1.0, 0.0]
    assert (descent.steps, descent.failure.step, descent.failure.cost) == (0, 0, 1.0)
    assert descent.history.tolist() == [1.0]
    assert descent.stopped_because == (
        "the update of step 0 is not finite, although the cost there is 1; "
        "params are those before the step"
    )


def test_the_first_step_may_fail():
    descent = minimize(jnp.log, jnp.array(-1.0), optimizer=optax.sgd(0.1), steps=9)
    assert descent.params == -1.0
    assert descent.stopped_because == "the cost is nan at step 0; params are the initial ones"


def test_parameters_that_are_infinite_by_intent_are_no_failure():
    mask = jnp.array([0.0, -jnp.inf])
    descent = minimize(
        lambda p: -fg.layers.log_softmax(p["mask"])[0] + p["x"] ** 2,
        {"mask": mask, "x": jnp.array(1.0)},
        optimizer=optax.sgd(0.1),
        steps=3,
    )
    assert descent.failure is None


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
