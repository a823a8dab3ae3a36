"""When the loop stops, and what it keeps when numbers break."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fungrad as fg
from fungrad.descent import minimize
from tests.descent.costs import KEY, bowl, line

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
