"""Effects happen once, in the order of the program, whatever is made of it."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.experimental import checkify, io_callback

import fungrad as fg


def plain(f, x):
    return f(f(x, 1), 2)


def in_jit(f, x):
    return jax.jit(lambda x: f(jax.jit(f)(x, 1), 2))(x)


def in_scan(f, x):
    return lax.scan(lambda c, i: (f(c, i), None), x, jnp.array([1, 2]))[0]


def in_cond(f, x):
    return lax.cond(x > 0, lambda x: f(f(x, 1), 2), lambda x: f(x, 3), x)


def in_switch_of_loops(f, x):
    return lax.switch(1, [lambda x: x, lambda x: in_scan(f, x)], x)


def in_checkpoint(f, x):
    return jax.checkpoint(lambda x: f(jax.checkpoint(f, static_argnums=1)(x, 1), 2))(x)


def in_checkpointed_scan(f, x):
    body = jax.checkpoint(lambda c, i: (f(c, i), None))
    return lax.scan(body, x, jnp.array([1, 2]))[0]


PLACES = [plain, in_jit, in_scan, in_cond, in_switch_of_loops, in_checkpoint, in_checkpointed_scan]

TRANSFORMS = {
    "grad": fg.grad,
    "jit of grad": lambda f: jax.jit(fg.grad(f)),
    "grad of jit": lambda f: fg.grad(jax.jit(f)),
    "nothing saved": lambda f: fg.grad(f, save="nothing"),
    "second order": lambda f: fg.grad(fg.grad(f)),
    "second order of jits": lambda f: fg.grad(jax.jit(fg.grad(jax.jit(f)))),
    "nothing saved, twice": lambda f: fg.grad(fg.grad(f, save="nothing"), save="nothing"),
}

every_place = pytest.mark.parametrize("place", PLACES, ids=lambda f: f.__name__)
every_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())


@every_place
@every_transform
def test_each_effect_once_and_in_order(place, transform):
    """A note to Python, an ordered one, and a question to Python, in each call of f."""
    told, asked = [], []

    def ask(i):
        asked.append(int(i))
        return np.float64(1.5)

    def f(x, i):
        jax.debug.callback(lambda i: told.append(int(i)), i, ordered=True)
        factor = io_callback(ask, jax.ShapeDtypeStruct((), "float64"), i, ordered=True)
        return jnp.sin(x) * factor

    transform(lambda x: place(f, x))(0.5)
    jax.effects_barrier()
    assert (told, asked) == ([1, 2], [1, 2])


@every_place
@pytest.mark.parametrize("transform", [*TRANSFORMS.values()][:4], ids=[*TRANSFORMS][:4])
def test_effects_of_the_backward_pass_happen_there(place, transform):
    """Last things first, and also what does not read g."""
    events = []

    @jax.custom_vjp
    def watched(x, i):
        return jnp.sin(x)

    def forward(x, i):
        jax.debug.callback(lambda i: events.append(int(i)), i, ordered=True)
        return jnp.sin(x), (x, i)

    def backward(saved, g):
        x, i = saved
        jax.debug.callback(lambda i: events.append(-int(i)), i, ordered=True)
        return g * jnp.cos(x), None

    watched.defvjp(forward, backward)
    got = transform(lambda x: place(watched, x))(0.5)
    jax.effects_barrier()
    assert events == [1, 2, -2, -1]
    np.testing.assert_allclose(got, np.cos(np.sin(0.5)) * np.cos(0.5), 1e-12)


def test_a_callback_that_is_not_ordered_runs_once_per_row_under_vmap():
    seen = []

    def f(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x)
        return jnp.sin(x)

    jax.vmap(fg.grad(jax.jit(f)))(jnp.array([1.0, 2.0]))
    jax.effects_barrier()
    assert sorted(seen) == [1, 2]


def test_a_print_needs_no_output(capfd):
    def f(x):
        jax.debug.print("x = {}", jnp.sin(x) * 0)
        return x * x

    assert jax.jit(fg.grad(jax.jit(f)))(3.0) == 6
    jax.effects_barrier()
    assert capfd.readouterr().out == "x = 0.0\n"


def test_a_note_of_an_error_stays():
    @jax.jit
    def f(x):
        checkify.check(x > 0, "x must be positive, got {x}", x=x)
        return jnp.log(x)

    checked = checkify.checkify(fg.grad(f))
    error, g = checked(2.0)
    assert (error.get(), g) == (None, 0.5)
    error, _ = checked(-2.0)
    assert "x must be positive, got -2.0" in error.get()


@pytest.mark.parametrize("around", [lambda f: f, jax.jit])
def test_a_function_of_its_author_that_notes_errors_has_its_derivative(around):
    """Also in jit, where JAX refuses it."""
    f = jax.custom_jvp(jnp.log)
    f.defjvps(lambda t, out, x: 2 * t / x)
    checked = around(checkify.checkify(lambda x: f(x) * x, errors=checkify.float_checks))
    (error, _), _ = fg.vjp(checked, 2.0)
    assert error.get() is None
    np.testing.assert_allclose(fg.grad(lambda x: checked(x)[1])(2.0), 2 + np.log(2.0))


def test_what_python_is_told_may_depend_on_the_argument():
    told = []

    def f(x):
        io_callback(lambda x: told.append(float(x)), None, x)
        return x * x

    assert fg.grad(f)(3.0) == 6
    jax.effects_barrier()
    assert told == [3]


@pytest.mark.parametrize("callback", [jax.pure_callback, io_callback])
def test_a_gradient_at_what_python_returns_is_refused(callback):
    def f(x):
        return callback(np.sin, jax.ShapeDtypeStruct((), x.dtype), x)

    match = r"callbacks do not support JVP.*The callback is at .*test_callbacks\.py:\d+"
    with pytest.raises(ValueError, match=match):
        fg.grad(f)(1.5)
    with pytest.raises(ValueError, match=match):
        fg.vjp(jax.jit(f), 1.5)
    assert fg.grad(lambda x: x * lax.stop_gradient(f(x)))(1.5) == np.sin(1.5)


def test_with_a_derivative_of_its_author_python_may_compute():
    @jax.custom_jvp
    def sin(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), x.dtype), x)

    sin.defjvp(lambda x, t: (sin(*x), jnp.cos(*x) * t[0]))
    np.testing.assert_allclose(fg.grad(jax.jit(sin))(0.5), np.cos(0.5), 1e-12)
