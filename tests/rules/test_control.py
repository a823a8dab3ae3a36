"""Loops and branches: every shape of scan and cond, differentiated in every way."""

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

# --- scan -------------------------------------------------------------------------------------


def cell(w):
    return lambda c, x: (jnp.tanh(w * c + x), c * x)


def scan_over(xs):
    return lambda w, c, x: lax.scan(cell(w), c, xs(x))


def with_integers_and_keys(w, c):
    def step(carry, i):
        key, count, c = carry
        key, now = jax.random.split(key)
        c = c * w + jax.random.normal(now, dtype=float) * count.astype(float)
        return (key, count + i, c), (c > 0, count)

    return lax.scan(step, (jax.random.key(0), 1, c), jnp.arange(3))[0][1:]


def active_from_the_third_step_on(w, x):
    def shift(c, x):
        return ((c[1], c[2], c[2] + w * x), c[0])

    return lax.scan(shift, (jnp.zeros(()),) * 3, x)


def of_cond_of_scan(w, x):
    def step(c, t):
        def inner(c):
            return lax.scan(lambda d, z: (jnp.sin(d * w + z), d * t), c, x)

        return lax.cond(t > 0, inner, lambda c: (c * t, jnp.cos(x) * w), c)

    return lax.scan(step, jnp.ones(()), x)


def of_trees(p, x):
    def step(c, t):
        c = {"a": c["a"] * t[0] + p["w"], "b": (c["b"][0] + 1,)}
        return c, (c["a"], None, t[1])

    return lax.scan(step, {"a": p["w"], "b": (0,)}, (x, jnp.arange(3)), unroll=2)


def of_jit_of_checkpoint(w, x):
    inner = jax.jit(jax.checkpoint(lambda c: jnp.sin(w * jnp.cos(c))))
    return lax.scan(lambda c, x: (inner(c) * x, c), jnp.ones(()), x)


def of_gradient_descent(w, x):
    def step(c, x):
        return c - 0.1 * fg.grad(lambda c: jnp.sin(c * x) * w)(c), c

    return lax.scan(step, w, x)


SCANS = {
    "forward": (scan_over(lambda x: x), s, s, x),
    "reverse": (lambda w, c, x: lax.scan(cell(w), c, x, reverse=True), s, s, x),
    "of length 0": (scan_over(lambda x: x[:0]), s, s, x),
    "of length 1": (scan_over(lambda x: x[:1]), s, s, x),
    "without xs": (lambda w, c: lax.scan(lambda c, _: (w * c, None), c, None, length=3), s, s),
    "unrolled": (lambda w, c, x: lax.scan(cell(w), c, x, unroll=True), s, s, x),
    "ys unused": (lambda w, c, x: lax.scan(cell(w), c, x)[0], s, s, x),
    "carry unused": (lambda w, c, x: lax.scan(cell(w), c, x)[1], s, s, x),
    "some xs unused": (
        lambda x, y: lax.scan(lambda c, t: (c * t[0], c), y[0], (x, y, jnp.arange(3))),
        *(x, y),
    ),
    "ys that do not vary": (
        lambda w, x: lax.scan(lambda c, t: (c, (jnp.ones(()), w, t)), w, x),
        *(s, x),
    ),
    "carries that swap": (
        lambda x, y: lax.scan(lambda c, t: ((c[1], c[0] * t), c[0]), (x, y), x),
        *(x, y),
    ),
    "carry reset at every step": (
        lambda w, c, x: lax.scan(lambda c, x: (x * w, c + x), c, x),
        *(s, s, x),
    ),
    "carry stopped at every step": (
        lambda w, x: lax.scan(lambda c, t: (lax.stop_gradient(c) * t * w, c), w, x),
        *(s, x),
    ),
    "carry active in the loop only": (
        lambda w, x: lax.scan(lambda c, x: (c + w * x, c), jnp.zeros(()), x),
        *(s, x),
    ),
    "carry active late": (active_from_the_third_step_on, s, x),
    "carries of integers and keys": (with_integers_and_keys, s, s),
    "of trees": (of_trees, {"w": s, "unused": y}, x),
    "of work on constants": (
        lambda W, x: lax.scan(lambda c, _: (jnp.tanh(jnp.sin(W) @ c), c), x, None, length=3),
        *(jnp.outer(x, y), x),
    ),
    "of scan": (
        lambda w, x: lax.scan(
            lambda c, t: lax.scan(lambda d, z: (jnp.sin(d * w + z * t), d), c, x), s, x
        ),
        *(s, x),
    ),
    "of scan of length 0": (
        lambda w, x: lax.scan(lambda c, t: (scan_over(lambda x: x[:0])(w, c, x)[0] * t, c), w, x),
        *(s, x),
    ),
    "of cond of scan": (of_cond_of_scan, s, x),
    "of jit of checkpoint": (of_jit_of_checkpoint, s, x),
    "of gradient descent": (of_gradient_descent, s, x),
    "fori_loop": (
        lambda x: lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) * x + i.astype(float), x),
        x,
    ),
    "map": (lambda x, y: lax.map(lambda t: jnp.sin(t * y), x), x, y),
    "map in batches": (lambda x, y: lax.map(lambda t: t * y, x, batch_size=2), x, y),
    "associative_scan": (lambda x: lax.associative_scan(jnp.multiply, x), x),
}


@pytest.mark.parametrize("name", SCANS)
def test_scan(name):
    # Differences know nothing of stop_gradient.
    assert_ways_agree(*SCANS[name], without=["differences"] if "stopped" in name else [])


def test_a_scan_of_no_steps_passes_the_carrys_gradient_on():
    _, pullback = fg.vjp(scan_over(lambda x: x[:0]), 2.0, s, x)
    w_g, c_g, x_g = pullback((jnp.array(7.0), jnp.zeros(0)))
    assert (float(w_g), float(c_g), x_g.tolist()) == (0, 7, [0, 0, 0])


def test_a_scan_of_no_steps_passes_on_a_carry_that_its_body_would_drop():
    def function(c):
        return lax.scan(lambda c, _: (jnp.ones(()), jnp.floor(c)), c, None, length=0)[0]

    assert fg.grad(function)(2.0) == 1


def test_no_gradient_crosses_a_step_that_forgets_the_carry():
    def steps(c):
        return lax.scan(lambda c, x: (x, None), c, x)[0]

    assert fg.grad(steps)(2.0) == 0


def test_a_scan_is_the_loop_that_it_abbreviates():
    def written_out(w, c, x):
        ys = []
        for i in range(3):
            c, y = cell(w)(c, x[i])
            ys.append(y)
        return c, jnp.stack(ys)

    g = (jnp.array(0.5), y)
    actual = fg.vjp(SCANS["forward"][0], s, s, x)[1](g)
    expected = fg.vjp(written_out, s, s, x)[1](g)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def scans_in(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation


def test_what_stays_the_same_in_a_loop_is_not_stacked():
    """sin W is made in each of the 3 steps; none of the 3 copies is kept."""
    function, W, c = SCANS["of work on constants"]
    jaxpr = jax.make_jaxpr(lambda W, c: fg.vjp(function, W, c)[1]((c, jnp.outer(y, c))))(W, c)
    ahead, behind = scans_in(jaxpr.jaxpr)
    assert {v.aval.shape for v in ahead.outvars} == {(3,), (3, 3)}
    assert (3, 3, 3) not in {v.aval.shape for v in behind.invars}


# --- cond and switch --------------------------------------------------------------------------

BRANCHES = [lambda x, y: x * y, lambda x, y: jnp.sin(x), lambda x, y: jnp.exp(y * x) + x]


def nested_conds(x, y):
    def inner(x):
        return lax.cond(y[0] > 0, lambda x: jnp.sin(x), lambda x: x * y, x)

    return lax.cond(x[0] > 0, inner, jnp.exp, x)


def of_mixed_outputs(x, y):
    def first(x, y):
        return (x, y * 2.0, jnp.arange(3))

    def second(x, y):
        return (y, jnp.sin(x) * y, jnp.arange(3) * 2)

    return lax.cond(x[0] > 0, first, second, x, y)


def saving_different_values(x, y):
    def saves_much(x):
        return jnp.sin(x) * jnp.cos(x * y) * jnp.sum(jnp.tanh(jnp.outer(x, y)))

    return lax.cond(y[0] > 0, saves_much, lambda x: x, x)


CONDS = {
    "closed-over values": (
        lambda x, y: lax.cond(x[0] > 0, lambda: jnp.sin(x * y), lambda: jnp.exp(x)),
        *(x, y),
    ),
    "a branch that uses no operand": (
        lambda x, y: lax.cond(x[0] < 0, lambda x, y: x * y, lambda x, y: jnp.ones(3), x, y),
        *(x, y),
    ),
    "branches that save different values": (saving_different_values, x, y),
    "outputs of several types": (of_mixed_outputs, x, y),
    "of cond": (nested_conds, x, y),
    "a constant predicate": (lambda x: lax.cond(True, jnp.sin, jnp.cos, x), x),
    "switch": (lambda x, y: lax.switch((x[0] * 4).astype(int), BRANCHES, x, y), x, y),
    "of scan": (
        lambda w, x: lax.cond(
            w > 0, lambda x: lax.scan(cell(w), w, x), lambda x: (w * w, jnp.cos(x)), x
        ),
        *(s, x),
    ),
    "under vmap": (
        lambda x, y: jax.vmap(lambda a, b: lax.cond(a > 0, jnp.sin, lambda t: t * b, a))(x, y),
        *(x, y),
    ),
    "switch under vmap": (
        lambda x, y: jax.vmap(lambda a, b, i: lax.switch(i, BRANCHES, a, b))(
            x, y, jnp.array([0, 2, 1])
        ),
        *(x, y),
    ),
    "cond in scan under vmap": (
        lambda x: jax.vmap(
            lambda a: lax.scan(lambda c, t: (lax.cond(t > 0, jnp.sin, lambda c: c * t, c), c), a, x)
        )(x),
        x,
    ),
    "platform_dependent": (lambda x: lax.platform_dependent(x, default=jnp.sin), x),
}


@pytest.mark.parametrize("name", CONDS)
def test_cond(name):
    assert_ways_agree(*CONDS[name])


@pytest.mark.parametrize(("index", "branch"), [(-3, 0), (0, 0), (1, 1), (2, 2), (9, 2)])
def test_an_index_out_of_range_is_clamped(index, branch):
    def switch(x, i):
        return jnp.sum(lax.switch(i, BRANCHES, x, y))

    expected = jax.grad(lambda x: jnp.sum(BRANCHES[branch](x, y)))(x)
    np.testing.assert_allclose(jax.jit(fg.grad(switch))(x, index), expected, rtol=1e-13)


def test_a_branch_that_was_not_taken_harms_nothing():
    """1/0 in the other branch is not computed, so that its NaN cannot come through."""

    def safe(x):
        return lax.cond(x > 0, lambda x: 1 / x, lambda x: 2 * x, x)

    assert fg.grad(safe)(0.0) == 2


def test_what_a_loop_keeps_beyond_20_megabytes_is_doubly_dear():
    """tanh(c W): to repeat the product takes 2 · 192 operations an entry, to keep it 320 or 640."""

    def loss(W, c):
        return jnp.sum(lax.scan(lambda c, _: (jnp.tanh(c @ W) * c, None), c, None, length=10)[0])

    def products(batch):
        types = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((192, 192), (batch, 192))]
        nodes = fg.trace(fg.grad(loss))(*types).nodes
        return sum(node.primitive == "dot_general" for node in nodes)

    assert products(1_000) == 3  # 2 · 7.7 MB are kept
    assert products(2_000) == 4  # 2 · 15.4 MB would be
