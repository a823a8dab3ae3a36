"""Calls: jit, jax.checkpoint, and functions whose author wrote the derivative."""

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
key = jax.random.key(0)
policies = jax.checkpoint_policies

# JAX itself has no forward mode for custom_vjp.
NO_JVP = ["jvp of it"]


def counts(fun, *args):
    """How often each primitive stands in the program, inner programs included."""
    found = {}
    for node in fg.trace(fun)(*args):
        found[node.primitive] = found.get(node.primitive, 0) + 1
    return found


# --- jit --------------------------------------------------------------------------------------


def called_twice(x):
    f = jax.jit(lambda a, b: jnp.sin(a) * b)
    return f(f(x, x), f(x, jnp.ones(3))) + f(jnp.ones(3), x)


def closing_over_tracers(x, y):
    w = jnp.exp(x)
    return jax.jit(lambda a: a * w * jax.jit(lambda b: b + a * w)(y))(y)


JITS = {
    "of jit of jit": (
        lambda x: jax.jit(lambda a: jax.jit(lambda b: jax.jit(jnp.sin)(b) * b)(a) * a)(x),
        x,
    ),
    "called several times": (called_twice, x),
    "closing over tracers": (closing_over_tracers, x, y),
    "with constants and inputs among its outputs": (
        lambda x, y: jax.jit(lambda a, b: (a, b, a, jnp.ones(3), a * b))(x, y),
        *(x, y),
    ),
    "without outputs": (lambda x, y: (jax.jit(lambda a: ())(x), y), x, y),
    "with static arguments": (lambda x: jax.jit(lambda a, n: a**n, static_argnums=1)(x, 3), x),
    "donating its argument": (
        lambda x: jax.jit(lambda a, b: a * b, donate_argnums=0)(x * 2.0, x),
        x,
    ),
}


@pytest.mark.parametrize("name", JITS)
def test_jit(name):
    assert_ways_agree(*JITS[name])


def test_a_large_jitted_function_stays_one_in_the_gradient():
    """Both halves are jits of the same name, so that profiles and caches know them."""

    def large(x):
        for _ in range(20):
            x = jnp.sin(x) * x
        return x

    f = jax.jit(large)
    jits = fg.trace(fg.grad(lambda x: f(f(x))))(1.0).find(fg.at(primitive="jit"))
    assert [node.callee for node in jits] == ["large"] * 4


def test_a_small_one_is_cut_with_what_is_around_it():
    f = jax.jit(lambda x: jnp.sin(x) * x)
    assert "jit" not in counts(fg.grad(lambda x: f(f(x))), 1.0)


# --- jax.checkpoint ---------------------------------------------------------------------------


def deep(x):
    return jnp.sin(jnp.sin(jnp.sin(x)))


def dots(x):
    return jnp.sin(jnp.dot(jnp.sin(x), x) * jnp.cos(x))


def named(x):
    return jnp.sin(fg.name(jnp.sin(x), "h") * jnp.cos(x))


CHECKPOINTS = {
    "plain": (jax.checkpoint(deep), x),
    "dots_saveable": (jax.checkpoint(dots, policy=policies.dots_saveable), x),
    "save_only_these_names": (
        jax.checkpoint(named, policy=policies.save_only_these_names("h")),
        x,
    ),
    "everything_saveable": (jax.checkpoint(deep, policy=policies.everything_saveable), x),
    "without a barrier": (jax.checkpoint(deep, prevent_cse=False), x),
    "with static arguments": (
        lambda x: jax.checkpoint(lambda n, a: deep(a) * n, static_argnums=0)(2.0, x),
        x,
    ),
    "with a key": (
        jax.checkpoint(lambda k, x: jnp.sin(x * jax.random.normal(k, (3,), float))),
        *(key, x),
    ),
    "with integer outputs": (
        jax.checkpoint(lambda x, i: (jnp.sin(x[i]), i + 1, x > 0)),
        *(x, jnp.array([2, 0, 2])),
    ),
    "of checkpoint": (lambda x: jax.checkpoint(lambda a: jax.checkpoint(deep)(a * a) * a)(x), x),
    "in scan": (
        lambda w, x: lax.scan(
            jax.checkpoint(lambda c, x: (jnp.sin(w * jnp.cos(c * x)), c)), jnp.ones(()), x
        ),
        *(s, x),
    ),
    "in scan, names saved": (
        lambda w, x: lax.scan(
            jax.checkpoint(
                lambda c, t: (jnp.sin(fg.name(jnp.sin(c * w), "h") * t), c),
                policy=policies.save_only_these_names("h"),
            ),
            *(w, x),
        ),
        *(s, x),
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint(name):
    assert_ways_agree(*CHECKPOINTS[name])


@pytest.mark.parametrize(
    ("function", "sines", "products"),
    [
        # Forward 3 sines; the backward pass needs the two inner ones again, as inputs of cosines.
        (jax.checkpoint(deep), 5, 0),
        (jax.checkpoint(deep, policy=policies.everything_saveable), 3, 0),
        (jax.checkpoint(deep, policy=policies.nothing_saveable), 5, 0),
        # The product is saved and not computed again; sin x, a factor of its gradient, is.
        (jax.checkpoint(dots, policy=policies.dots_saveable), 4, 3),
        (jax.checkpoint(dots), 4, 4),
        (jax.checkpoint(named), 4, 0),
        (jax.checkpoint(named, policy=policies.save_only_these_names("h")), 3, 0),
        (jax.checkpoint(named, policy=policies.save_only_these_names("other")), 4, 0),
    ],
)
def test_a_policy_decides_what_is_computed_again(function, sines, products):
    found = counts(fg.grad(lambda x: jnp.sum(function(x))), x)
    assert (found["sin"], found.get("dot_general", 0)) == (sines, products)


def test_a_checkpoint_in_a_loop_computes_again_in_the_backward_loop():
    def loop(step):
        return lambda x: lax.scan(lambda c, _: (step(c), None), x, None, length=3)[0]

    # Each loop's body stands once in the program.
    assert counts(fg.grad(loop(deep), save="everything"), 1.0)["sin"] == 3
    assert counts(fg.grad(loop(jax.checkpoint(deep)), save="everything"), 1.0)["sin"] == 5


def test_xla_does_not_undo_a_checkpoint():
    """The compiled program computes the sines of both passes: the barrier holds."""
    program = (
        jax.jit(fg.value_and_grad(lambda x: jnp.sum(jax.checkpoint(deep)(x)))).lower(x).compile()
    )
    assert program.as_text().count(" sine(") == 5


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
