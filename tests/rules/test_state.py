"""Mutable references: gradients through state are those of the same program without state."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.experimental import pallas

import fungrad as fg

x = np.array([0.3, -0.7, 1.1, 0.6])


def overwritten(x):
    ref = jax.new_ref(x)
    ref[...] = jnp.sin(ref[...]) * x
    ref[1:3] = jnp.cos(ref[0:2])
    old = jax.ref.swap(ref, 2, x[0] * x[1])
    ref[jnp.array([0, 3])] += x[1]
    return jnp.sum(jax.freeze(ref) ** 2) * old


def gathered_twice(x):
    ref = jax.new_ref(jnp.zeros(3))
    jax.ref.addupdate(ref, jnp.array([0, 0, 1]), x[:3])
    return jnp.sum(ref[...] ** 2)


def closed_over_by_jit(x):
    ref = jax.new_ref(jnp.zeros(4))

    @jax.jit
    def add(y):
        ref[...] += y * y
        return ref[0] * y

    first = add(x)
    ref[1] = 0.0
    return jnp.sum((first + add(first)) * ref[...])


def closed_over_by_scan(x):
    memory, total = jax.new_ref(x), jax.new_ref(jnp.zeros(()))

    def body(c, y):
        memory[...] = jnp.sin(memory[...]) + y * c
        total[...] += c
        return c * y, memory[0] * total[...]

    c, ys = lax.scan(body, 1.0, x)
    return jnp.sum(ys) + jnp.sum(memory[...]) * total[...] + c


def scanned(x):
    ref = jax.new_ref(x)

    def body(c, row):
        row[...] = row[...] * c
        return c + row[...], row[...] ** 2

    c, ys = lax.scan(body, 1.0, ref, reverse=True)
    return c + jnp.sum(ys) + jnp.sum(jnp.sin(ref[...]))


def in_nested_loops(x):
    outer = jax.new_ref(x)

    def body(c, _):
        inner = jax.new_ref(c)

        def step(i, d):
            inner[...] = jnp.sin(inner[...]) * outer[0]
            outer[i] = outer[i] * d
            return d * 1.1

        d = lax.fori_loop(0, 2, step, c[0])
        return inner[...] * d, inner[1]

    c, ys = lax.scan(body, x, None, length=2)
    return jnp.sum(c) * jnp.sum(ys) * outer[1]


def in_branches(x):
    ref = jax.new_ref(x)

    def scale(y):
        ref[...] = ref[...] * y
        return y

    first = lax.cond(x[0] > 0.2, scale, lambda y: ref[...] * y, x * x)
    second = lax.switch(2, [scale, lambda y: ref[...] * y, lambda y: y], first)
    return jnp.sum(first * ref[...] * second)


def with_indices_in_state(x):
    ref, n = jax.new_ref(x), jax.new_ref(0)
    n[...] += 1
    ref[n[...]] = ref[n[...]] * 3
    n[...] += 1
    return jnp.sum(ref[...] ** 2) * ref[n[...]]


def by_a_rule_of_its_author(x):
    @jax.custom_vjp
    def product(ref, y):
        return ref[...] * y

    def backward(saved, g):
        held, y = saved
        return g * y, g * held

    product.defvjp(lambda ref, y: (ref[...] * y, (ref[...], y)), backward)
    ref = jax.new_ref(x)
    return jnp.sum(product(ref, x) * ref[...])


def written_before_it_depends(x):
    ref = jax.new_ref(jnp.zeros(4))
    early = ref[0]
    ref[...] = x * x
    return early + jnp.sum(ref[...])


PROGRAMS = [
    *(overwritten, gathered_twice, closed_over_by_jit, closed_over_by_scan, scanned),
    *(in_nested_loops, in_branches, with_indices_in_state, by_a_rule_of_its_author),
    written_before_it_depends,
]
every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)


def slopes(program):
    """Differences along each axis: a witness that knows no rule."""
    h = 1e-4
    ahead = [(program(x + h * e) - program(x - h * e)) / (2 * h) for e in np.eye(4)]
    return np.array(ahead)


@every_program
def test_gradients_are_slopes(program):
    np.testing.assert_allclose(fg.grad(program)(x), slopes(jax.jit(program)), rtol=1e-5, atol=1e-6)


@every_program
def test_every_way_to_it_is_the_same(program):
    want = fg.grad(program)(x)
    ways = {
        "compiled": jax.jit(fg.grad(program)),
        "of a jit": fg.grad(jax.jit(program)),
        "of a checkpoint": fg.grad(jax.checkpoint(program)),
        "nothing saved": fg.grad(program, save="nothing"),
    }
    for name, gradient in ways.items():
        np.testing.assert_allclose(gradient(x), want, rtol=1e-12, err_msg=name)


@every_program
def test_second_derivatives(program):
    v = np.array([0.2, -0.4, 0.5, 0.9])

    def slope(program):
        return lambda x: jnp.vdot(fg.grad(program)(x), v)

    want = fg.grad(slope(program))(x)
    h = 1e-5
    gradient = jax.jit(fg.grad(program))
    np.testing.assert_allclose(want, (gradient(x + h * v) - gradient(x - h * v)) / (2 * h), 1e-4)
    np.testing.assert_allclose(fg.grad(jax.jit(slope(jax.jit(program))))(x), want, 1e-12)
    # Compiled, for JAX 0.12 itself has no eager forward mode through a reference to integers.
    forward = jax.jit(lambda x: jax.jvp(fg.grad(program), (x,), (v,))[1])
    np.testing.assert_allclose(forward(x), want, 1e-12)


# --- Other types, other transforms --------------------------------------------------------------


def test_under_vmap():
    rows = np.stack([x, 2 * x])
    got = jax.vmap(fg.grad(overwritten))(rows)
    np.testing.assert_allclose(got, [fg.grad(overwritten)(row) for row in rows], 1e-12)


def test_of_vmap():
    def program(x):
        @jax.vmap
        def each(y):
            ref = jax.new_ref(y)
            ref[...] = jnp.sin(ref[...]) * y
            return ref[...]

        return jnp.sum(each(x))

    np.testing.assert_allclose(fg.grad(program)(x), np.cos(x) * x + np.sin(x), 1e-12)


def test_a_jacobian():
    def program(x):
        ref = jax.new_ref(x)
        ref[1] = x[0] * x[2]
        return ref[...]

    want = np.eye(4)
    want[1] = [x[2], 0, x[0], 0]
    np.testing.assert_allclose(fg.jacrev(program)(x), want, 1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "complex128"])
def test_a_gradient_has_the_type_of_the_value(dtype):
    def program(x):
        ref = jax.new_ref(jnp.zeros((), dtype))
        ref[...] = x * x
        return jnp.real(ref[...])

    g = fg.grad(program)(jnp.asarray(2, dtype))
    assert (g.dtype, g) == (jnp.dtype(dtype), 4)


def test_empty_and_freed():
    @jax.jit
    def program(x):
        ref = jax.empty_ref(jax.ShapeDtypeStruct(x.shape, x.dtype))
        ref[...] = 2 * x * x
        y = ref[...]
        jax.free_ref(ref)
        return jnp.sum(y)

    np.testing.assert_allclose(fg.grad(program)(x), 4 * x, 1e-12)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_run_state(wrap):
    def program(x):
        def body(refs):
            a, b = refs
            a[...] = jnp.sin(a[...]) * b[...]
            b[0] = a[1]

        a, b = pallas.run_state(body)((x, x * x))
        return jnp.sum(a) + jnp.sum(b**3)

    want = np.cos(x) * x * x + np.sin(x) * 2 * x
    bs = np.append(want[1] * (np.sin(x[1]) * x[1] ** 2) ** 2 * 3, 6 * x[1:] ** 5)
    want = want + np.append(0, bs[1:])
    want[1] += bs[0]
    np.testing.assert_allclose(fg.grad(wrap(program))(x), want, 1e-12)


def test_a_derivative_with_state_in_it():
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    @f.defjvp
    def rule(inputs, tangents):
        (x,), (t,) = inputs, tangents
        ref = jax.new_ref(t)
        ref[...] = ref[...] * jnp.cos(x)
        return f(x), ref[...]

    np.testing.assert_allclose(fg.grad(lambda x: jnp.sum(f(x) ** 2))(x), np.sin(2 * x), 1e-12)


def test_a_while_loop_that_writes_is_refused():
    def program(x):
        ref = jax.new_ref(x)

        def body(n):
            ref[...] = ref[...] * x
            return n + 1

        lax.while_loop(lambda n: n < 3, body, 0)
        return jnp.sum(ref[...])

    with pytest.raises(ValueError, match=r"while loop at .*test_state\.py:\d+ is differentiated"):
        fg.grad(program)(x)


# --- References of elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
@pytest.mark.parametrize("save", [None, "nothing"])
def test_what_a_reference_of_elsewhere_holds_is_constant(wrap, save):
    factor, count = jax.new_ref(3.0), jax.new_ref(0.0)

    def program(x):
        count[...] += 1.0
        y = jnp.sum(x * factor[...])
        factor[...] = 5.0  # the backward pass knows what was read before
        return y

    np.testing.assert_array_equal(fg.grad(wrap(program), save=save)(x), 3 * np.ones(4))
    assert (count[...], factor[...]) == (1, 5)


def test_a_differentiated_value_is_not_written_elsewhere():
    ref = jax.new_ref(jnp.zeros(4))

    def program(x):
        ref[...] = x
        return jnp.sum(x)

    def quietly(x):
        ref[...] = lax.stop_gradient(x)
        return jnp.sum(x)

    with pytest.raises(ValueError, match=r"set/swap .*test_state\.py.*Move the array reference"):
        fg.grad(program)(x)
    np.testing.assert_array_equal(fg.grad(quietly)(x), np.ones(4))
    np.testing.assert_array_equal(ref[...], x)


def test_a_reference_that_wants_no_gradient():
    ref = jax.new_ref(jnp.zeros(4), kind="no_grad_no_remat")

    def program(x):
        jax.ref.addupdate(ref, ..., x)
        ref[...] = ref[...] + x
        return jnp.sum(ref[...] * x)

    np.testing.assert_allclose(fg.grad(program)(x), 2 * x)
    np.testing.assert_allclose(ref[...], 2 * x)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
@pytest.mark.parametrize("save", [None, "nothing"])
def test_a_reference_among_the_primals(wrap, save):
    def program(x, ref):
        ref[...] = ref[...] * x
        return jnp.sum(ref[...]) * x

    ref, G = jax.new_ref(jnp.array([1.0, 3.0])), jax.new_ref(jnp.array([1.0, 2.0]))
    out, pullback = fg.vjp(wrap(program), jnp.array(5.0), ref, save=save)
    assert out == 100
    # R' = R x and J = x Σ R', so that g_R' = G + x, g_x = Σ R' + g_R' · R, g_R = x g_R'
    g, _ = pullback.with_refs(jax.ad.GradValue(), G)(jnp.array(1.0))
    assert g == 20 + (1 + 5) * 1 + (2 + 5) * 3
    np.testing.assert_array_equal(G[...], [30, 35])
    with pytest.raises(ValueError, match=r"leaf 1 of the primals.*with_refs"):
        pullback(jnp.array(1.0))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_a_backward_function_may_keep_a_gradient(wrap):
    kept = jax.new_ref(0.0)

    @jax.custom_vjp
    def watch(ref, x):
        return x

    def backward(ref, g):
        ref[...] = g
        return None, g

    watch.defvjp(lambda ref, x: (x, ref), backward)

    @wrap
    def program(ref, x):
        first = watch(ref, jnp.sin(x))
        return watch(ref, jnp.sin(first))  # written before the first one's gradient

    fg.grad(program, 1)(kept, 1.0)
    np.testing.assert_allclose(kept[...], np.cos(np.sin(1)), 1e-12)


def of_a_pair(a, b):
    b[...] = 3.0
    return a[...] * b[...]


def test_a_reference_that_is_passed_twice_is_refused():
    own, ref = jax.custom_vjp(of_a_pair), jax.new_ref(1.0)
    own.defvjp(lambda a, b: (a[...], None), lambda _, g: (None, None))
    closing = jax.jit(lambda a: a[...] * ref[...])
    both, once = "appeared at both a and b", "closed over and passed as the argument a"
    for pulled in (fg.vjp, jax.jit(lambda *args: fg.vjp(*args)[0], static_argnums=0)):
        for fun, said in ((jax.jit(of_a_pair), both), (own, "Ref{float64.*} at a and b")):
            with pytest.raises(ValueError, match=said):
                pulled(lambda a, fun=fun: fun(a, a), ref)
        with pytest.raises(ValueError, match=once):
            pulled(closing, ref)
    assert fg.vjp(of_a_pair, ref, ref)[0] == 9.0  # JAX checks calls alone
