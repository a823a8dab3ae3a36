"""Calls with a mark: composite, custom_vmap, XLA's metadata, linear_call, and nested ones."""

from importlib import import_module
from importlib.util import find_spec

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.api_util import debug_info
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import linear_call
from jax.experimental import xla_metadata
from jax.extend.core import primitives
from jax.extend.linear_util import wrap_init

import fungrad as fg
from fungrad import _jax
from tests.rules.grids import STRICT, assert_agree, gradient, ours

x = jnp.array([0.3, -0.7, 1.1])


def body(x, y):
    return jnp.sin(x) * y, x + 2 * y


def assert_as_plain(function, times=1):
    """The gradients of a marked `body` are those of the plain one."""
    got = gradient(ours, function, times)(x, 2 * x)
    want = gradient(jax.vjp, body, times)(x, 2 * x)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("times", [1, 2])
def test_composite(times):
    """JAX has no derivative of one, but wants its author to write it."""
    assert_as_plain(lax.composite(body, "a.name"), times)
    assert_as_plain(jax.jit(lax.composite(body, "a.name")), times)


def marked_for_vmap():
    marked = custom_vmap(body)

    @marked.def_vmap
    def rule(size, batched, x, y):
        return (jnp.cos(x) * y, x), (True, True)

    return marked


@pytest.mark.parametrize("times", [1, 2])
def test_custom_vmap(times):
    """JAX has no reverse mode of one."""
    assert_as_plain(marked_for_vmap(), times)
    assert_agree([(lambda x: jax.vmap(marked_for_vmap())(x, x), x)], times)


def test_program_order():
    if find_spec("jax.experimental.overlap"):  # JAX 0.10 has none
        overlap = import_module("jax.experimental.overlap")
        assert_as_plain(overlap.program_order(body, enforce=False))


def test_core_call():
    if primitives.call_p.name == "call":
        info = debug_info("body", body, (x, x), {})
        how = {"subfuns": (wrap_init(body, debug_info=info),)}
    else:  # from JAX 0.11 on
        how = {"call_jaxpr": jax.make_jaxpr(body)(x, x)}
    assert_as_plain(lambda x, y: primitives.call_p.bind(x, y, **how))


def looped(function):
    """Three times in a loop."""
    return lambda x: lax.scan(lambda c, _: (function(c, x)[0], None), x, None, length=3)[0]


def test_in_loops():
    (want,) = gradient(jax.vjp, looped(body))(x)
    for marked in (lax.composite(body, "a.name"), marked_for_vmap()):
        (got,) = gradient(ours, looped(marked))(x)
        np.testing.assert_allclose(got, want, rtol=1e-12)


# --- metadata ------------------------------------------------------------------------------------


def metadata_in_gradient(function):
    """The metadata of the calls in the program of the function's gradient."""
    program = jax.make_jaxpr(fg.grad(lambda x: jnp.sum(function(x)), rules=STRICT))(x)
    calls = [e for e in program.eqns if e.primitive.name == "xla_metadata_call"]
    return [dict(equation.params["xla_metadata"]) for equation in calls]


def test_each_half_bears_its_metadata():
    mark = getattr(xla_metadata, "xla_metadata_call2", None)
    for of_gradient, shown in (("same", {"a": "b"}), ("drop", {}), ({"c": "d"}, {"c": "d"})):
        if mark is not None:  # from JAX 0.11 on
            function = mark(jnp.sin, {"a": "b"}, ad_metadata=of_gradient)
            assert metadata_in_gradient(function) == [{"a": "b"}, shown]


# --- linear_call ---------------------------------------------------------------------------------


def tripled(residual, x):
    """x ↦ x/r, whose transpose its author claims to be g ↦ 3g/r."""
    return linear_call(lambda r, x: x / r, lambda r, g: 3 * g / r, residual, x)


def test_the_transpose_is_its_authors():
    def f(x):
        return tripled(jnp.full(3, 2.0), x) * x

    assert_agree([(f, x)])
    assert_agree([(f, x)], times=2)
    got = fg.grad(lambda x: tripled(2.0, x), rules=STRICT)(1.0)
    assert float(got) == 1.5


def test_a_linear_call_of_trees():
    """JAX fails where one of several gradients is missing: the plain function is the witness."""

    def forth(r, x):
        return {"a": x[0] * r, "b": x[1] + x[0]}

    def back(r, g):
        return g["a"] * r + g["b"], g["b"]

    def called(x, y):
        return tuple(linear_call(forth, back, jnp.full(3, 2.0), (x, y)).values())

    def plain(x, y):
        return tuple(forth(2.0, (x, y)).values())

    for times, pick in ((1, lambda f: f), (2, lambda f: lambda x, y: f(x, y)[0]), (2, looped)):
        args = (x,) if pick is looped else (x, x)
        got = gradient(ours, pick(called), times)(*args)
        for a, b in zip(got, gradient(jax.vjp, pick(plain), times)(*args), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_residual_has_no_derivative():
    with pytest.raises(ValueError, match=r"linear_call.* has no derivative by r"):
        fg.grad(lambda r: tripled(r, 1.0))(2.0)


# --- What waits for a gradient -------------------------------------------------------------------


@pytest.mark.parametrize("primitive", [_jax.arrival_p, _jax.awaiting_p])
def test_to_jax_they_are_linear_and_identities(primitive):
    def same(x):
        return primitive.bind(x, place=0)

    for found in (
        same(x),
        jax.jit(same)(x),
        jax.vmap(same)(x),
        jax.jvp(same, (x,), (x,))[1],
        jax.linear_transpose(same, x)(x)[0],
        jax.vjp(same, x)[1](x)[0],
        fg.vjp(same, x)[1](x)[0],
    ):
        np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(jax.hessian(lambda x: jnp.sum(same(x) ** 2))(x), 2 * np.eye(3))


def test_a_checkpoint_repeats_a_marked_call_once():
    """A policy's cut is made once, around the mark."""

    def twice(x):
        return jnp.exp(lax.composite(jnp.exp, "a.name")(x))

    _, pullback = fg.vjp(jax.checkpoint(twice), x)
    assert str(jax.make_jaxpr(pullback)(x)).count("= exp ") == 2
