"""What witnesses say where they are asked something hard, and how they say that they cannot."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.check.faults import right, ruled, tanh


def heard(fun, *args, witness, check=fg.check.function):
    return check(fun, witnesses=[witness])(*args)


X = np.random.default_rng(0).uniform(0.2, 1.5, (3, 4))

ANALYTIC = {
    "elementary": lambda x: jnp.exp(jnp.sin(x)) / jnp.sqrt(x) + jnp.log1p(x) * jnp.tanh(x) ** 3,
    "powers": lambda x: x**1.5 + (-x) ** 2 + 2.0**x,
    "matrices": lambda x: jax.nn.softmax(x @ x.T),
    "choices": lambda x: (
        jax.nn.relu(x - 0.7) + jnp.where(x > 0.5, x, x * x) + jnp.max(x, 1)[:, None]
    ),
    "a loop": lambda x: lax.scan(lambda c, a: (jnp.cos(c) * a, c), x[0], x)[0],
    "branches": lambda x: lax.cond(jnp.sum(x) > 0, jnp.sin, jnp.cos, x),
    "a convolution": lambda x: lax.conv_general_dilated(
        x[None, :, :], x[None, :, :2], (1,), ((1, 1),)
    ),
    "numbers": lambda x: jnp.cumsum(x[::-1], 1).T.reshape(3, 4) - jnp.pad(x, 1)[1:-1, :-2],
}


@pytest.mark.parametrize("name", ANALYTIC)
def test_complex_steps_have_no_error_but_rounding(name):
    found = heard(ANALYTIC[name], X, witness="complex step")
    assert found, str(found)
    assert found.compared["complex step"] > X.size


def test_complex_steps_see_more_than_differences():
    def nearly(residuals, g):
        return (g * (1 - jnp.tanh(residuals[0]) ** 2) * (1 + 3e-12),)

    wrong = ruled(tanh, nearly)
    assert heard(wrong, X, witness="differences", check=fg.check.custom_vjp)
    found = heard(wrong, X, witness="complex step", check=fg.check.custom_vjp)
    assert found.faults[0].argument == "x"
    assert len(found.faults[0].index) == 2


def test_complex_steps_are_for_what_complex_numbers_can_enter():
    for function in (lax.erf, jnp.sort, lambda x: jnp.abs(lax.complex(x, x))):
        assert heard(function, X, witness="complex step").compared["complex step"] == 0


tanh_with_one = fg.custom(jnp.tanh, lambda g, out, x: (g * (1 - out * out)).at[1].mul(1.001))

sine = jax.custom_jvp(jnp.sin)
sine.defjvp(lambda primals, tangents: (sine(*primals), 1.001 * jnp.cos(*primals) * tangents[0]))


@jax.custom_vjp
def root(x):
    return lax.while_loop(lambda s: s[1] < 9, lambda s: ((s[0] + x / s[0]) / 2, s[1] + 1), (x, 0))[
        0
    ]


root.defvjp(lambda x: (root(x), root(x)), lambda z, g: (g / (2 * z),))

# Functions with a wrong rule inside, and the row of the gradient that it spoils.
AUTHORED = {
    "fungrad.custom": (lambda x: tanh_with_one(x) ** 2, {1}),
    "in a scan": (lambda x: lax.scan(lambda s, _: (tanh_with_one(s), s), x, None, 2)[0], {1}),
    "in a checkpoint": (jax.checkpoint(lambda x: jnp.sin(jax.jit(tanh_with_one)(x))), {1}),
    "jax.custom_jvp": (lambda x: sine(x) ** 2, {0, 1, 2}),
    "beside what has a rule only": (lambda x: root(x) * tanh_with_one(x), {1}),
}


@pytest.mark.parametrize("name", AUTHORED)
def test_no_rule_vouches_for_itself(name):
    function, rows = AUTHORED[name]
    (fault,) = heard(function, X, witness="reference").faults
    assert fault.argument == "x"
    assert fault.index[0] in rows


def test_jaxs_own_rules_are_believed():
    found = heard(lambda x: jax.nn.relu(x) + jnp.logaddexp(x, x), np.zeros(2), witness="reference")
    assert found.findings == (), str(found)


def test_a_kink_is_one_for_complex_steps_too():
    found = heard(lambda x: jnp.maximum(x, 0.0), np.array([-1.0, 0.0, 2.0]), witness="complex step")
    assert found, str(found)
    assert [kink.index for kink in found.kinks if kink.argument == "x"] == [(1,)]


def test_large_jacobians_are_compared_along_rows_and_columns():
    def outer(x):
        return jnp.sin(x)[:, None] * x

    def one_wrong(residuals, g):
        (x,) = residuals
        gradient = jnp.cos(x) * (g @ x) + jnp.sin(x) @ g
        return (gradient.at[17].mul(1.001),)

    x = np.random.default_rng(0).normal(size=50)  # 2500 · 50 entries
    assert heard(outer, x, witness="jacobian")
    (fault,) = heard(
        ruled(outer, one_wrong), x, witness="jacobian", check=fg.check.custom_vjp
    ).faults
    assert fault.argument == "x, along a random row and column"


def test_a_jacobian_of_one_long_row_is_not_written_out():
    found = heard(
        lambda x: jnp.mean(x * x), np.random.default_rng(0).normal(size=600), witness="jacobian"
    )
    assert found.compared["jacobian"] == 16  # four rows by four columns


def test_a_pullback_that_is_not_vec_g_times_its_jacobian_is_caught():
    bent = ruled(tanh, lambda residuals, g: (right(residuals, jnp.clip(g, -1, 1))[0],))
    found = heard(bent, X, witness="jacobian", check=fg.check.custom_vjp)
    assert {fault.row for fault in found.faults} == {None}  # each row alone is right


def test_a_pullback_without_a_derivative_says_so():
    def by_numpy(residuals, g):
        shape = jax.ShapeDtypeStruct(g.shape, g.dtype)
        slope = jax.pure_callback(lambda x: 1 - np.tanh(x) ** 2, shape, residuals[0])
        return (g * slope,)

    found = fg.check.custom_vjp(ruled(tanh, by_numpy), witnesses=["second order", "vmap"])(X)
    assert found, str(found)
    assert "has none of its own" in found.silent["second order"][0]
    assert "has no batches" in found.silent["vmap"][0]


def test_what_jax_cannot_push_forward_is_not_called_wrong():
    """A custom_jvp rule that asks for forward mode of a custom_vjp function: JAX's own is late."""
    written = ruled(tanh, lambda residuals, g: (g * (1 - jnp.tanh(residuals[0]) ** 2),))
    pushing = jax.custom_jvp(written)
    pushing.defjvp(lambda primals, tangents: jax.jvp(written, primals, tangents))
    found = fg.check.function(pushing, reference=pushing, witnesses=["jacobian"])(X)
    assert found, str(found)
    assert "no forward mode" in found.silent["jacobian"][0]


def test_a_gradient_that_is_weakly_typed_is_noted():
    weak = ruled(lambda x: jnp.sum(x), lambda residuals, g: (jnp.full(residuals[0].shape, 1.0),))
    (note,) = fg.check.custom_vjp(weak, witnesses=["values"])(X).findings
    assert (note.kind, note.argument) == ("note", "x")
    assert "weakly typed" in str(note)
