"""Python code may branch on concrete values in a function that is differentiated, as JAX allows."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.experimental import io_callback
from jax.scipy.special import log_ndtr

import fungrad as fg
from tests.test_pullback import same


def by_sign(x):
    return jnp.sin(x) if x > 0 else x * x


def halvings(x):
    steps = 0
    while jnp.sum(x * x) > 1:
        x, steps = x * 0.5, steps + 1
    return jnp.sum(x) * steps


def as_often_as_its_argument(x):
    return lax.fori_loop(0, (x + 1).astype(int), lambda _, c: c * x, 1.0)


def make_by_sign_with_jvp():
    own = jax.custom_jvp(by_sign)
    own.defjvp(lambda p, t: (own(*p), (2 if p[0] > 0 else 3) * t[0]))
    return lambda x: own(x * x - 2)


def make_by_sign_with_vjp():
    own = jax.custom_vjp(by_sign)
    own.defvjp(
        lambda x: (own(x), x if x > 0 else 2 * x), lambda x, g: (g * x if x > 0 else 3 * g * x,)
    )
    return lambda x: own(x * x - 2)


@pytest.mark.parametrize("point", [1.0, -2.0, 3.0])
@pytest.mark.parametrize(
    "fun",
    [
        *(by_sign, halvings, as_often_as_its_argument),
        *(make_by_sign_with_jvp(), make_by_sign_with_vjp()),
    ],
)
def test_python_may_branch_on_values(fun, point):
    same(fg.grad(fun)(point), jax.grad(fun)(point))
    same(fg.grad(fg.grad(fun))(point), jax.grad(jax.grad(fun))(point))
    same(fg.grad(jax.grad(fun))(point), jax.grad(jax.grad(fun))(point))


def test_python_may_not_branch_on_what_is_traced():
    for grad in (jax.grad, fg.grad):
        with pytest.raises(jax.errors.TracerBoolConversionError):
            jax.jit(grad(by_sign))(1.0)
        with pytest.raises(jax.errors.TracerBoolConversionError):
            jax.vmap(grad(by_sign))(jnp.ones(3))


def test_what_is_printed_is_the_value():
    def fun(x):
        printed.append(f"{x} {jnp.sin(x)} {[x]}")
        return jnp.sum(x)

    for point in (1.0, jnp.arange(3.0)):
        printed: list[str] = []
        jax.grad(fun)(point)
        fg.grad(fun)(point)
        assert printed[0] == printed[1]
        assert "primal=" in printed[0]


def test_a_value_that_an_effect_makes_is_not_made_twice():
    calls = []

    def positive(x):
        calls.append(x)
        return np.asarray(x > 0)

    def fun(x):
        found = io_callback(positive, jax.ShapeDtypeStruct((), bool), x)
        return x * x if found else x

    with pytest.raises(jax.errors.TracerBoolConversionError):
        fg.grad(fun)(1.0)
    assert not calls


def test_nothing_leaks():
    """Where JAX looks for leaked tracers, rules of custom functions are read as under `jax.jit`."""
    with jax.checking_leaks():
        same(fg.grad(jax.nn.relu)(1.0), jax.grad(jax.nn.relu)(1.0))
        same(fg.grad(halvings)(3.0), jax.grad(halvings)(3.0))


def halves(x, **how):
    half = x.astype("float16")
    return jnp.sum(lax.dot(half, half, preferred_element_type="float32", **how) ** 2)


def prepared(x):
    """Another way where there is no such product, as on a CPU."""
    try:
        return halves(x, precision=lax.DotAlgorithmPreset.F16_F16_F32)
    except ValueError:
        return halves(jnp.sin(x))


def test_python_may_catch_what_the_device_refuses():
    x = jnp.arange(4.0).reshape(2, 2)
    for save in (None, "nothing"):
        same(fg.grad(prepared, save=save)(x), jax.grad(prepared)(x))
    same(
        fg.grad(lambda x: jnp.vdot(fg.grad(prepared)(x.astype(float)), x))(x),
        jax.grad(lambda x: jnp.vdot(jax.grad(prepared)(x), x))(x),
    )
    with pytest.raises(ValueError, match="not supported by dot_general on CPU"):
        fg.grad(lambda x: halves(x, precision="F16_F16_F32"))(x)
    with pytest.raises(ValueError, match="not supported by dot_general on CPU"):
        jax.jit(fg.grad(prepared))(x)


def test_an_effect_is_not_repeated_to_catch_an_error():
    seen = []

    def fun(x):
        jax.debug.callback(seen.append, x)
        return prepared(x)

    with pytest.raises(ValueError, match="not supported by dot_general on CPU"):
        fg.grad(fun)(jnp.ones((2, 2)))
    assert len(seen) <= 1


def test_under_jaxs_own_checks():
    """They count the names of static arguments too, and refuse log_ndtr under jax.jit."""
    with jax.enable_checks(True):
        x = jnp.ones(())
        same(fg.grad(log_ndtr)(x), jax.grad(log_ndtr)(x))
        same(fg.grad(halvings)(3.0), jax.grad(halvings)(3.0))
