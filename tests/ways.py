"""One function, differentiated in all the ways that ought to give the same gradients."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import fungrad as fg

# Compilation takes nearly all of the time, and most of that the emitters of fused loops.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}
if jax.__version_info__ < (0, 11):  # later ones have no others
    QUICK["xla_cpu_use_fusion_emitters"] = False

save_nothing = partial(fg.vjp, save="nothing")


leaves = jax.tree.leaves


def is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def cotangent(out: Any) -> Any:
    """A gradient at every leaf of `out` that depends on it, so that second order sees both."""

    def of_leaf(x):
        if not is_float(x):
            return np.zeros(x.shape, jax.dtypes.float0)
        return (x + 1) * jnp.asarray(np.cos(1 + 3 * np.arange(x.size)).reshape(x.shape), x.dtype)

    return jax.tree.map(of_leaf, out)


def tangent(args: Any) -> Any:
    """A direction at every leaf of `args`."""
    return jax.tree.map(
        lambda x: jnp.cos(x) if is_float(x) else np.zeros(x.shape, jax.dtypes.float0), args
    )


def pulled(vjp: Callable, function: Callable) -> Callable:
    """args -> the gradients of its float leaves at `cotangent(out)`."""

    def gradients(*args):
        out, pullback = vjp(function, *args)
        leaves = jax.tree.leaves(pullback(cotangent(out)))
        return [g for g in leaves if g.dtype != jax.dtypes.float0]

    return gradients


def twice(vjp: Callable, function: Callable, inner: Callable | None = None) -> Callable:
    """args -> the gradients of the gradients."""
    return pulled(vjp, pulled(inner or vjp, function))


def ways(f: Callable, same: Callable) -> dict[str, tuple[Callable, Callable]]:
    """Each way of fungrad, a function of the arguments, with JAX's answer to the same question.

    JAX is asked of `same`, a function that does what f does.
    """

    def batched(function):
        return lambda *args: function(*jax.tree.map(lambda x: jnp.stack([x, x]), args))

    def pushed(function):
        return lambda *args: jax.jvp(function, args, tangent(args))

    inner = jax.jit(jax.checkpoint(f))
    first, second = pulled(jax.vjp, same), twice(jax.vjp, same)
    return {
        "as it is": (pulled(fg.vjp, f), first),
        "saving nothing": (pulled(save_nothing, f), first),
        "of jit of checkpoint": (pulled(fg.vjp, inner), first),
        "under vmap": (batched(jax.vmap(pulled(fg.vjp, f))), batched(jax.vmap(first))),
        "of vmap": (batched(pulled(fg.vjp, jax.vmap(f))), batched(pulled(jax.vjp, jax.vmap(same)))),
        "twice": (twice(fg.vjp, f), second),
        "jvp of it": (pushed(pulled(fg.vjp, f)), pushed(first)),
    }


def error(actual: Any, expected: Any) -> jax.Array:
    """The largest difference, relative to the largest entry of its array; types must be equal.

    An array a thousand times smaller than another one is a difference of rounding errors.
    """
    pairs = [*zip(leaves(actual), leaves(expected), strict=True)]
    assert all((x.shape, x.dtype) == (y.shape, y.dtype) for x, y in pairs)
    floats = [(x, y) for x, y in pairs if is_float(x)]
    if not floats:
        return jnp.zeros(())

    def largest(x):
        return jnp.max(jnp.abs(x), initial=0).astype(float)

    differences = jnp.stack([largest(x - y) for x, y in floats])
    sizes = jnp.stack([largest(y) for _, y in floats])
    far = jnp.max(differences / jnp.maximum(sizes, 1e-3 * jnp.maximum(jnp.max(sizes), 1)))
    return jnp.where(jnp.isnan(far), jnp.inf, far)


def assert_ways_agree(
    f: Callable,
    *args: Any,
    without: Sequence[str] = (),
    rtol: float = 1e-12,
    same: Callable | None = None,
) -> None:
    """All ways but `without` give JAX's gradients, and central differences the same slope.

    JAX's are those of f, or of `same`, which does what f does.

    All of it is one compiled program, and so a test of fungrad under `jax.jit` too.
    """
    args = jax.tree.map(jnp.asarray, args)
    chosen = {name: way for name, way in ways(f, same or f).items() if name not in without}

    def compare(args):
        found = {name: error(ours(*args), jaxs(*args)) for name, (ours, jaxs) in chosen.items()}
        return found, (0, 0) if "differences" in without else slopes(f, args)

    found, (slope, measured) = jax.jit(compare, compiler_options=QUICK)(args)
    wrong = {name: float(e) for name, e in found.items() if not e <= rtol}
    assert not wrong, f"errors, relative: {wrong}"
    np.testing.assert_allclose(slope, measured, rtol=1e-6, atol=1e-8)


def slopes(f: Callable, args: Any, step: float = 1e-5) -> tuple[jax.Array, jax.Array]:
    """g · J · t, once by fungrad's pullback and once by central differences along t."""
    direction = tangent(args)

    def along(h):
        return f(*jax.tree.map(lambda x, t: x + h * t if is_float(x) else x, args, direction))

    def inner(a, b):
        # Where there are complex numbers, g · t is a slope in its real part only.
        pairs = zip(leaves(a), leaves(b), strict=True)
        return sum((jnp.sum(x * y).real.astype(float) for x, y in pairs if is_float(y)), 0.0)

    out, pullback = fg.vjp(f, *args)
    g = cotangent(out)
    change = jax.tree.map(
        lambda a, b: (a - b) / (2 * step) if is_float(a) else a, along(step), along(-step)
    )
    return inner(pullback(g), direction), inner(g, change)
