"""Functions whose author wrote the derivative, with jax.custom_jvp or jax.custom_vjp."""

from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.ways import assert_ways_agree

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, -0.5])
s = jnp.array(0.6)

# JAX itself has no forward mode for custom_vjp.
NO_JVP = ["jvp of it"]


# --- custom_jvp -------------------------------------------------------------------------------


def custom_jvp(jvp, **options):
    """sin x · y with a derivative of its own."""
    f = jax.custom_jvp(lambda x, y: jnp.sin(x) * y)
    f.defjvp(partial(jvp, f), **options)
    return f


def tripled(f, primals, tangents):
    (x, y), (tx, ty) = primals, tangents
    return f(x, y), 3 * tx * jnp.cos(x) * y + jnp.sin(x) * ty


def with_symbolic_zeros(f, primals, tangents):
    (x, y), out = primals, jnp.zeros(3)
    tx, ty = tangents
    if not isinstance(tx, jax.custom_derivatives.SymbolicZero):
        out += 3 * tx * jnp.cos(x) * y
    if not isinstance(ty, jax.custom_derivatives.SymbolicZero):
        out += jnp.sin(x) * ty
    return f(x, y), out


def through(transform):
    """A tangent that goes through a call or a loop."""

    def jvp(f, primals, tangents):
        return f(*primals), transform(primals, tangents)

    return custom_jvp(jvp)


@jax.custom_jvp
def of_trees(d):
    return {"a": jnp.sin(d["x"]) * d["i"].astype(float), "i": d["i"] + 1}


@of_trees.defjvp
def _(primals, tangents):
    (d,), (t,) = primals, tangents
    slope = jnp.cos(d["x"]) * d["i"].astype(float)
    return of_trees(d), {"a": slope * t["x"], "i": np.zeros(3, jax.dtypes.float0)}


nondiff = jax.custom_jvp(lambda f, x: f(x), nondiff_argnums=(0,))
nondiff.defjvp(lambda f, p, t: (f(p[0]), 3 * jax.jvp(f, p, t)[1]))

by_parts = jax.custom_jvp(lambda x, y: jnp.sin(x) * y)
by_parts.defjvps(lambda t, out, x, y: jax.jit(lambda t: t * jnp.cos(x) * y)(t), None)


def true(f, primals, tangents):
    (x, y), (tx, ty) = primals, tangents
    return f(x, y), tx * jnp.cos(x) * y + jnp.sin(x) * ty


plain, honest = custom_jvp(tripled), custom_jvp(true)


def cumulative(w):
    return lambda c, t: (c + t * w, c * t)


CUSTOM_JVPS = {
    "plain": (plain, x, y),
    "constant inputs": (lambda x, y: plain(x, jnp.ones(3)) + plain(jnp.ones(3), y), x, y),
    "symbolic zeros": (
        lambda x, y: custom_jvp(with_symbolic_zeros, symbolic_zeros=True)(jnp.ones(3), y) * x,
        *(x, y),
    ),
    "trees and integers": (of_trees, {"x": x, "i": jnp.arange(3)}),
    "nondiff_argnums": (lambda x, y: nondiff(jnp.sin, x) * y, x, y),
    "one rule per argument": (by_parts, x, y),
    "tangent through jit": (through(lambda p, t: jax.jit(jnp.multiply)(t[0], p[1])), x, y),
    "tangent through checkpoint": (
        through(lambda p, t: jax.checkpoint(lambda t, x: jnp.sin(x) * t)(t[0], p[0])),
        *(x, y),
    ),
    "tangent through scan": (
        through(lambda p, t: lax.scan(lambda c, u: (c + u * p[1][0], c), t[1][0], t[0])[1]),
        *(x, y),
    ),
    "tangent through fori_loop": (
        through(lambda p, t: lax.fori_loop(0, 3, lambda i, c: c * p[0] + t[1], t[0])),
        *(x, y),
    ),
    "tangent through cond": (
        through(lambda p, t: lax.cond(p[0][0] > 0, lambda t: t * p[1], lambda t: t[::-1], t[0])),
        *(x, y),
    ),
    "tangent of a scan": (
        through(lambda p, t: jax.jvp(lambda a, b: lax.scan(cumulative(b[0]), a[0], a)[1], p, t)[1]),
        *(x, y),
    ),
    "in scan": (
        lambda w, x: lax.scan(lambda c, x: (honest(c, w * x), c), jnp.ones(()), x),
        *(s, x),
    ),
    "in cond": (lambda w, x: lax.cond(w > 0, honest, lambda a, b: a * b, x, x * w), s, x),
    "of JAX": (lambda x: jax.nn.relu(x) + jax.nn.silu(x) * jax.nn.softplus(x), x),
    "of JAX, reducing": (lambda x: jax.nn.logsumexp(x * x) * jax.nn.softmax(x), x),
}


@pytest.mark.parametrize("name", CUSTOM_JVPS)
def test_custom_jvp(name):
    # The authors' derivatives are wrong on purpose, so differences see another slope.
    without = [] if "of JAX" in name else ["differences"]
    # JAX transposes no vmapped cond that is linear in its operands.
    assert_ways_agree(*CUSTOM_JVPS[name], without=[*without, *["of vmap"] * ("cond" in name)])


def test_the_authors_derivative_is_used():
    np.testing.assert_allclose(
        fg.grad(lambda x: jnp.sum(plain(x, y)))(x), 3 * jnp.cos(x) * y, rtol=1e-14
    )


def test_the_authors_derivative_is_used_at_second_order_in_a_loop_too():
    """JAX itself forgets it there: its scan and its loop disagree."""

    def scanned(c, x):
        return lax.scan(lambda c, x: (plain(c, x), None), c, x)[0]

    def written_out(c, x):
        return plain(plain(plain(c, x[0]), x[1]), x[2])

    actual, expected = (fg.hessian(f, (0, 1))(s, x) for f in (scanned, written_out))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), actual, expected)


# --- custom_vjp -------------------------------------------------------------------------------


def custom_vjp(fwd, bwd, fun=lambda x, y: jnp.sin(x) * y, **options):
    f = jax.custom_vjp(fun)
    f.defvjp(fwd, bwd, **options)
    return f


def residuals_that_are_inputs(x, y):
    return jnp.sin(x) * y, (x, y)


def tripled_back(residuals, g):
    x, y = residuals
    return 3 * g * jnp.cos(x) * y, g * jnp.sin(x)


own = custom_vjp(residuals_that_are_inputs, tripled_back)
own_symbolic = custom_vjp(
    lambda x, y: (jnp.sin(x.value) * y.value, (x.value, y.value, y.perturbed)),
    lambda r, g: (3 * g * jnp.cos(r[0]) * r[1], g * jnp.sin(r[0]) if r[2] else None),
    symbolic_zeros=True,
)
own_tree = custom_vjp(
    lambda d, i: ({"o": d["a"] * d["b"], "i": i}, (d, i)),
    lambda r, g: ({"a": 3 * g["o"] * r[0]["b"], "b": None}, None),
    lambda d, i: {"o": d["a"] * d["b"], "i": i},
)
own_nondiff = jax.custom_vjp(lambda f, x, n: f(x) ** n, nondiff_argnums=(0, 2))
own_nondiff.defvjp(
    lambda f, x, n: (f(x) ** n, x),
    lambda f, n, x, g: (3 * jax.vjp(lambda x: f(x) ** n, x)[1](g)[0],),
)

CUSTOM_VJPS = {
    "residuals that are inputs": (own, x, y),
    "constant inputs": (lambda x, y: own(x, jnp.ones(3)) + own(jnp.ones(3), y), x, y),
    "closed-over constants": (custom_vjp(lambda x, y: (x * s, y), lambda y, g: (g * y, g)), x, y),
    "symbolic zeros": (lambda x, y: own_symbolic(x, jnp.ones(3)) * y, x, y),
    "trees, integers, None": (own_tree, {"a": x, "b": y}, jnp.arange(3)),
    "nondiff_argnums": (lambda x, y: own_nondiff(jnp.sin, x, 3) * y, x, y),
    "in scan": (
        lambda w, x: lax.scan(lambda c, x: (own(c, w * x), c), jnp.ones(()), x),
        *(s, x),
    ),
    "in cond": (lambda w, x: lax.cond(w > 0, own, lambda a, b: a * b, x, x * w), s, x),
    "in checkpoint": (jax.checkpoint(lambda x, y: own(jnp.sin(x), jnp.sin(y))), x, y),
    "custom_gradient": (
        jax.custom_gradient(lambda x: (jnp.sin(x), lambda g: (3 * g * jnp.cos(x),))),
        x,
    ),
}


@pytest.mark.parametrize("name", CUSTOM_VJPS)
def test_custom_vjp(name):
    assert_ways_agree(*CUSTOM_VJPS[name], without=[*NO_JVP, "differences"])


def test_a_closed_over_value_is_refused_as_by_jax():
    def closing_over(x):
        w = jnp.exp(x)
        return own_with(w)(x)

    def own_with(w):
        f = jax.custom_vjp(lambda x: x * w)
        f.defvjp(lambda x: (x * w, None), lambda r, g: (g * w,))
        return f

    with pytest.raises(Exception, match="with respect to a closed-over value") as ours:
        fg.grad(closing_over)(1.0)
    with pytest.raises(Exception, match="with respect to a closed-over value") as jaxs:
        jax.grad(jax.jit(closing_over))(1.0)
    assert ours.type is jaxs.type


# --- A custom_vjp function within a custom_jvp rule -------------------------------------------


def pushed(f):
    """f, whose derivative is JAX's forward mode of f."""
    function = jax.custom_jvp(f)
    function.defjvp(lambda primals, tangents: jax.jvp(f, primals, tangents))
    return function


own_pair = custom_vjp(
    lambda x, y: ((jnp.sin(x) * y, jnp.arange(3), 2 * x), (x, y)),
    lambda r, g: (3 * g[0] * jnp.cos(r[0]) * r[1] + 5 * g[2], g[0] * jnp.sin(r[0])),
    lambda x, y: (jnp.sin(x) * y, jnp.arange(3), 2 * x),
)
own_at_zero = custom_vjp(
    lambda x, y: ((x.value * y.value, 2 * x.value), (x.value, y.value)),
    lambda r, g: (
        r[0] if isinstance(g[1], jax.custom_derivatives.SymbolicZero) else 7 * g[0] * r[1],
        None,
    ),
    lambda x, y: (x * y, 2 * x),
    symbolic_zeros=True,
)


def scanned(x, y):
    def step(c, t):
        c, _, _ = own_pair(c, t)
        _, i, unused = own_pair(t, c)
        return c * i.astype(float), unused

    return lax.scan(step, x, jnp.stack([y, 0.5 * y]))[0]


PUSHED = {
    "alone": (pushed(own), x, y),
    "constant inputs": (
        lambda x, y: pushed(own)(x, jnp.ones(3)) + pushed(own)(jnp.ones(3), y),
        *(x, y),
    ),
    "several outputs": (lambda x, y: pushed(own_pair)(x, y)[::2], x, y),
    "symbolic zeros": (lambda x, y: pushed(own_at_zero)(x, y)[0], x, y),
    "through jit and vmap": (pushed(lambda x, y: jax.vmap(jax.jit(own))(x, y)), x, y),
    "through checkpoint": (pushed(jax.checkpoint(own)), x, y),
    "through scan": (pushed(scanned), x, y),
    "through fori_loop": (
        pushed(lambda x, y: lax.fori_loop(0, 2, lambda _, c: own(c, y), x)),
        x,
        y,
    ),
    "through cond": (pushed(lambda x, y: lax.cond(x[0] > 0, own, jnp.multiply, x, y)), x, y),
    "nested": (pushed(pushed(own)), x, y),
    "in scan": (lambda w, x: lax.scan(lambda c, x: (pushed(own)(c, w * x), c), s, x), s, x),
}


@pytest.mark.parametrize("name", PUSHED)
def test_custom_vjp_within_a_custom_jvp_rule(name):
    # JAX has no vmap of what a custom_vjp function is in forward mode.
    assert_ways_agree(*PUSHED[name], without=[*NO_JVP, "differences", "of vmap"])


def test_forward_mode_of_a_custom_vjp_function_has_no_derivative():
    for differentiate in (lambda f: fg.grad(f), lambda f: jax.grad(f)):
        with pytest.raises(NotImplementedError, match="rule for 'custom_lin' not implemented"):
            differentiate(lambda t: jnp.sum(jax.linearize(own, x, y)[1](t, y)))(x)
