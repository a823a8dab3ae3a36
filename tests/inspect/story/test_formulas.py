"""The letters are held against the numbers: each formula of a story is evaluated as it is written.

Vectors are columns and gradients rows, in the lecture's layout; a product with a number scales.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg


class Matrix:
    """A matrix that multiplies, adds and transposes as the page writes it."""

    def __init__(self, x):
        x = np.asarray(x, float)
        self.x = x.reshape(-1, 1) if x.ndim < 2 else x

    def __matmul__(self, other):
        if isinstance(other, Ones):
            return Matrix(self.x.sum() if other.column else self.x)
        is_scaled = 1 in (self.x.size, other.x.size)
        return Matrix(self.x * other.x if is_scaled else self.x @ other.x)

    def __mul__(self, other):
        return Matrix(self.x * other.x)

    def __add__(self, other):
        return Matrix(self.x + other.x)

    def __sub__(self, other):
        return Matrix(self.x - other.x)

    def __truediv__(self, other):
        return Matrix(self.x / other.x)

    def __neg__(self):
        return Matrix(-self.x)

    def __gt__(self, other):
        return Matrix(self.x > other.x)

    def __pow__(self, n):
        return Matrix(self.x**n)

    @property
    def T(self):
        return Matrix(self.x.T)


class Ones:
    """1 and 1ᵀ, of the size that fits."""

    def __init__(self, column):
        self.column = column


def softmax(z):
    """Of a column, or of the rows of a matrix."""
    axis = 0 if z.x.shape[1] == 1 else 1
    return Matrix(np.exp(z.x) / np.exp(z.x).sum(axis, keepdims=True))


FUNCTIONS = {
    "diag": lambda d: Matrix(np.diagflat(d.x)),
    "tr": lambda M: Matrix(np.trace(M.x)),
    "softmax": softmax,
    "σ": lambda z: Matrix(1 / (1 + np.exp(-z.x))),
    "sin": lambda z: Matrix(np.sin(z.x)),
    "cos": lambda z: Matrix(np.cos(z.x)),
    "exp": lambda z: Matrix(np.exp(z.x)),
}
UNTOLD = re.compile(r"· ∂(?!J)|repeated|elsewhere|\bas\b|\bat\b|e\[|Σ\[axis [^0]")


def evaluated(text, names):
    """The value of the right side of a formula."""
    text = re.sub(r"Σ\[axis 0\] (∂J/∂\w+)", r"sum0(\1)", text)
    text = re.sub(r"Σ (∂J/∂\w+) ⊙ (\S+)", r"total(\1 ⊙ \2)", text)
    text = re.sub(r"∂J/∂(\w+(\[[^\]]*\])?)", r"g_\1", text)
    for i, name in enumerate(sorted(names, key=len, reverse=True)):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?![A-Za-z0-9_\[])", f"n{i}n", text)
    text = text.replace("1ᵀ/", "1/").replace("· 1ᵀ", "@ ROW")
    text = re.sub(r"· 1(?= |$)", "@ ONES", text)
    text = re.sub(r"\[([^\]]*)\]", r"(\1)", text)
    text = re.sub(r"(sin|cos|exp|log) (\w+)", r"\1(\2)", text)
    text = text.replace("²", "**2").replace("ᵀ", ".T").replace("−", "-")
    text = re.sub(r"([\w)]|\.T) (?=[\w(])", r"\1 @ ", text)
    text = text.replace("·", "@").replace("⊙", "*")
    text = re.sub(r"(?<![\w*.])(\d+\.?\d*)(?![\w.])", r"Matrix(\1)", text)
    values = {f"n{i}n": names[n] for i, n in enumerate(sorted(names, key=len, reverse=True))}
    scope = {**FUNCTIONS, **values, "Matrix": Matrix, "ONES": Ones(True), "ROW": Ones(False)}
    scope["sum0"] = lambda g: Matrix(g.x.sum(1, keepdims=True).T)
    scope["total"] = lambda g: Matrix(g.x.sum())
    return eval(text, scope)


def evaluate(story, arguments):
    """How many formulas are evaluated; each has the value that the step has."""
    names = {step.name: Matrix(step.value) for step in story.forward if np.ndim(step.value) < 3}
    names.update(
        (name, Matrix(x)) for name, x in {**arguments, "LABEL": LABEL, "CLASSES": CLASSES}.items()
    )
    names.update((f"g_{step.name}", Matrix(step.value)) for step in story.steps)
    count = 0
    for step in story.steps:
        right = step.formula.partition(" = ")[2]
        if not UNTOLD.search(right):
            got = evaluated(right, names).x
            np.testing.assert_allclose(got + 0 * step.value, step.value, rtol=1e-6, atol=1e-9)
            count += 1
    return count


A, B, V, U = (
    jnp.asarray(np.random.default_rng(i).normal(size=s))
    for i, s in enumerate([(2, 3), (3, 4), (3,), (2,)])
)


LABEL, CLASSES = jnp.array([0.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])


def vectors(A, v, u):
    z = A @ v
    h = jnp.tanh(z) * u
    k = v @ A.T - h
    q = jax.nn.softmax(k) / 2.0
    return jnp.sum(q**2) + u @ k - jnp.log(q @ q)


def matrices(A, B, v):
    Z = A @ B
    C = jnp.exp(Z) * 0.1 + Z
    D = B @ C.T
    E = D + v[:, None]
    return jnp.sum(jax.nn.sigmoid(E) - E * E)


def batches(A, B, u):
    X = fg.layers.linear(B.T, A, u)
    R = jax.nn.relu(X)
    S = R / 3.0 - u
    return jnp.mean(S[:, 0] * S[:, 1]) + jnp.sum(S**2)


def numbers(a, v):
    b = a * v
    c = b + a
    d = -c * jnp.sum(v)
    return jnp.sum(jnp.cos(d)) * a


def classes(A, B, u):
    logits = fg.layers.linear(B.T, A, u)
    each = fg.losses.cross_entropy(logits, CLASSES)
    return jnp.sum(each * each)


def losses(A, v, u):
    s = fg.layers.linear(v, A)
    e = fg.losses.squared_error(s, u)
    return fg.losses.cross_entropy(s, LABEL) + jnp.sum(e) + jnp.max(jnp.maximum(s, 0.2))


@pytest.mark.parametrize(
    ("fun", "arguments", "least"),
    [
        (vectors, {"A": A, "v": V, "u": U}, 14),
        (matrices, {"A": A, "B": B, "v": V}, 10),
        (batches, {"A": A, "B": B, "u": U}, 8),
        (numbers, {"a": jnp.array(0.7), "v": V}, 8),
        (classes, {"A": A, "B": B, "u": U}, 6),
        (losses, {"A": A, "v": V, "u": U}, 7),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_formula_has_the_value_of_its_step(fun, arguments, least):
    story = fg.story(fun)(*arguments.values())
    assert evaluate(story, arguments) >= least
    gradients = jax.grad(fun, range(len(arguments)))(*arguments.values())
    for name, x in zip(arguments, gradients, strict=True):
        np.testing.assert_allclose(story.gradients[name], x, rtol=1e-10)


def test_what_goes_by_the_name_of_softmax_is_told_only_if_it_is_one():
    def softmax(x):
        return fg.custom(lambda x: jax.nn.softmax(x), lambda g, p, x: 2.0 * g)(x)

    @jax.custom_jvp
    def relu(x):
        return x * 3.0

    relu.defjvp(lambda x, t: (relu(x[0]), 3.0 * t[0]))
    story = fg.story(lambda x: jnp.sum(relu(softmax(x))))(V)
    text = str(story)
    assert "∂x2/∂x1 = (3, 0, 0; 0, 3, 0; 0, 0, 3)" in text
    assert "[x1 > 0]" not in text
    assert "diag(x1) − x1 x1ᵀ" not in text
    np.testing.assert_allclose(story.gradients["x"], 6.0)
