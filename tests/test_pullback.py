"""fg.vjp: outputs and pullbacks of any structure, and pullbacks wherever one may carry them."""

import collections
from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad import saving
from tests.agreement import assert_close
from tests.ways import assert_ways_agree

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, -0.5])
float0 = jax.dtypes.float0

Pair = collections.namedtuple("Pair", "first second")


def same(actual, expected):
    """Equal structure, types (weak ones too) and values."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jax.typeof(a) == jax.typeof(b)
    assert_close(
        *(
            [z for z in jax.tree.leaves(tree) if jnp.result_type(z) != float0]
            for tree in (actual, expected)
        )
    )


# --- Structures and types -----------------------------------------------------------------------

FUNCTIONS = {
    "a dict of tuples with None": (
        lambda d: {"a": d["b"] * 2.0, "c": None, "d": (d["b"].sum(), d["z"])},
        {"b": x, "z": jnp.arange(3)},
    ),
    "a namedtuple": (lambda t: Pair(t.second[0] * t.first, [t.first]), Pair(x, [y, None])),
    "the same output twice": (lambda x: (x, x, jnp.sin(x), x), x),
    "an unused input": (lambda x, y: jnp.sin(x), x, y),
    "a constant output": (lambda x: (jnp.ones(3), x), x),
    "no differentiable output": (lambda x: x > 0, x),
    "the identity": (lambda x: x, x),
    "no output": (lambda x: (), x),
    "integers, booleans and keys": (
        lambda x, i, b, k: (jnp.where(b, x[i], 2 * x) * jax.random.normal(k, (3,), float), i, b),
        *(x, jnp.array([2, 0, 1]), x > 0, jax.random.key(0)),
    ),
    "complex numbers": (
        lambda z: (jnp.sin(z) * (1 + 2j), jnp.abs(z), jnp.conj(z) * lax.complex(z.real, x)),
        lax.complex(x, y),
    ),
    "real numbers made complex": (lambda x: lax.complex(x, x * x) ** 2, x),
    "no elements": (lambda x: (jnp.sum(x), x * 2), jnp.zeros((0, 2))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vjp(name):
    assert_ways_agree(*FUNCTIONS[name])


@pytest.mark.parametrize(
    ("function", "primals"),
    [
        (lambda x: x * 2, (3.0,)),
        (lambda x: x * 2, (np.float32(3),)),
        (lambda x: jnp.sum(x**2), (np.ones(3, np.float16),)),
        (lambda x: x * jnp.float32(2), (3.0,)),
        (lambda x: 2.0, (3.0,)),
        (lambda x: (np.ones(3), x), (3.0,)),
        (lambda x, i: x * 2, (3.0, 4)),
        (lambda x: x * (1 + 2j), (3.0 + 1j,)),
        (lambda: 1.0, ()),
    ],
)
def test_values_and_gradients_are_of_jaxs_types(function, primals):
    ours, jaxs = (vjp(function, *primals) for vjp in (fg.vjp, jax.vjp))
    same(ours[0], jaxs[0])
    g = jax.tree.map(jnp.ones_like, jaxs[0])
    same(ours[1](g), jaxs[1](g))


FORMATS = ["bfloat16", "float16", "float32", "float64", "complex64", "complex128"]


def test_a_gradient_has_its_inputs_format():
    def mixture(d):
        return sum(jnp.sum(jnp.abs(z).astype(float) * 2) for z in d.values())

    d = {name: x.astype(name) for name in FORMATS}
    same(fg.grad(mixture)(d), jax.grad(mixture)(d))


def test_formats_that_promote_each_other():
    def mixture(a, b, c, d):
        return jnp.sum(a * b * c * d * 2).real.astype(float)

    args = [x.astype(name) for name in ("bfloat16", "float16", "float32", "complex128")]
    with jax.numpy_dtype_promotion("standard"):
        same(fg.grad(mixture, (0, 1, 2, 3))(*args), jax.grad(mixture, (0, 1, 2, 3))(*args))


def test_no_gradient_flows_into_integers():
    _, pullback = fg.vjp(lambda i, b, x: x * i.astype(float), jnp.arange(3), True, x)
    i_g, b_g, x_g = pullback(y)
    assert (i_g.dtype, i_g.shape, b_g.dtype, b_g.shape) == (float0, (3,), float0, ())
    np.testing.assert_array_equal(x_g, y * jnp.arange(3.0))


def test_integer_outputs_take_float0():
    def function(x):
        return (x * 2, jnp.arange(3))

    _, pullback = fg.vjp(function, x)
    np.testing.assert_array_equal(pullback((y, np.zeros(3, float0)))[0], 2 * y)


# --- Aux ----------------------------------------------------------------------------------------


class Thing:
    pass


def test_aux_holds_anything():
    thing = Thing()

    def function(x):
        aux = {"traced": x * 3, "int": jnp.argmax(x), "text": "hi", "thing": thing, "none": None}
        return jnp.sin(x), {**aux, "constant": y, "numpy": np.ones(2)}

    out, pullback, aux = fg.vjp(function, x, has_aux=True)
    np.testing.assert_array_equal(out, jnp.sin(x))
    np.testing.assert_allclose(pullback(y)[0], y * jnp.cos(x), rtol=1e-14)
    np.testing.assert_array_equal(aux["traced"], 3 * x)
    assert (int(aux["int"]), aux["text"], aux["none"]) == (2, "hi", None)
    assert aux["thing"] is thing
    assert aux["constant"] is y
    assert isinstance(aux["numpy"], np.ndarray)


def test_aux_of_an_outer_trace_passes_through():
    def outer(x, y):
        _, pullback, aux = fg.vjp(lambda t: (t * y, y), x, has_aux=True)
        return pullback(aux)[0] * aux

    np.testing.assert_allclose(jax.jit(outer)(x, y), y**3, rtol=1e-14)


@pytest.mark.parametrize("out", [1.0, (1.0,), (1.0, 2.0, 3.0), {"a": 1.0, "b": 2.0}])
def test_has_aux_wants_a_pair(out):
    with pytest.raises(TypeError, match="two-element tuple"):
        fg.vjp(lambda x: out, 1.0, has_aux=True)


# --- Refusals -----------------------------------------------------------------------------------


def of_a_dict(vjp):
    return vjp(lambda x: (x, {"a": 2 * x}), x)[1]


@pytest.mark.parametrize(
    ("g", "message"),
    [
        ((x, {"b": x}), "structure"),
        ((x, {"a": None}), "structure"),
        ([x, {"a": x}], "structure"),
        (x, "structure"),
        ((x, {"a": x[:2]}), r"float64\[2\].*expected float64\[3\]"),
        ((x, {"a": 1.0}), r"float64\[\].*expected float64\[3\]"),
        ((x, {"a": x.astype("float32")}), r"float32\[3\].*expected float64\[3\]"),
        ((x, {"a": jnp.arange(3)}), r"int64\[3\].*expected float64\[3\]"),
        ((x, {"a": lax.complex(x, x)}), r"complex128\[3\].*expected float64\[3\]"),
    ],
)
def test_a_wrong_gradient_is_refused_as_by_jax(g, message):
    with pytest.raises(ValueError, match=message) as ours:
        of_a_dict(fg.vjp)(g)
    with pytest.raises(ValueError, match="unexpected") as jaxs:
        of_a_dict(jax.vjp)(g)
    assert ours.type is jaxs.type


@pytest.mark.parametrize("count", [0, 2])
def test_the_pullback_takes_one_argument(count):
    for vjp in (fg.vjp, jax.vjp):
        with pytest.raises(TypeError, match=f"{count}|missing"):
            of_a_dict(vjp)(*[x] * count)


@pytest.mark.parametrize("primal", ["text", object()])
def test_a_primal_that_is_no_array_is_refused(primal):
    for vjp in (fg.vjp, jax.vjp):
        with pytest.raises(TypeError, match="not a valid JAX type"):
            vjp(lambda x: 1.0, primal)


def test_an_output_that_is_no_array_is_refused():
    for vjp in (fg.vjp, jax.vjp):
        with pytest.raises(TypeError, match="not a valid JAX type"):
            vjp(lambda x: "text", 1.0)


def test_fun_must_be_callable():
    with pytest.raises(TypeError, match="callable"):
        fg.vjp(3, 1.0)


def test_bad_settings_are_refused():
    with pytest.raises(TypeError, match=r"rules must be a Rulebook such as fungrad.rules, got 'x'"):
        fg.vjp(jnp.sin, 1.0, rules="x")
    with pytest.raises(ValueError, match="save must be None, 'everything', 'nothing', a policy"):
        fg.vjp(jnp.sin, 1.0, save="something")
    with pytest.raises(ValueError, match="save must be"):
        fg.grad(jnp.sin, save=-3)


# --- Python's control flow ------------------------------------------------------------------------


def powers(x, n, flag):
    for _ in range(int(n)):
        x = x * x
    return x if flag else -x


@pytest.mark.parametrize("n", [2, np.int64(2), jnp.array(2)])
@pytest.mark.parametrize("flag", [True, jnp.array(False)])
def test_python_reads_arguments_without_gradient(n, flag):
    def pull(vjp):
        return vjp(powers, 1.5, n, flag)[1](1.0)

    same(pull(fg.vjp), pull(jax.vjp))


# --- Pullbacks travel -----------------------------------------------------------------------------


def program(x, w):
    """Something of everything: calls, a loop, a branch, a closed-over value."""
    w = jnp.exp(w)

    def step(c, u):
        c = jax.jit(lambda c: jnp.sin(c * w))(c) * u
        return c, lax.cond(u > 0, jax.checkpoint(jnp.tanh), jax.nn.relu, c)

    return lax.scan(step, x[0], x)


policy = jax.checkpoint_policies.dots_saveable
everywhere = pytest.mark.parametrize("save", [None, "everything", "nothing", policy])


def pull_of(save, closed_over):
    """The pullback of `program`; w is differentiated, or a value of an enclosing trace."""

    def make(x, w):
        if closed_over:
            return fg.vjp(lambda x: program(x, w), x, save=save)[1]
        return fg.vjp(program, x, w, save=save)[1]

    return make


@everywhere
@pytest.mark.parametrize("closed_over", [False, True])
def test_a_pullback_crosses_the_border_of_jit(save, closed_over):
    w, g = jnp.array(0.4), (jnp.array(0.5), y)
    expected = jax.vjp(program, x, w)[1](g)[: 1 if closed_over else 2]
    pullback = jax.jit(pull_of(save, closed_over))(x, w)
    same(pullback(g), expected)
    same(pullback(g), expected)  # as often as one likes
    same(jax.jit(lambda pullback, g: pullback(g))(pullback, g), expected)
    same(jax.jit(pullback)(g), expected)


@everywhere
def test_a_pullback_under_vmap(save):
    w, g = jnp.array(0.4), (jnp.array([0.5, 1.0]), jnp.stack([y, 2 * y]))
    rows = [jax.vjp(program, x, w)[1](jax.tree.map(lambda g, i=i: g[i], g)) for i in range(2)]
    expected = jax.tree.map(lambda *rows: jnp.stack(rows), *rows)
    same(jax.vmap(pull_of(save, False)(x, w))(g), expected)


def test_a_pullback_returned_by_vmap():
    """Each example's own pullback, batched: residuals are leaves of the pullback."""
    batch = jnp.stack([x, y])
    pullbacks = jax.vmap(lambda x: fg.vjp(lambda x: jnp.sin(x) * x, x)[1])(batch)
    gradients = jax.vmap(lambda pullback, g: pullback(g)[0])(pullbacks, batch)
    np.testing.assert_allclose(
        gradients, batch * (jnp.cos(batch) * batch + jnp.sin(batch)), rtol=1e-13
    )


def test_a_pullback_is_linear():
    def combined(g, h):
        return jax.tree.map(lambda a, b: 2 * a + 3 * b, g, h)

    _, pullback = fg.vjp(program, x, jnp.array(0.4))
    g, h = (jnp.array(0.5), y), (jnp.array(-1.0), x)
    assert_close(pullback(combined(g, h)), combined(pullback(g), pullback(h)))


def test_a_pullback_transposed_is_forward_mode():
    def function(x):
        return lax.scan(lambda c, u: (jnp.tanh(c * u), c), x[0], x)

    _, pullback = fg.vjp(function, x)
    (slope,) = jax.linear_transpose(pullback, function(x))((y,))
    assert_close(slope, jax.jvp(function, (x,), (y,))[1])


def test_a_pullback_is_a_pytree_of_what_was_kept():
    _, pullback = fg.vjp(lambda x: jnp.tanh(x), x)
    assert [leaf.shape for leaf in jax.tree.leaves(pullback)] in ([(3,)], [(3,), (3,)])
    same(jax.tree.map(partial(jnp.multiply, 1.0), pullback)(y), pullback(y))


# --- What a pullback shows of itself --------------------------------------------------------------


def test_arguments_may_be_dropped_and_put_back():
    _, pullback = fg.vjp(lambda x, d: x * d["y"] + jnp.exp(d["z"]), x, {"y": y, "z": y})
    expected = pullback(x)
    assert pullback.args_res[0] is x
    pullback.args_res = [None, None]
    pullback.args_res = [x, {"y": y, "z": y}]
    same(pullback(x), expected)
    _, pullback = fg.vjp(lambda x, y: jnp.sin(x), x, y)
    assert "NotNeeded" in repr(pullback.args_res[1])


def test_gradients_may_be_added_into_references():
    _, pullback = fg.vjp(lambda x, y, z: x * y + z, x, y, x)
    total = jax.new_ref(x)
    goals = (total, jax.ad.DontWant(), jax.ad.GradValue())
    _, unwanted, third = jax.jit(lambda: pullback.with_refs(*goals)(y))()
    np.testing.assert_array_equal(total[...], x + y * y)
    np.testing.assert_array_equal(third, y)
    assert unwanted == jax.ad.DidntWant()
    assert len(jax.make_jaxpr(pullback.with_refs(*[jax.ad.DontWant()] * 3))(y).eqns) == 0
    with pytest.raises(ValueError, match="takes one entry per array of the primals"):
        pullback.with_refs(total)
    with pytest.raises(TypeError, match="with_refs takes a reference"):
        pullback.with_refs(x, y, x)(y)


def test_python_scalars_in_the_default_precision():
    with jax.enable_x64(False):
        out, pullback = fg.vjp(lambda x, y: x * y, 2.0, 3.0)
        expected, its = jax.vjp(lambda x, y: x * y, 2.0, 3.0)
        same((out, pullback(1.0)), (expected, its(1.0)))


def test_what_has_no_gradient_needs_no_place_for_it():
    total = jax.new_ref(jnp.zeros(3))
    pullback = fg.vjp(lambda x, i: x[i] ** 2, jnp.array([1.0, 2.0, 3.0]), 1)[1]
    pullback.with_refs(total, object())(1.0)
    np.testing.assert_array_equal(total[...], [0, 4, 0])


def test_only_where_a_graph_is_read_is_one_cut(monkeypatch):
    """Under an eager vmap operations are run as they come, and calls of jit stay calls."""
    seen = []
    split = saving.split
    monkeypatch.setattr(saving, "split", lambda *a, **k: seen.append(1) or split(*a, **k))
    gradient = fg.grad(lambda x: jnp.sin(x) * x)
    jax.vmap(gradient)(jnp.ones(3))
    assert not seen
    jax.jit(jax.vmap(gradient))(jnp.ones(3))
    assert seen
