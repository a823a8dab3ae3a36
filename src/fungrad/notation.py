"""The lecture's matrix calculus on arrays: vec, Kronecker products, explicit Jacobians.

Gradients are rows and matrices are flattened row by row (docs/conventions.md): the Jacobian of
y[m] by x[n] is [m × n], row i belongs to output i, and the chain rule reads left to right,

    ∂z/∂x = ∂z/∂u · ∂u/∂x        g_in = g_out · ∂out/∂in.

Nothing here is needed to differentiate: rules never build these matrices. They are for reading
a derivation, for checking a rule, and for exercises.

    vec(W) unvec(v, shape) kron(A, B) diag(v)         the operators
    as_matrix(J, outputs)                             an array of derivatives as its [m × n]
    row(x) column(x) size(x)                          how a page writes them
    lecture_layout(g) update(W, derivative, eta)      ∂J/∂W as [n × m], and its step
    linear_jacobians product_jacobians elementwise_jacobian softmax_jacobian
    log_softmax_jacobian cross_entropy_jacobian squared_norm_jacobian

All functions are pure, keep the dtype of their input, and work under jit, vmap and grad.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

__all__ = [
    "LinearJacobians",
    "ProductJacobians",
    "as_matrix",
    "column",
    "cross_entropy_jacobian",
    "diag",
    "elementwise_jacobian",
    "kron",
    "lecture_layout",
    "linear_jacobians",
    "log_softmax_jacobian",
    "product_jacobians",
    "row",
    "size",
    "softmax_jacobian",
    "squared_norm_jacobian",
    "unvec",
    "update",
    "vec",
]


# ---- operators -----------------------------------------------------------------------------------


def vec(W: ArrayLike) -> jax.Array:
    """vec(W)[i n + j] = W[i, j]: the rows of W[m, n], one after the other, as a vector [m n].

    Arrays of any rank are flattened the same way, the last axis fastest.

    >>> vec([[1, 2, 3], [4, 5, 6]]).tolist()
    [1, 2, 3, 4, 5, 6]
    """
    return jnp.ravel(jnp.asarray(W))


def unvec(v: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """The array of the given shape whose rows stand one after the other in v: unvec(vec(W)) = W.

    Raises:
        ValueError: v is not a vector, or its length is not the number of entries of `shape`.

    >>> unvec([1, 2, 3, 4, 5, 6], (2, 3)).tolist()
    [[1, 2, 3], [4, 5, 6]]
    """
    v = _vector("unvec", "v", v)
    if v.size != math.prod(shape):
        raise ValueError(
            f"unvec: v has {v.size} entries, but an array {_size(shape)} has "
            f"{math.prod(shape)}; give the shape of the array that was flattened"
        )
    return v.reshape(shape)


def kron(A: ArrayLike, B: ArrayLike) -> jax.Array:
    """A ⊗ B: the blocks A[i, j] B. A[m, n] and B[p, q] give [m p × n q].

    With rows stacked, vec(A X B) = (A ⊗ Bᵀ) vec(X).

    Raises:
        ValueError: A or B is not a matrix.

    >>> kron([[1, 2]], [[1, 0], [0, 1]]).tolist()
    [[1, 0, 2, 0], [0, 1, 0, 2]]
    """
    A, B = _matrix("kron", "A", A), _matrix("kron", "B", B)
    (m, n), (p, q) = A.shape, B.shape
    return (A[:, None, :, None] * B[None, :, None, :]).reshape(m * p, n * q)


def diag(v: ArrayLike) -> jax.Array:
    """diag(v)[i, j] = v[i] if i = j, else 0: a vector [n] gives a matrix [n × n].

    Raises:
        ValueError: v is not a vector.

    >>> diag([1, 2]).tolist()
    [[1, 0], [0, 2]]
    """
    return jnp.diag(_vector("diag", "v", v))


# ---- how a page writes them ----------------------------------------------------------------------


def as_matrix(J: ArrayLike, outputs: tuple[int, ...]) -> jax.Array:
    """∂vec(y)/∂vec(x) as [m × n], from an array of derivatives J of shape y.shape + x.shape.

    `jax.jacrev` and `fungrad.jacrev` return such arrays; `outputs` is y.shape.

    Raises:
        ValueError: the shape of J does not begin with `outputs`.

    >>> A = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> J = jax.jacrev(lambda A: A @ A)(A)
    >>> J.shape, as_matrix(J, A.shape).shape
    ((2, 2, 2, 2), (4, 4))
    """
    J, outputs = jnp.asarray(J), tuple(outputs)
    if J.shape[: len(outputs)] != outputs:
        raise ValueError(
            f"as_matrix: J has shape {J.shape}, which does not begin with the outputs' shape "
            f"{outputs}; a derivative of y by x has shape y.shape + x.shape"
        )
    return J.reshape(math.prod(outputs), math.prod(J.shape[len(outputs) :]))


def row(x: ArrayLike) -> jax.Array:
    """vec(x)ᵀ as a matrix [1 × n]: how a gradient of a scalar is written.

    >>> row([1, 2]).tolist()
    [[1, 2]]
    """
    return vec(x)[None, :]


def column(x: ArrayLike) -> jax.Array:
    """vec(x) as a matrix [n × 1]: how a value is written.

    >>> column([1, 2]).tolist()
    [[1], [2]]
    """
    return vec(x)[:, None]


def size(x: Any) -> str:
    """The size of an array, or of anything that has a shape, as the lecture writes it.

    >>> size([[1, 2, 3], [4, 5, 6]]), size([1, 2, 3]), size(0.5), size(jnp.zeros((4, 0)))
    ('[2 × 3]', '[3]', '[1]', '[4 × 0]')
    """
    return _size(x.shape if hasattr(x, "shape") else np.shape(x))


def lecture_layout(g: ArrayLike) -> jax.Array:
    """∂J/∂W in the lecture's layout: for W[m, n] the matrix [n × m], for x[n] the row [1 × n].

    `g` is the gradient as every transform hands it back, with the shape of W. Only pages use this
    layout; arrays never travel in it.

    Raises:
        ValueError: g has more than two axes, where the lecture has no layout.

    >>> lecture_layout([[1, 2, 3], [4, 5, 6]]).tolist()
    [[1, 4], [2, 5], [3, 6]]
    >>> lecture_layout([1, 2, 3]).tolist()
    [[1, 2, 3]]
    """
    g = jnp.asarray(g)
    if g.ndim > 2:
        raise ValueError(
            f"lecture_layout: g has {g.ndim} axes {size(g)}, expected at most 2; "
            "write a longer array as row(g)"
        )
    return g.T if g.ndim == 2 else row(g)


def update(W: ArrayLike, derivative: ArrayLike, eta: float) -> jax.Array:
    """W + η (∂J/∂W)ᵀ, with ∂J/∂W in the lecture's layout; η < 0 descends.

    Raises:
        ValueError: `derivative` is not of the size that `lecture_layout` gives for W.

    >>> W, derivative = jnp.array([[1.0, -1.0]]), jnp.array([[2.0], [4.0]])
    >>> update(W, derivative, eta=-0.25).tolist()
    [[0.5, -2.0]]
    """
    W, derivative = jnp.asarray(W), jnp.asarray(derivative)
    expected = W.shape[::-1] if W.ndim == 2 else (1, W.size)
    if W.ndim > 2 or derivative.shape != expected:
        raise ValueError(
            f"update: W {size(W)} needs ∂J/∂W of size {_size(expected)}, but the derivative "
            f"is {size(derivative)}; lecture_layout(gradient) gives that size"
        )
    return W + eta * derivative.T.reshape(W.shape)


# ---- Jacobians of the standard steps -------------------------------------------------------------


class LinearJacobians(NamedTuple):
    """The Jacobians of z = W x + b by each of its inputs."""

    x: jax.Array
    W: jax.Array
    b: jax.Array


def linear_jacobians(W: ArrayLike, x: ArrayLike) -> LinearJacobians:
    """z = W x + b = (I ⊗ xᵀ) vec(W) + b, with W[m, n], x[n], b[m].

    ∂z/∂x = W [m × n]        ∂z/∂vec(W) = I ⊗ xᵀ [m × m n]        ∂z/∂b = I [m × m]

    Raises:
        ValueError: W is not a matrix, x not a vector, or x is not as long as a row of W.

    >>> by = linear_jacobians([[1, 2, 3], [4, 5, 6]], [7, 8, 9])
    >>> by.W.tolist()
    [[7, 8, 9, 0, 0, 0], [0, 0, 0, 7, 8, 9]]
    """
    W, x = _matrix("linear_jacobians", "W", W), _vector("linear_jacobians", "x", x)
    (m, n) = W.shape
    if x.size != n:
        raise ValueError(
            f"linear_jacobians: x has {x.size} entries, but W {size(W)} takes {n}; "
            "z = W x needs one entry per column of W"
        )
    identity = jnp.eye(m, dtype=W.dtype)
    return LinearJacobians(x=W, W=kron(jnp.eye(m, dtype=x.dtype), row(x)), b=identity)


class ProductJacobians(NamedTuple):
    """The Jacobians of a matrix product A B by each of its factors."""

    A: jax.Array
    B: jax.Array


def product_jacobians(A: ArrayLike, B: ArrayLike) -> ProductJacobians:
    """Z = A B with A[m, p], B[p, n], by its two factors, all of them flattened by rows.

    ∂vec(Z)/∂vec(A) = I ⊗ Bᵀ [m n × m p]        ∂vec(Z)/∂vec(B) = A ⊗ I [m n × p n]

    Raises:
        ValueError: A or B is not a matrix, or A has not one column per row of B.

    >>> by = product_jacobians([[1, 2]], [[3], [4]])
    >>> by.A.tolist(), by.B.tolist()
    ([[3, 4]], [[1, 2]])
    """
    A, B = _matrix("product_jacobians", "A", A), _matrix("product_jacobians", "B", B)
    (m, p), (q, n) = A.shape, B.shape
    if p != q:
        raise ValueError(
            f"product_jacobians: A {size(A)} has {p} columns, but B {size(B)} has {q} rows; "
            "A B needs as many of one as of the other"
        )
    return ProductJacobians(
        A=kron(jnp.eye(m, dtype=B.dtype), B.T),
        B=kron(A, jnp.eye(n, dtype=A.dtype)),
    )


def elementwise_jacobian(slope: ArrayLike) -> jax.Array:
    """z = f(x) entry by entry: ∂vec(z)/∂vec(x) = diag(f'(x)), from the slopes f'(x).

    >>> elementwise_jacobian([1.0, 0.0]).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    return diag(vec(slope))


def softmax_jacobian(p: ArrayLike) -> jax.Array:
    """p = softmax(s): ∂p/∂s = diag(p) − p pᵀ [n × n], from the probabilities p[n].

    Raises:
        ValueError: p is not a vector.

    >>> softmax_jacobian([0.5, 0.5]).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    p = _vector("softmax_jacobian", "p", p)
    return diag(p) - column(p) * row(p)


def log_softmax_jacobian(p: ArrayLike) -> jax.Array:
    """q = log softmax(s): ∂q/∂s = I − 1 pᵀ [n × n], from the probabilities p[n] = exp(q).

    Raises:
        ValueError: p is not a vector.

    >>> log_softmax_jacobian([0.25, 0.75]).tolist()
    [[0.75, -0.75], [-0.25, 0.25]]
    """
    p = _vector("log_softmax_jacobian", "p", p)
    return jnp.eye(p.size, dtype=p.dtype) - row(p)


def cross_entropy_jacobian(p: ArrayLike, y: ArrayLike) -> jax.Array:
    """l = −log(yᵀ p): ∂l/∂p = −yᵀ / (yᵀ p) [1 × n], from probabilities p[n] and a one-hot y[n].

    Behind a softmax it shortens to ∂l/∂s = −yᵀ/(yᵀ p) · (diag(p) − p pᵀ) = pᵀ − yᵀ.

    Raises:
        ValueError: p or y is not a vector, or they differ in length.

    >>> cross_entropy_jacobian([0.25, 0.75], [1.0, 0.0]).tolist()
    [[-4.0, -0.0]]
    """
    p, y = _vector("cross_entropy_jacobian", "p", p), _vector("cross_entropy_jacobian", "y", y)
    if p.size != y.size:
        raise ValueError(
            f"cross_entropy_jacobian: y has {y.size} entries, but p has {p.size}; "
            "y is one-hot, with one entry per class"
        )
    return -row(y) / (y @ p)


def squared_norm_jacobian(W: ArrayLike) -> jax.Array:
    """r = Σ W²: ∂r/∂vec(W) = 2 vec(W)ᵀ [1 × m n].

    >>> squared_norm_jacobian([[1, 2], [3, 4]]).tolist()
    [[2, 4, 6, 8]]
    """
    return 2 * row(W)


# ---- sizes and errors ----------------------------------------------------------------------------


def _size(shape: tuple[int, ...]) -> str:
    return f"[{' × '.join(map(str, shape)) or '1'}]"


def _vector(function: str, name: str, x: ArrayLike) -> jax.Array:
    return _with_axes(function, name, x, 1, "a vector [n]; flatten it first with vec")


def _matrix(function: str, name: str, x: ArrayLike) -> jax.Array:
    return _with_axes(function, name, x, 2, "a matrix [m × n]; row and column make one of a vector")


def _with_axes(function: str, name: str, x: ArrayLike, axes: int, expected: str) -> jax.Array:
    x = jnp.asarray(x)
    if x.ndim != axes:
        raise ValueError(f"{function}: {name} has shape {x.shape}, expected {expected}")
    return x
