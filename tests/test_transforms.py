"""grad, value_and_grad, jacrev, jacobian, hessian, hvp: JAX's signatures, results and errors."""

import collections
from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.agreement import assert_close

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, -0.5])
z = lax.complex(x, y)
float0 = jax.dtypes.float0

Pair = collections.namedtuple("Pair", "first second")


class Quadratic:
    """A callable that is no function, with a method to be differentiated."""

    def __call__(self, x):
        return jnp.sum(x * x)

    def half(self, x):
        return self(x) / 2


def assert_same(actual, expected):
    """Equal structures, types and values."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = [*zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)]
    assert all(a == b for a, b in pairs if isinstance(b, str))
    arrays = [(a, b) for a, b in pairs if not isinstance(b, str)]
    assert all(jax.typeof(a).str_short() == jax.typeof(b).str_short() for a, b in arrays)
    assert_close(*([p[i] for p in arrays if jax.typeof(p[1]).dtype != float0] for i in range(2)))


def cubic(x, y):
    return jnp.sum(x**2 * y)


CASES = {
    # Arguments.
    "one argument": lambda m: m.grad(cubic)(x, y),
    "argnums": lambda m: m.grad(cubic, 1)(x, y),
    "argnums of a tuple": lambda m: m.grad(cubic, (1, 0))(x, y),
    "argnums of a list": lambda m: m.grad(cubic, [0, 1])(x, y),
    "argnums of one": lambda m: m.grad(cubic, (1,))(x, y),
    "argnums from the end": lambda m: m.grad(cubic, (-1, 0))(x, y),
    "argnums by keyword": lambda m: m.grad(cubic, argnums=1)(x, y),
    "keyword arguments": lambda m: m.grad(lambda x, *, k: x * x * k["a"])(1.0, k={"a": 3.0}),
    "keywords for Python": lambda m: m.grad(lambda x, k: x * x if k == "a" else x)(1.0, k="b"),
    "a callable object": lambda m: m.grad(Quadratic())(x),
    "a method": lambda m: m.grad(Quadratic().half)(x),
    "a partial": lambda m: m.grad(partial(jnp.dot, y))(x),
    "a function of JAX": lambda m: m.grad(jnp.linalg.norm)(x),
    "a jitted function": lambda m: m.grad(jax.jit(cubic))(x, y),
    "numpy": lambda m: m.grad(cubic)(np.asarray(x), np.asarray(y)),
    "a Python number": lambda m: m.grad(lambda x: x**3)(2.0),
    # Structures.
    "a tree": lambda m: m.grad(lambda t: cubic(t["a"][0], t["b"]))({"a": (x, None), "b": y}),
    "a namedtuple": lambda m: m.grad(lambda t: cubic(t.first, t.second))(Pair(x, y)),
    "unused": lambda m: m.grad(lambda x, y: jnp.sum(x), (0, 1))(x, y),
    "constant": lambda m: m.value_and_grad(lambda x: 2.0)(x),
    "identity": lambda m: m.value_and_grad(lambda x: x)(3.0),
    "value": lambda m: m.value_and_grad(cubic, (0, 1))(x, y),
    "aux": lambda m: m.grad(lambda x: (x * x, {"a": x, "s": "hi"}), has_aux=True)(2.0),
    "value and aux": lambda m: m.value_and_grad(lambda x: (x * x, [x, None]), has_aux=True)(2.0),
    # Integers and complex numbers.
    "allow_int": lambda m: m.grad(lambda i: i * 2.0, allow_int=True)(3),
    "allow_int in a tree": lambda m: m.grad(lambda d: jnp.sum(d["x"] * 2), allow_int=True)(
        {"x": x, "i": jnp.arange(3), "b": True, "k": jax.random.key(1)}
    ),
    "of a complex number": lambda m: m.grad(lambda z: jnp.sum(jnp.abs(z) ** 2))(z),
    "holomorphic": lambda m: m.grad(lambda z: jnp.sum(jnp.sin(z) ** 2), holomorphic=True)(z),
    # Jacobians.
    "jacrev": lambda m: m.jacrev(lambda x: jnp.sin(x) * x[0])(x),
    "jacrev of a tree": lambda m: m.jacrev(
        lambda d, y: {"o": d["x"] * y, "n": None, "p": (y.sum(),)}, (0, 1)
    )({"x": x}, y),
    "jacrev of a list": lambda m: m.jacrev(lambda x: [x, [x * 2]])([x, y][0]),
    "jacrev of a list by a list": lambda m: m.jacrev(lambda t: [t[0] * t[1]])([x, y]),
    "jacrev of scalars": lambda m: m.jacrev(lambda a, b: a * b, (0, 1))(2.0, 3.0),
    "jacrev with aux": lambda m: m.jacrev(
        lambda x: (x * x, {"n": "hi", "s": x.sum()}), has_aux=True
    )(x),
    "jacrev holomorphic": lambda m: m.jacrev(lambda z: jnp.sin(z) * z[0], holomorphic=True)(z),
    "jacrev of complex numbers": lambda m: m.jacrev(lambda z: jnp.abs(z) ** 2)(z),
    "jacrev of no outputs": lambda m: m.jacrev(lambda x: x[:0])(x),
    "jacrev of no inputs": lambda m: m.jacrev(lambda x: jnp.sum(x))(x[:0]),
    "hessian": lambda m: m.hessian(cubic)(x, y),
    "hessian of two": lambda m: m.hessian(cubic, (0, 1))(x, y),
    "hessian of a tree": lambda m: m.hessian(lambda d: cubic(d["a"], d["b"]))({"a": x, "b": y}),
    "hessian of a vector": lambda m: m.hessian(lambda x: x**3)(x),
    "hessian with aux": lambda m: m.hessian(lambda x: (jnp.sum(x**3), x), has_aux=True)(x),
    "hessian holomorphic": lambda m: m.hessian(lambda z: jnp.sum(z**3), holomorphic=True)(z),
}

REFUSALS = {
    "no callable": lambda m: m.grad(3),
    "no callable, value_and_grad": lambda m: m.value_and_grad(3),
    "no callable, jacrev": lambda m: m.jacrev(3),
    "no callable, hessian": lambda m: m.hessian(3),
    "too few arguments": lambda m: m.grad(cubic, 2)(x, y),
    "keywords alone": lambda m: m.grad(lambda x: x)(x=1.0),
    "argnums of a float": lambda m: m.grad(cubic, 0.0)(x, y),
    "argnums of text": lambda m: m.grad(cubic, "x")(x, y),
    "an integer": lambda m: m.grad(lambda x: x * 2.0)(3),
    "a boolean": lambda m: m.grad(lambda x: 1.0)(True),
    "an integer leaf": lambda m: m.grad(lambda d: d["x"])({"x": 1.0, "i": 3}),
    "text": lambda m: m.grad(lambda x: 1.0)("text"),
    "an object": lambda m: m.grad(lambda x: 1.0)([1.0, object()]),
    "a vector": lambda m: m.grad(lambda x: x)(x),
    "a tuple": lambda m: m.grad(lambda x: (x, x))(1.0),
    "a dict": lambda m: m.grad(lambda x: {"a": x})(1.0),
    "None": lambda m: m.grad(lambda x: None)(1.0),
    "an integer output": lambda m: m.grad(lambda x: x.astype(int))(jnp.array(1.0)),
    "a complex output": lambda m: m.grad(lambda x: x * 1j)(1.0),
    "a complex output, jacrev": lambda m: m.jacrev(lambda z: z * z)(z),
    "a real input, holomorphic": lambda m: m.grad(jnp.sin, holomorphic=True)(1.0),
    "a real output, holomorphic": lambda m: m.grad(jnp.abs, holomorphic=True)(1j),
    "an integer, jacrev": lambda m: m.jacrev(lambda i: i * 2.0)(jnp.arange(3)),
    "an integer output, jacrev": lambda m: m.jacrev(lambda x: x.astype(int))(x),
    "aux without a pair": lambda m: m.grad(lambda x: x, has_aux=True)(1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_as_jax(name):
    with jax.numpy_dtype_promotion("standard"):
        assert_same(CASES[name](fg), CASES[name](jax))


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_as_by_jax(name):
    with jax.numpy_dtype_promotion("standard"):
        with pytest.raises(TypeError):
            REFUSALS[name](jax)
        with pytest.raises(TypeError):
            REFUSALS[name](fg)


@pytest.mark.parametrize("transform", [fg.grad, fg.value_and_grad, fg.jacrev, fg.jacobian])
def test_argnums_that_name_no_argument_or_one_twice(transform):
    def product(x, y):
        return x * y

    for argnums in (2, -3, (0, 2), (0, -3)):
        with pytest.raises(TypeError, match=r"argnums=.* requires at least 3 positional arg"):
            transform(product, argnums)(1.0, 2.0)
    for argnums in ((0, 0), (1, -1)):
        with pytest.raises(ValueError, match=r"argnums=\(.*\) names an argument twice"):
            transform(product, argnums)(1.0, 2.0)


def test_a_scalar_is_asked_for_in_jaxs_words():
    with pytest.raises(TypeError, match=r"only defined for scalar-output functions.*\(3,\)"):
        fg.grad(lambda x: x)(x)
    with pytest.raises(TypeError, match=r"argnums=2 requires at least 3 positional arguments"):
        fg.grad(cubic, 2)(x, y)
    with pytest.raises(TypeError, match="requires real- or complex-valued inputs"):
        fg.grad(lambda x: x * 2.0)(3)


def test_names_and_documentation_are_kept():
    def loss(x):
        """A loss."""
        return x

    for transform in (fg.grad, fg.value_and_grad, fg.jacrev, fg.jacobian):
        assert (transform(loss).__name__, transform(loss).__doc__) == ("loss", "A loss.")


# --- The lecture's explicit Jacobian --------------------------------------------------------------

W = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_jacobian_of_a_linear_layer():
    of_W, of_x = fg.jacobian(lambda W, x: W @ x, (0, 1))(W, x)
    np.testing.assert_array_equal(of_W, jnp.kron(jnp.eye(2), x[None]))
    np.testing.assert_array_equal(of_x, W)


def test_jacobian_of_a_product():
    A, B = W, jnp.array([[1.0, -1.0], [0.5, 2.0], [3.0, 0.0]])
    of_A, of_B = fg.jacobian(jnp.matmul, (0, 1))(A, B)
    np.testing.assert_array_equal(of_A, jnp.kron(jnp.eye(2), B.T))
    np.testing.assert_array_equal(of_B, jnp.kron(A, jnp.eye(2)))


def test_the_pullback_is_g_times_the_jacobian():
    def softmax(x):
        return jax.nn.softmax(x * x)

    p = softmax(x)
    stated = (jnp.diag(p) - jnp.outer(p, p)) @ jnp.diag(2 * x)
    np.testing.assert_allclose(fg.jacobian(softmax)(x), stated, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(fg.vjp(softmax, x)[1](y)[0], y @ stated, rtol=1e-12)


def test_jacobian_flattens_trees_leaf_after_leaf():
    def function(d):
        return (d["b"] * 2, {"s": jnp.sum(d["a"]), "none": None})

    actual = fg.jacobian(function)({"a": W, "b": x})
    expected = np.zeros((4, 9))
    expected[:3, 6:] = 2 * np.eye(3)
    expected[3, :6] = 1
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("argnums", [(0,), (0, 1), (-1, 0), (0, 1, 2)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_jacobian_of_as_many_outputs_as_arguments(argnums, size):
    def outputs(a, b, c):
        return (a * b, b + c, a * c)[:size]

    matrices = fg.jacobian(outputs, argnums)(x, y, x)
    expected = fg.jacobian(lambda a, b, c: jnp.concatenate(outputs(a, b, c)), argnums)(x, y, x)
    assert_same(matrices, expected)


def test_jacobian_of_one_argument_is_a_matrix():
    assert fg.jacobian(lambda x: jnp.sum(x))(x).shape == (1, 3)
    assert fg.jacobian(lambda a, b: a * b, argnums=-1)(x, y).shape == (3, 3)
    assert fg.jacobian(lambda s: s * y)(2.0).shape == (3, 1)


# --- Second order ---------------------------------------------------------------------------------


def test_hvp_is_the_gradient_and_the_hessian_times_a_tangent():
    g, Ht = fg.hvp(cubic, (x, y), (y, x))
    H = jax.hessian(cubic, (0, 1))(x, y)
    expected = tuple(H[i][0] @ y + H[i][1] @ x for i in range(2))
    assert_same((g, Ht), (jax.grad(cubic, (0, 1))(x, y), expected))


@pytest.mark.parametrize("wrap", [lambda x: (x,), lambda x: [x], lambda x: x])
def test_hvp_of_one_argument(wrap):
    g, Ht = fg.hvp(lambda x: jnp.sum(x**3), wrap(x), wrap(y))
    np.testing.assert_allclose(g, 3 * x**2, rtol=1e-14)
    np.testing.assert_allclose(Ht, 6 * x * y, rtol=1e-14)


def test_hvp_of_a_tree():
    g, Ht = fg.hvp(lambda d: cubic(d["x"], d["y"]), {"x": x, "y": y}, {"x": y, "y": x})
    expected = fg.hvp(cubic, (x, y), (y, x))
    assert_same(((g["x"], g["y"]), (Ht["x"], Ht["y"])), expected)


@pytest.mark.parametrize("tangents", [(y,), (y, y[:2]), (y, y.astype("float32")), y])
def test_hvp_refuses_tangents_of_other_types(tangents):
    for hvp in (fg.hvp, lambda f, p, t: jax.jvp(jax.grad(f, (0, 1)), p, t)):
        with pytest.raises((TypeError, ValueError)):
            hvp(cubic, (x, y), tangents)


def derivatives(grad, function, order):
    for _ in range(order):
        function = grad(function)
    return function


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("function", [jnp.tanh, lambda x: x**3 * jnp.exp(x), jax.nn.softplus])
def test_orders(function, order):
    """fungrad of itself against complex steps in the order below: f′(x) = Im f(x + ih) / h."""
    h, point = 1e-30, 0.7
    actual = jax.jit(derivatives(fg.grad, function, order))(point)
    np.testing.assert_allclose(actual, derivatives(jax.grad, function, order)(point), rtol=1e-12)
    if function is not jax.nn.softplus:
        below = derivatives(partial(jax.grad, holomorphic=True), function, order - 1)
        np.testing.assert_allclose(actual, below(point + 1j * h).imag / h, rtol=1e-12)


def test_rules_and_save_reach_every_transform():
    book = fg.rules.replace({"sin": lambda g, out, x: 10 * g})

    def slope(x):
        return jnp.sum(jnp.sin(x))

    np.testing.assert_array_equal(fg.grad(slope, rules=book)(x), 10 * jnp.ones(3))
    np.testing.assert_array_equal(fg.value_and_grad(slope, rules=book)(x)[1], 10 * jnp.ones(3))
    np.testing.assert_array_equal(fg.jacrev(jnp.sin, rules=book)(x), 10 * jnp.eye(3))
    np.testing.assert_array_equal(fg.jacobian(jnp.sin, rules=book)(x), 10 * jnp.eye(3))
    np.testing.assert_array_equal(fg.hessian(slope, rules=book)(x), jnp.zeros((3, 3)))
    np.testing.assert_array_equal(fg.hvp(slope, x, y, rules=book)[0], 10 * jnp.ones(3))
    for transform in (fg.grad, fg.value_and_grad, fg.jacrev, fg.jacobian, fg.hessian):
        with pytest.raises(ValueError, match="save must be"):
            transform(slope, save="some")(x)
