"""Many cases of a primitive in one compiled program: fungrad's gradients against JAX's."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.ways import QUICK

STRICT = fg.rules.replace({}, strict=True)  # a primitive without a rule of ours is an error

rng = np.random.default_rng(0)


def normal(*shape, dtype=float):
    return jnp.asarray(rng.normal(size=shape), dtype)


def complex_normal(*shape):
    return lax.complex(normal(*shape), normal(*shape))


def tied(*shape):
    """Few distinct values, so that most extrema are ties."""
    return jnp.asarray(rng.integers(0, 3, shape), float)


def ours(function, *args):
    return fg.vjp(function, *args, rules=STRICT)


def gradient(vjp: Callable, function: Callable, times: int = 1) -> Callable:
    """args -> their gradients, at a cotangent that depends on the output; `times` in a row."""
    if times > 1:
        return gradient(vjp, gradient(vjp, function, times - 1))

    def of(*args):
        out, pullback = vjp(function, *args)
        gradients = pullback(jax.tree.map(cotangent, out))
        return [g for g in gradients if g.dtype != jax.dtypes.float0]

    return of


def cotangent(out):
    if not jnp.issubdtype(out.dtype, jnp.inexact):
        return np.zeros(out.shape, jax.dtypes.float0)
    weights = np.cos(1 + 3 * np.arange(out.size)).reshape(out.shape)
    finite = jnp.where(jnp.isfinite(out), out, jnp.zeros_like(out))
    return (finite + 1) * jnp.asarray(weights, out.dtype)


def errors(cases: Sequence[tuple], times: int = 1, batched: bool = False) -> np.ndarray:
    """For each case (function, *args) the largest error, relative to the largest entry."""

    def compare(all_args):
        return jnp.stack([_error(f, args) for (f, *_), args in zip(cases, all_args, strict=True)])

    def _error(function, args):
        got, want = gradient(ours, function, times), gradient(jax.vjp, function, times)
        if batched:
            got, want = jax.vmap(got), jax.vmap(want)
        worst = jnp.zeros(())
        for a, b in zip(got(*args), want(*args), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            scale = jnp.max(jnp.abs(b), initial=1e-3)
            error = jnp.max(jnp.abs(a - b), initial=0) / scale
            worst = jnp.maximum(worst, error.astype(worst.dtype))
        return worst

    all_args = [tuple(args) for _, *args in cases]
    return np.asarray(jax.jit(compare, compiler_options=QUICK)(all_args))


def assert_agree(cases: Sequence[tuple], times: int = 1, batched: bool = False, rtol=1e-12):
    cases = list(cases)
    assert cases
    found = errors(cases, times, batched)
    wrong = [(error, case) for error, case in zip(found, cases, strict=True) if not error <= rtol]
    assert not wrong, f"{len(wrong)} of {len(cases)} cases disagree, among them {wrong[:3]}"


def assert_differences(function: Callable, *args, rtol=1e-7, step=1e-5):
    """g · J · v against central differences in a direction v."""
    directions = [
        jnp.asarray(np.sin(1 + np.arange(a.size)).reshape(a.shape), a.dtype) for a in args
    ]

    @partial(jax.jit, compiler_options=QUICK)
    def both(*args):
        def along(t):
            return function(*(a + t * v for a, v in zip(args, directions, strict=True)))

        out, pullback = ours(function, *args)
        g = cotangent(out)
        got = sum(jnp.sum(a * v) for a, v in zip(pullback(g), directions, strict=True))
        return got, jnp.sum(g * (along(step) - along(-step))) / (2 * step)

    got, want = both(*args)
    np.testing.assert_allclose(got, want, rtol=rtol)


def stacked(cases: Sequence[tuple]) -> list[tuple]:
    """The same cases with a batch of two of every argument."""
    return [
        (f, *(jnp.stack([a, a[..., ::-1] if a.ndim else a]) for a in args)) for f, *args in cases
    ]
