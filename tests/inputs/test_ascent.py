import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fungrad.inputs import ascent

KEY = jax.random.key(0)


def climb(target, **options):
    def value(x, key):
        return -jnp.sum(jnp.square(x - target)) + 0.0 * jax.random.normal(key)

    options = {"optimizer": optax.sgd(0.25), "steps": 300, "key": KEY, **options}
    return ascent.ascend(value, jnp.zeros(2), **options)


def test_it_goes_uphill_and_stays_where_it_is_told_to():
    target = jnp.array([2.0, -0.5])
    found = climb(target, nearest=lambda x: jnp.clip(x, -1.0, 1.0))
    np.testing.assert_allclose(found.params, [1.0, -0.5])
    np.testing.assert_allclose(found.history[0], -4.25)
    assert found.history.shape == (300,)
    np.testing.assert_allclose(np.diff(found.history) >= 0, True)


def test_line_searches_begin_where_the_projection_ended():
    target = jnp.array([2.0, -0.5])
    options = {"optimizer": optax.lbfgs(), "nearest": lambda x: jnp.clip(x, -0.25, 0.25)}
    one, two = (climb(target, steps=steps, **options) for steps in (1, 2))
    assert one.params[0] == 0.25
    np.testing.assert_allclose(two.history[1], -jnp.sum(jnp.square(one.params - target)))


def test_under_jit_and_vmap():
    """The same steps, compiled as one program, with a traced target, key or both."""
    target = jnp.array([2.0, -0.5])
    here = climb(target)
    for traced in (lambda t, k: climb(t), lambda t, k: climb(target, key=k)):
        found = jax.jit(lambda t, k, f=traced: (f(t, k).params, f(t, k).history))(target, KEY)
        np.testing.assert_allclose(found[0], here.params)
        np.testing.assert_allclose(found[1], here.history)
    many = jax.vmap(lambda t: climb(t, steps=3).params)(jnp.stack([target, -target]))
    np.testing.assert_allclose(many[1], -many[0])


def test_a_number_that_is_not_finite_ends_it():
    found = ascent.ascend(
        lambda x, key: jnp.log(x), jnp.array(1.0), optimizer=optax.sgd(-0.6), steps=9, key=KEY
    )
    assert jnp.isfinite(found.params)
    assert "the cost is nan at step 2" in found.stopped_because


@pytest.mark.parametrize("alive", [False, True])
def test_rescue_only_where_nothing_gets_through(alive):
    """x₀ is below its relu: without gradient, or with one from another unit, which then counts."""
    weights = jnp.array([[1.0, 0.0], [0.0, 1.0]])

    def value(x):
        h = jax.nn.relu(x @ weights - 1.0)
        return h @ jnp.array([2.0, 1.0])

    x = jnp.array([[0.0, 3.0 if alive else 0.5], [0.0, 0.0]])
    cost = jax.grad(lambda x: -jnp.sum(ascent.rescued(value)(x)))
    first = [0.0, -1.0] if alive else [-2.0, -1.0]
    np.testing.assert_array_equal(cost(x), [first, [-2.0, -1.0]])
