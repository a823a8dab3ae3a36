"""While loops: every shape of them, at every number of steps, against loops of known length."""

import inspect
from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.experimental import io_callback
from jax.sharding import PartitionSpec as P

import fungrad as fg
from fungrad.rules import checkpoints
from fungrad.rules.checkpoints import Capacity
from tests.ways import QUICK, assert_ways_agree

compiled = partial(jax.jit, compiler_options=QUICK)

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, 0.5])
s = jnp.array(0.6)
ROTATION = jnp.array([[0.0, -1.0, 0.5], [1.0, 0.0, -0.3], [-0.5, 0.3, 0.0]])


def bounded(going, body, c, most=12):
    """What `lax.while_loop` does in up to `most` steps, as a scan, which JAX differentiates."""

    def step(c, _):
        return lax.cond(going(c), body, lambda c: c, c), None

    return lax.scan(step, c, None, length=most)[0]


def same(actual, expected, rtol=1e-12):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=1e-3))


# --- Programs of `loop`: lax.while_loop, and the same with a bound --------------------------------


def newton(loop):
    return lambda x: loop(lambda c: jnp.abs(c * c - x) > 1e-3, lambda c: c / 2 + x / (2 * c), x)


def of_trees(loop):
    def body(c):
        return {"i": c["i"] + 1, "a": c["a"] * c["b"][0] + y, "b": (jnp.sin(c["a"][0]),)}

    return lambda a, b: loop(lambda c: c["i"] < 4, body, {"i": 0, "a": a, "b": (b,)})


def with_constants(loop):
    """v is read by the condition alone."""

    def program(w, v, c):
        return loop(lambda c: jnp.sum(c) < v, lambda c: c + jnp.exp(w * c) + 0.2, c)

    return program


def that_swaps_and_forgets(loop):
    def body(c):
        i, a, b, e = c
        return i + 1, b, a * jnp.cos(b), jnp.where(i > 1, a, lax.stop_gradient(e))

    return lambda a, b: loop(lambda c: c[0] < 5, body, (0, a, b, a + b))


def of_while(loop):
    def body(c):
        i, c = c
        inner = loop(lambda d: d[0] < i, lambda d: (d[0] + 1, jnp.sin(d[1] * s + c)), (0, c))
        return i + 1, inner[1] * c

    return lambda x: loop(lambda c: c[0] < 3, body, (0, x))[1]


def of_scan_and_cond(loop):
    def body(c):
        i, c = c
        c = lax.scan(lambda d, t: (jnp.sin(d * t), None), c, x)[0]
        return i + 1, lax.cond(i % 2 == 0, jnp.cos, lambda c: c * y, c)

    return lambda x: loop(lambda c: c[0] < 3, body, (0, x))[1]


def in_scan_in_cond(loop):
    def step(c, t):
        return lax.cond(t > 0, newton(loop), jnp.sin, c + 2), c

    return lambda c: lax.scan(step, c, x)


def with_keys(loop):
    def body(c):
        i, key, c = c
        key, now = jax.random.split(key)
        return i + 1, key, jnp.sin(c) * jax.random.uniform(now, dtype=float)

    return lambda c: loop(lambda c: c[0] < 4, body, (0, jax.random.key(0), c))[2]


def of_custom_jvp(loop):
    """The tangent loop is linear in the tangent, and is differentiated with it unknown."""

    @jax.custom_jvp
    def f(x):
        return loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]

    @f.defjvp
    def _(x, t):
        def body(c):
            i, c, t = c
            return i + 1, jnp.sin(c), jnp.cos(c) * t

        return loop(lambda c: c[0] < 3, body, (0, *x, *t))[1:]

    return f


# What is dear to compile is not taken for all.
FIRST_ORDER = ["twice", "jvp of it", "of vmap", "of jit of checkpoint"]

PROGRAMS = {
    "newton": (newton, 3.0, ["under vmap", "of vmap"]),
    "of trees": (of_trees, *(x, s), FIRST_ORDER),
    "with constants": (with_constants, *(x, 7.0, y), FIRST_ORDER),
    "that swaps and forgets": (that_swaps_and_forgets, *(x, y), [*FIRST_ORDER, "differences"]),
    "of while": (of_while, s, FIRST_ORDER),
    "of scan and cond": (of_scan_and_cond, x, FIRST_ORDER),
    "in scan in cond": (in_scan_in_cond, s, FIRST_ORDER),
    "with keys": (with_keys, s, FIRST_ORDER),
    "of custom_jvp": (of_custom_jvp, s, FIRST_ORDER),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_while(name):
    program, *args, without = PROGRAMS[name]
    assert_ways_agree(program(lax.while_loop), *args, without=without, same=program(bounded))


def test_eagerly():
    same(fg.grad(newton(lax.while_loop))(3.0), jax.grad(newton(bounded))(3.0))


# --- Numbers of steps -----------------------------------------------------------------------------


def turn(W, i, c):
    return c + 0.05 * jnp.sin(W @ c + 0.1 * i.astype(float))


def turned(W, c, n):
    return jnp.sum(lax.fori_loop(0, n, partial(turn, W), c) ** 2)


def turned_by_scan(W, c, n, most):
    def step(c, i):
        return jnp.where(i < n, turn(W, i, c), c), None

    return jnp.sum(lax.scan(step, c, jnp.arange(most))[0] ** 2)


@pytest.mark.parametrize(
    ("capacity", "counts"),
    [
        (Capacity(3, 1), range(40)),
        (Capacity(6, 1), [*range(20), 31, 32, 33, 64, 65, 128, 257]),
        (Capacity(5, 3), [*range(12), 26, 27, 28, 55, 108, 109]),
        (checkpoints.LEAST, [0, 1, 11, 12, 13, 24, 25, 100, 1000]),
        (checkpoints.AUTOMATIC, [0, 1, 2, 31, 32, 33, 999, 1000, 1023, 1024, 1025, 2049, 5000]),
    ],
    ids=lambda value: f"{value.slots}, {value.unit}" if isinstance(value, Capacity) else "",
)
def test_any_number_of_steps(capacity, counts, monkeypatch):
    monkeypatch.setattr(checkpoints, "AUTOMATIC", capacity)
    expected = compiled(jax.grad(turned_by_scan, (0, 1)), static_argnums=3)
    actual = compiled(lambda *args: fg.grad(turned, (0, 1))(*args))
    for n in counts:
        same(actual(ROTATION, x, n), expected(ROTATION, x, n, max(counts)))


def test_the_jacobian_of_a_linear_loop_is_a_power():
    def power(c, n):
        return lax.fori_loop(0, n, lambda _, c: ROTATION @ c, c)

    for n in (0, 1, 40):
        jacobian = compiled(fg.jacrev(power))(x, n)
        same(jacobian, np.linalg.matrix_power(ROTATION, n))


# --- Memory ---------------------------------------------------------------------------------------


def temporary_bytes(function, *args):
    planned = jax.jit(function).lower(*args).compile().memory_analysis()
    return planned.temp_size_in_bytes if planned else 0


def test_memory_is_capped():
    """49 states, 32 entries of the tape, and some to work on."""
    c = jnp.ones(200)

    def loop(c, n):
        return jnp.sum(lax.fori_loop(0, n, lambda _, c: jnp.sin(c) * c, c))

    gradient = fg.grad(loop)
    assert temporary_bytes(gradient, c, 10) < 200 * c.nbytes
    assert temporary_bytes(fg.grad(loop, save="nothing"), c, 10) < 40 * c.nbytes
    assert np.isfinite(jax.jit(gradient)(c, 100_000)).all()


def test_what_the_backward_pass_can_do_without_is_not_kept():
    def loop(c, big):
        def body(c):
            i, c, big = c
            return i + 1, jnp.sin(c), big * 2 + c[0]

        return sum(map(jnp.sum, lax.while_loop(lambda c: c[0] < 9, body, (0, c, big))[1:]))

    jaxpr = jax.make_jaxpr(fg.grad(loop, (0, 1)))(x, jnp.ones(77))
    shapes = str(jaxpr)
    assert "f64[49,3]" in shapes
    assert "f64[49,77]" not in shapes
    assert "f64[32,77]" not in shapes


# --- vmap -----------------------------------------------------------------------------------------


STARTS = jnp.array([1.0, 2.0, 50.0, 900.0])


@pytest.mark.parametrize(
    "batched",
    [
        lambda f: jax.vmap(fg.grad(f)),
        lambda f: fg.grad(lambda x: jnp.sum(jax.vmap(f)(x))),
        lambda f: lambda x: jax.vmap(jax.vmap(fg.grad(f)))(x.reshape(2, 2)).reshape(4),
        lambda f: lambda x: jax.vmap(lambda x: jax.jvp(fg.grad(f), (x,), (1.0,))[0])(x),
    ],
    ids=["vmap of grad", "grad of vmap", "twice", "jvp"],
)
def test_each_example_takes_its_own_number_of_steps(batched):
    actual = compiled(batched(newton(lax.while_loop)))(STARTS)
    same(actual, jax.vmap(jax.grad(newton(bounded)))(STARTS))


def test_examples_share_a_constant():
    counts, starts = jnp.array([0, 3, 40]), jnp.outer(y, x)

    def of_all(W, starts):
        return jnp.sum(jax.vmap(partial(turned, W))(starts, counts))

    def bounded(W, starts):
        return jnp.sum(jax.vmap(lambda c, n: turned_by_scan(W, c, n, 40))(starts, counts))

    expected = compiled(jax.grad(bounded))(ROTATION, starts)
    same(compiled(fg.grad(of_all))(ROTATION, starts), expected)
    each = compiled(jax.vmap(fg.grad(turned), (None, 0, 0)))(ROTATION, starts, counts)
    same(jnp.sum(each, 0), expected)


def test_no_example_is_harmed_by_steps_that_it_does_not_take():
    """Step i divides by n − i: of the examples that have ended, the next step would be 1/0."""

    def loop(w, n):
        return lax.fori_loop(0, n, lambda i, c: c + w / (n - i).astype(float), 0.0 * w)

    counts = jnp.array([3, 1, 2])
    total = compiled(fg.grad(lambda w: jnp.sum(jax.vmap(partial(loop, w))(counts))))(2.0)
    same(total, (1 + 1 / 2 + 1 / 3) + 1 + (1 + 1 / 2))


# --- shard_map ------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False])
def test_each_device_takes_its_own_number_of_steps(check):
    """The devices do not wait for each other in the loop, for w's gradient neither."""
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))

    def grow(loop, w, c):
        def inner(c):
            return loop(lambda c: jnp.sum(c) < 9, lambda c: c + 1.5 + jnp.sin(w * c), c) / 2

        return loop(
            lambda c: (c[0] < 2) & (jnp.sum(c[1]) < 5), lambda c: (c[0] + 1, inner(c[1])), c
        )

    def parted(w, c):
        def body(w, c):
            return grow(lax.while_loop, w, (0, c))[1]

        how = {"in_specs": (P(), P("i")), "out_specs": P("i"), "check_vma": check}
        return jnp.sum(jax.shard_map(body, mesh=mesh, **how)(w, c))

    def together(w, c):
        return sum(jnp.sum(grow(bounded, w, (0, part))[1]) for part in jnp.split(c, 2))

    c = jnp.array([0.1, 0.2, 2.0, 2.5])
    same(compiled(fg.grad(parted, (0, 1)))(s, c), jax.grad(together, (0, 1))(s, c))


# --- What is refused, and what is done once -------------------------------------------------------


def test_prints_are_not_repeated(capfd):
    def program(x):
        @jax.jit
        def inner(c):
            jax.debug.print("inner")
            return jnp.sin(c)

        def body(c):
            jax.debug.print("outer")
            return c[0] + 1, inner(c[1])

        return lax.while_loop(lambda c: c[0] < 3, body, (0, x))[1]

    jax.block_until_ready(jax.jit(fg.grad(program))(2.0))
    jax.effects_barrier()
    assert sorted(capfd.readouterr().out.split()) == ["inner"] * 3 + ["outer"] * 3


def reading_the_outside(c):
    def body(c):
        return c * io_callback(lambda: np.float64(1), jnp.ones(()))

    return lax.while_loop(lambda c: c < 1, body, c)


def writing_to_a_reference(c):
    ref = jax.new_ref(c)

    def body(n):
        ref[...] = ref[...] * c
        return n + 1

    lax.while_loop(lambda n: n < 3, body, 0)
    return ref[...]


@pytest.mark.parametrize(
    ("program", "why"),
    [(reading_the_outside, "io_callback"), (writing_to_a_reference, "mutable array reference")],
)
def test_what_cannot_be_replayed_is_named(program, why):
    file, line = inspect.getsourcefile(program), inspect.getsourcelines(program)[1]
    with pytest.raises(
        ValueError, match=f"while loop at {file}:\\d+ is differentiated.*{why}"
    ) as e:
        fg.grad(program)(0.5)
    assert line < int(str(e.value).split(f"{file}:")[1].split()[0]) < line + 10


def test_a_reference_within_the_body_is_its_own_affair():
    def body(c):
        ref = jax.new_ref(c)
        ref[0] = ref[0] + jnp.sin(ref[2])
        return ref[...]

    def program(loop):
        return lambda c: jnp.sum(loop(lambda c: c[0] < 0.7, body, c) ** 2)

    first = 2 * (x[0] + np.sin(x[2]))
    expected = [first, 2 * x[1], 2 * x[2] + first * np.cos(x[2])]
    same(fg.grad(program(lax.while_loop))(x), np.array(expected))


# --- Loops that are not differentiated ------------------------------------------------------------

WHILES = {
    "under stop_gradient": (lambda x: x * newton(lax.while_loop)(lax.stop_gradient(x[2])), x),
    "of integers": (
        lambda x: x * lax.while_loop(lambda c: c < 5, lambda c: c * 2, jnp.argmax(x)).astype(float),
        x,
    ),
    "whose count alone is used": (
        lambda x: (
            x
            * lax.while_loop(
                lambda c: jnp.sum(c[1]) < 5, lambda c: (c[0] + 1, c[1] * 2 + 1), (0, x)
            )[0].astype(float)
        ),
        x,
    ),
}


@pytest.mark.parametrize("name", WHILES)
def test_a_while_loop_that_is_not_differentiated_runs(name):
    # Differences know nothing of stop_gradient.
    assert_ways_agree(*WHILES[name], without=["differences"] if "stop" in name else [])
