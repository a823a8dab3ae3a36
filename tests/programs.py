"""Random programs: a strategy of instructions, and what each of them does.

A program is a list of instructions on a pool of float arrays of 0 to 3 axes, which begins with its
two arguments. An operation `(name, i, j, k)` reads two values of the pool (which ones, i and j say;
k chooses among its variants) and adds one. A holder `(name, instructions, i, j)` wraps a whole
program in a transformation, such as `scan`, and adds its two values. What a program returns is the
last two values, and others that are unused, integer, or constant.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st
from jax import lax
from jax import numpy as jnp
from jax import scipy as jsp

import fungrad as fg

Array = Any
policies = jax.checkpoint_policies
LARGEST = 24


# --- Shapes and sizes -----------------------------------------------------------------------------


def tame(z: Array) -> Array:
    """z between −1 and 1, so that no program overflows."""
    return z * lax.rsqrt(1 + z * z)


def fit(z: Array, shape: tuple[int, ...]) -> Array:
    """The entries of z, repeated or cut off, in another shape."""
    size = int(np.prod(shape))
    return jnp.resize(z, (size,)).reshape(shape) if z.size else jnp.zeros(shape)


def beside(a: Array, b: Array) -> Array:
    """b, in a shape that broadcasts against a's."""
    try:
        shape = jnp.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return jnp.mean(b)
    return b if np.prod(shape) <= LARGEST else jnp.mean(b)


def axis_of(a: Array, k: int) -> int:
    return k % a.ndim


def with_axis(a: Array) -> Array:
    return a if a.ndim else a[None]


def matrix(a: Array, b: Array, n: int = 3) -> Array:
    """A square matrix with eigenvalues that keep apart."""
    return jnp.diag(jnp.arange(1.0, n + 1)) + 0.2 * tame(jnp.outer(fit(a, (n,)), fit(b, (n,))))


def positive(a: Array, b: Array) -> Array:
    m = matrix(a, b)
    return m @ m.T + jnp.eye(3)


# --- Operations: (a, b, k) -> a value -------------------------------------------------------------

UNARY: list[Callable[[Array], Array]] = [
    jnp.sin, jnp.cos, jnp.tanh, jnp.abs, jnp.square, jnp.arctan, jnp.arcsinh, jnp.sinc,
    jnp.expm1, jnp.cbrt, jnp.negative, jax.nn.relu, jax.nn.silu, jax.nn.gelu, jax.nn.softplus,
    lambda a: jnp.exp(tame(a)), lambda a: jnp.log1p(a * a), lambda a: jnp.sqrt(1 + a * a),
    lambda a: lax.rsqrt(2 + jnp.sin(a)), lambda a: jnp.arcsin(0.9 * tame(a)), lambda a: a**3,
    lambda a: jnp.arctanh(0.9 * tame(a)), lambda a: jnp.tan(tame(a)), lambda a: jnp.exp2(tame(a)),
    lambda a: jnp.log2(2 + jnp.sin(a)), lambda a: a * jnp.sign(a), lambda a: a * jnp.floor(a),
    lambda a: a.astype(jnp.complex128).real, lambda a: lax.reduce_precision(a, 11, 52) * a,
]  # fmt: skip

SPECIAL: list[Callable[[Array, Array], Array]] = [
    lambda a, b: jsp.special.erf(a),
    lambda a, b: jsp.special.erfinv(0.9 * tame(a)),
    lambda a, b: jsp.special.gammaln(1 + a * a),
    lambda a, b: jsp.special.digamma(1 + a * a),
    lambda a, b: jsp.special.polygamma(1.0, 1 + a * a),
    lambda a, b: jsp.special.gammainc(1.5 + tame(a), 0.5 + b * b),
    lambda a, b: jsp.special.betainc(1.0, 2.0, 0.5 + 0.4 * tame(a)),
    lambda a, b: jsp.special.i0e(a) + jsp.special.i1e(b),
    lambda a, b: jsp.special.logit(0.5 + 0.4 * tame(a)),
    lambda a, b: jsp.special.xlogy(a, 1 + b * b),
    lambda a, b: jsp.special.zeta(2 + a * a, 1.5),
    lambda a, b: jsp.special.ndtri(0.5 + 0.4 * tame(a)),
]

BINARY: list[Callable[[Array, Array], Array]] = [
    jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, jnp.minimum, jnp.logaddexp, jnp.hypot,
    lambda a, b: a / (1 + b * b), lambda a, b: jnp.arctan2(a, 1 + b * b),
    lambda a, b: (1 + a * a) ** tame(b), lambda a, b: jnp.where(a > b, a * b, jnp.cos(b)),
    lambda a, b: jnp.clip(a, tame(b) - 1, 0.5), lambda a, b: jnp.fmod(a, 1 + b * b),
    lambda a, b: jnp.abs(lax.complex(*jnp.broadcast_arrays(1.5 + a, b))),
    lambda a, b: (jnp.exp(1j * a) * jnp.conj(1 + 1j * b)).imag, lambda a, b: jnp.copysign(a, b),
    lambda a, b: jnp.angle(2 + tame(a) + 1j * b), lambda a, b: a * lax.stop_gradient(b),
]  # fmt: skip

REDUCTIONS: list[Callable[..., Array]] = [
    jnp.sum, jnp.mean, jnp.max, jnp.min, jnp.prod, jnp.var, jsp.special.logsumexp, jnp.median,
    lambda a, axis, **keep: jnp.sqrt(1 + jnp.sum(a * a, axis, **keep)),
    lambda a, axis, **keep: jnp.argmax(a, axis, **keep) * jnp.max(a, axis, **keep),
]  # fmt: skip

ALONG: list[Callable[[Array, int], Array]] = [
    jnp.cumsum, lambda a, axis: jnp.cumprod(tame(a), axis), lax.cummax, lax.cumlogsumexp,
    partial(lax.cummin, reverse=True), jnp.sort, jnp.flip, jax.nn.softmax, jax.nn.log_softmax,
    lambda a, axis: jnp.roll(a, 1, axis), lambda a, axis: jnp.concatenate([a, a * a], axis),
    lambda a, axis: jnp.repeat(a, 2, axis), lambda a, axis: jnp.diff(a, axis=axis, append=1.0),
    lambda a, axis: jnp.take(a, jnp.array([0, -1, 0]), axis, mode="wrap"),
    lambda a, axis: jnp.take_along_axis(a, jnp.argsort(-a, axis), axis),
    lambda a, axis: lax.associative_scan(lambda x, y: tame(x * y + x), a, axis=axis),
    lambda a, axis: lax.slice_in_dim(a, 0, None, 2, axis),
    lambda a, axis: lax.dynamic_slice_in_dim(a, jnp.argmax(a), 1, axis),
    lambda a, axis: jnp.abs(jnp.fft.fft(a, axis=axis) + 3), jnp.moveaxis,
    lambda a, axis: jnp.fft.irfft(jnp.fft.rfft(a, axis=axis) * (1 + 1j), n=3, axis=axis),
    lambda a, axis: lax.top_k(jnp.moveaxis(a, axis, -1), 1)[0],
]  # fmt: skip
ALONG[ALONG.index(jnp.moveaxis)] = lambda a, axis: jnp.moveaxis(a, axis, 0)

SHAPES: list[Callable[[Array], Array]] = [
    jnp.ravel, jnp.transpose, jnp.squeeze, lambda a: a[None], lambda a: a[..., None],
    lambda a: jnp.tile(a, 2), lambda a: jnp.pad(a, 1, constant_values=0.5),
    lambda a: jnp.stack([a, tame(a)], -1), lambda a: jnp.broadcast_to(a, (2, *a.shape)),
    lambda a: lax.pad(with_axis(a), 0.5, [(1, -1, 1)] + [(0, 0, 0)] * (with_axis(a).ndim - 1)),
]  # fmt: skip

CONTRACTIONS: list[Callable[[Array, Array], Array]] = [
    lambda a, b: jnp.dot(a.ravel(), fit(b, (a.size,))),
    lambda a, b: jnp.outer(a.ravel()[:3], b.ravel()[:3]),
    lambda a, b: with_axis(a) @ fit(b, (with_axis(a).shape[-1], 2)),
    lambda a, b: jnp.einsum("nij,njk->nik", fit(a, (2, 2, 3)), fit(b, (2, 3, 2))),
    lambda a, b: jnp.tensordot(fit(a, (2, 3)), fit(b, (3, 2)), 2),
    lambda a, b: jnp.convolve(a.ravel(), fit(b, (2,)), mode="same"),
    lambda a, b: lax.conv(fit(a, (1, 2, 4)), fit(b, (2, 2, 2)), (1,), "SAME")[0],
    lambda a, b: lax.conv_general_dilated(
        fit(a, (1, 4, 2)), fit(b, (2, 1, 2)), (2,), [(1, 1)], feature_group_count=2,
        dimension_numbers=("NWC", "WIO", "NWC"),
    )[0],
    lambda a, b: lax.reduce_window(fit(a, (4,)), -jnp.inf, lax.max, (2,), (1,), "SAME") * b.sum(),
]  # fmt: skip

PLACES: list[Callable[[Array, Array], Array]] = [
    lambda a, b: a.at[jnp.array([0, -1])].add(jnp.mean(b)),
    lambda a, b: a.at[0].set(jnp.mean(b)),
    lambda a, b: a.at[jnp.array([0, 0, 1])].multiply(1 + tame(b.ravel()[0])),
    lambda a, b: a.at[..., -1].max(jnp.max(b)),
    lambda a, b: a.at[jnp.array([9, 0])].get(mode="fill", fill_value=0.5),
    lambda a, b: a.at[jnp.array([9])].set(jnp.mean(b), mode="drop"),
    lambda a, b: jax.ops.segment_sum(a, jnp.arange(len(a)) // 2, 3),
    lambda a, b: a[jnp.argsort(a.reshape(len(a), -1)[:, 0])],
    lambda a, b: lax.dynamic_update_index_in_dim(a, jnp.full(a.shape[1:], jnp.min(b)), 0, 0),
]

LINEAR: list[Callable[[Array, Array], Array]] = [
    lambda a, b: jnp.linalg.solve(matrix(a, b), fit(b, (3,))),
    lambda a, b: jnp.linalg.inv(matrix(a, b)),
    lambda a, b: jnp.linalg.slogdet(matrix(a, b))[1],
    lambda a, b: jnp.linalg.det(matrix(a, b)),
    lambda a, b: jnp.linalg.cholesky(positive(a, b)),
    lambda a, b: jnp.linalg.qr(matrix(a, b))[1],
    lambda a, b: jnp.linalg.eigvalsh(positive(a, b)),
    lambda a, b: jnp.linalg.svd(matrix(a, b), compute_uv=False),
    lambda a, b: jnp.linalg.norm(1 + fit(a, (2, 2))),
    lambda a, b: jnp.linalg.pinv(1 + matrix(a, b)[:2]),
    lambda a, b: jsp.linalg.expm(0.3 * matrix(a, b, 2)),
    lambda a, b: jsp.linalg.solve_triangular(matrix(a, b), fit(b, (3, 1)), lower=True),
    lambda a, b: jsp.linalg.cho_solve(jsp.linalg.cho_factor(positive(a, b)), fit(b, (3,))),
    lambda a, b: jsp.sparse.linalg.cg(lambda v: positive(a, b) @ v, fit(b, (3,)))[0],
]

OTHER: list[Callable[[Array, Array], Array]] = [
    lambda a, b: fg.name(jnp.sin(a), "h"),
    lambda a, b: a * jax.random.normal(jax.random.key(0), a.shape, float),
    lambda a, b: lax.optimization_barrier((a, b))[0] * 2,
    lambda a, b: jnp.vectorize(lambda x, y: x * jnp.sin(y))(a, beside(a, b)),
    lambda a, b: lax.while_loop(lambda c: c < 4.0, lambda c: c + 1.0, lax.stop_gradient(a.sum())),
    lambda a, b: lax.map(lambda t: t * jnp.mean(b), with_axis(a)),
    lambda a, b: jnp.full(2, 0.5),
    lambda a, b: jnp.piecewise(a, [a < 0, a > 0.5], [jnp.sin, lambda t: t * t, 0.3]),
]  # fmt: skip

OPERATIONS: dict[str, Callable[[Array, Array, int], Array]] = {
    "unary": lambda a, b, k: UNARY[k % len(UNARY)](a),
    "binary": lambda a, b, k: BINARY[k % len(BINARY)](a, beside(a, b)),
    "special": lambda a, b, k: SPECIAL[k % len(SPECIAL)](a, beside(a, b)),
    "reduction": lambda a, b, k: REDUCTIONS[k % len(REDUCTIONS)](
        a, axis=axis_of(a, k // 16) if a.ndim else None, keepdims=k % 3 == 0
    ),
    "along": lambda a, b, k: ALONG[k % len(ALONG)](with_axis(a), axis_of(with_axis(a), k // 32)),
    "shape": lambda a, b, k: SHAPES[k % len(SHAPES)](a),
    "contraction": lambda a, b, k: CONTRACTIONS[k % len(CONTRACTIONS)](a, b),
    "place": lambda a, b, k: PLACES[k % len(PLACES)](jnp.concatenate([with_axis(a)] * 2), b),
    "linear": lambda a, b, k: LINEAR[k % len(LINEAR)](a, b),
    "other": lambda a, b, k: OTHER[k % len(OTHER)](a, b),
}


# --- Holders: a function of two arrays -> another one, of the same shapes -------------------------


def with_vjp(f):
    own = jax.custom_vjp(f)
    own.defvjp(lambda *p: (f(*p), p), lambda p, g: jax.vjp(f, *p)[1](g))
    return own


def with_jvp(f):
    own = jax.custom_jvp(f)
    own.defjvp(lambda p, t: jax.jvp(f, p, t))
    return own


def with_status(f):
    """A rule that asks a program for the tangent, which says besides how that went."""

    @jax.jit
    def solve(tangents):
        return tangents, jnp.sum(jnp.sign(tangents[0])).astype(int)

    own = jax.custom_jvp(f)

    @own.defjvp
    def _(p, t):
        out, tangents = jax.jvp(f, p, t)
        return out, solve(tangents)[0]

    return own


def with_fungrads(f):
    return fg.custom(f, lambda g, out, a, b: fg.vjp(f, a, b)[1](g))


def scanned(f):
    def function(a, b):
        times = jnp.array([1.0, -0.5, 0.7])
        (a, b), ys = lax.scan(lambda c, t: (f(c[0], c[1] * t), c[0] * t), (a, b), times)
        return a + jnp.sum(ys, 0), b

    return function


def gradient_of(grad):
    def holder(f):
        return grad(lambda a, b: sum(jnp.sum(jnp.sin(z)) for z in f(a, b)), (0, 1))

    return holder


def closing_over(f):
    def function(a, b):
        return fg.grad(lambda t: jnp.sum(f(t * a, b)[0]) * jnp.mean(b))(0.7) * a, b

    return function


def vmapped(f):
    def function(a, b):
        a, b = jax.vmap(lambda t: f(a * t, b))(jnp.array([1.0, 0.5]))
        return a[0] + a[1], b[1]

    return function


HOLDERS: dict[str, Callable[..., Any]] = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "checkpoint, names": partial(jax.checkpoint, policy=policies.save_only_these_names("h")),
    "checkpoint, dots": partial(jax.checkpoint, policy=policies.dots_saveable),
    "scan": scanned,
    "no steps": lambda f: lambda a, b: lax.fori_loop(0, 0, lambda _, c: f(*c), (a, b)),
    "fori_loop": lambda f: lambda a, b: lax.fori_loop(0, 2, lambda _, c: f(*c), (a, b)),
    "cond": lambda f: lambda a, b: lax.cond(jnp.sum(a) > 0.2, f, lambda a, b: (a * a, b), a, b),
    "switch": lambda f: (
        lambda a, b: lax.switch(
            (3 * jnp.sum(b)).astype(int),
            [f, lambda a, b: (-a, b), lambda a, b: f(b.mean() * a, b)],
            *(a, b),
        )
    ),
    "vmap": vmapped,
    "custom_jvp": with_jvp,
    "custom_jvp, status": with_status,
    "custom_vjp": with_vjp,
    "fg.custom": with_fungrads,
    "fg.grad": gradient_of(fg.grad),
    "fg.grad, saving nothing": gradient_of(partial(fg.grad, save="nothing")),
    "jax.grad": gradient_of(jax.grad),
    "closing over": closing_over,
    "jvp": lambda f: lambda a, b: jax.jvp(f, (a, b), (jnp.cos(a), jnp.sin(b)))[1],
}


# --- Programs -------------------------------------------------------------------------------------


def run(instructions: list[Any], a: Array, b: Array) -> list[Array]:
    """The pool at the end."""
    pool = [a, b]
    for name, what, i, j in instructions:
        first, second = pool[i % len(pool)], pool[j % len(pool)]
        if name in OPERATIONS:
            out = OPERATIONS[name](first, second, what)
            pool.append(out if 0 < out.size <= LARGEST else fit(out, (3, 2)))
        else:
            pool.extend(HOLDERS[name](as_function(what))(first, second))
    return pool


def as_function(instructions: list[Any]) -> Callable[..., tuple[Array, Array]]:
    """A function of two arrays that returns two of the same shapes."""

    def function(a, b):
        *_, y, z = run(instructions, a, b)
        return fit(tame(z), a.shape), fit(tame(y + a.mean()), b.shape)

    return function


def as_program(instructions: list[Any]) -> Callable[..., Any]:
    """A function of trees; of its results some are unused, of integers, and constant."""

    def function(inputs, b):
        a = inputs["a"][0]
        *_, y, z = run(instructions, a, b)
        return {"z": tame(z), "y": [tame(y), None], "n": jnp.sum(z > 0), "c": np.ones(2), "b": b}

    return function


def instructions(holders: Any) -> Any:
    index = st.integers(0, 7)
    operation = st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 127), index, index)
    inside = st.recursive(
        operation,
        lambda inner: st.tuples(holders, st.lists(inner, min_size=1, max_size=2), index, index),
        max_leaves=3,
    )
    return st.lists(inside, min_size=1, max_size=4)


programs = instructions(st.sampled_from(sorted(HOLDERS)))
"""The strategy of programs."""

shapes = st.sampled_from([(), (3,), (2, 3), (3, 1), (2, 1, 2), (1,), (2, 3, 1)])
"""The strategy of their arguments' shapes."""
