"""Gradients that are averaged over inputs: around one, and on the way to one.

Both take `rules=`, and average what `grad` returns under it. The inputs are visited one after the
other, in a scan: memory does not grow with their number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import tree_leaves, tree_map, tree_structure, tree_unflatten

from fungrad import _jax
from fungrad.rulebook import Rulebook
from fungrad.transforms import as_indices, grad

__all__ = ["integrated_gradients", "smooth_gradient"]


def smooth_gradient(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    noise: float,
    samples: int,
    key: Any,
    rules: Rulebook | None = None,
) -> Callable[..., Any]:
    """The mean gradient around an input: E ∂J/∂x at x + σ n, n ~ N(0, I)  [smilkov2017].

    Args:
        fun: a function whose output is a real scalar.
        argnums: the positional argument, or several, to differentiate with respect to. Noise is
            added to these.
        noise: σ, in units of x.
        samples: how many inputs the mean is taken over.
        key: a key of `jax.random`.
        rules: the rulebook; `None` is `fungrad.rules`.

    Returns:
        A function of the arguments of `fun` that returns the mean gradient, as `grad` does.

    Raises:
        ValueError: `noise` is negative, or `samples` is no positive integer.
        TypeError: when called: as for `grad`.

    >>> import fungrad as fg
    >>> import jax
    >>> key = jax.random.key(0)
    >>> smooth = fg.smooth_gradient(lambda x: x**2, noise=0.1, samples=100, key=key)
    >>> bool(abs(smooth(3.0) - 6.0) < 0.1)
    True
    """
    if isinstance(noise, int | float) and not 0 <= noise < float("inf"):
        raise ValueError(f"noise must be a number that is not negative, got {noise!r}")
    samples = _count("samples", samples)
    places = _places(argnums)
    gradient = grad(fun, argnums, rules=rules)

    @_named_after(fun)
    def smooth(*args, **kwargs):
        def at(sample):
            own = jax.random.fold_in(key, sample)
            keys = jax.random.split(own, len(places))
            noisy = {i: _noisy(k, args[i], noise) for k, i in zip(keys, places, strict=True)}
            return gradient(*_with(args, noisy), **kwargs)

        total = _summed(at, jnp.arange(samples))
        return tree_map(lambda g: g / samples, total)

    return smooth


def integrated_gradients(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    baseline: Any = None,
    steps: int = 32,
    rules: Rulebook | None = None,
) -> Callable[..., Any]:
    """(x − x₀) ⊙ ∫₀¹ ∂J/∂x at x₀ + t (x − x₀) dt  [sundararajan2017].

    The entries sum to J(x) − J(x₀), up to the error of the quadrature: Gauss and Legendre's with
    `steps` points, exact where J is a polynomial of degree 2 · steps in t. Under other rules
    than the usual ones the integrand is no gradient, and the sum means nothing.

    Args:
        fun: a function whose output is a real scalar.
        argnums: the positional argument, or several, to differentiate with respect to.
        baseline: x₀, in the structure of the argument, or a tuple with one entry for each of
            several; arrays that broadcast to its leaves, or one number for all; `None` is 0.
        steps: at how many points the gradient is taken.
        rules: the rulebook; `None` is `fungrad.rules`.

    Returns:
        A function of the arguments of `fun` that returns attributions, as `grad` returns
        gradients: in the structure, shapes and dtypes of the arguments.

    Raises:
        ValueError: `steps` is no positive integer; when called: the baseline has another
            structure than the argument, or does not broadcast to it.
        TypeError: when called: as for `grad`.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> shares = fg.integrated_gradients(lambda x: jnp.prod(x))(jnp.array([2.0, 3.0]))
    >>> [round(float(share), 5) for share in shares]
    [3.0, 3.0]
    """
    points, weights = np.polynomial.legendre.leggauss(_count("steps", steps))
    places = _places(argnums)
    gradient = grad(fun, argnums, rules=rules)

    @_named_after(fun)
    def integrated(*args, **kwargs):
        chosen = tuple(args[i] for i in places)
        given = (baseline,) if len(places) == 1 and not isinstance(argnums, Sequence) else baseline
        start = _baseline(chosen, given)
        way = tree_map(lambda x, x0: jnp.asarray(x) - x0, chosen, start)

        def at(node):
            t, weight = node
            here = tree_map(lambda x0, d: x0 + t.astype(d.dtype) * d, start, way)
            g = gradient(*_with(args, dict(zip(places, here, strict=True))), **kwargs)
            return tree_map(lambda g: weight.astype(g.dtype) * g, g)

        mean = _summed(at, ((1 + jnp.asarray(points)) / 2, jnp.asarray(weights) / 2))
        ways = way if isinstance(argnums, Sequence) else way[0]
        return tree_map(lambda g, d: g * d, mean, ways)

    return integrated


# --- Arguments --------------------------------------------------------------------------------


def _count(name: str, value: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return count


def _places(argnums: int | Sequence[int]) -> tuple[int, ...]:
    indices = as_indices(argnums)
    return indices if isinstance(indices, tuple) else (indices,)


def _with(args: Sequence[Any], others: dict[int, Any]) -> list[Any]:
    """The arguments, with others at some places."""
    whole = list(args)
    for place, value in others.items():
        whole[place] = value
    return whole


def _noisy(key: Any, argument: Any, noise: Any) -> Any:
    """x + σ n, for every array of floats in an argument; what is none is left for `grad`."""
    leaves = tree_leaves(argument)
    keys = jax.random.split(key, max(1, len(leaves)))
    noisy = [_moved(k, x, noise) for k, x in zip(keys, leaves, strict=False)]
    return tree_unflatten(tree_structure(argument), noisy)


def _moved(key: Any, x: Any, noise: Any) -> Any:
    x = jnp.asarray(_jax.argument(x))
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return x + jnp.asarray(noise, x.dtype) * jax.random.normal(key, x.shape, x.dtype)


def _baseline(chosen: Any, given: Any) -> Any:
    """The baseline in the structure and with the types of the arguments."""
    leaves, tree = tree_leaves(chosen), tree_structure(chosen)
    if given is None or given == (None,):
        given = tree_unflatten(tree, [0] * len(leaves))
    elif len(tree_leaves(given)) == 1 and np.ndim(tree_leaves(given)[0]) == 0:
        given = tree_unflatten(tree, tree_leaves(given) * len(leaves))
    if tree_structure(given) != tree:
        raise ValueError(
            f"baseline must have the structure of what is differentiated, {tree}, got "
            f"{tree_structure(given)}"
        )
    pairs = zip(leaves, tree_leaves(given), strict=True)
    return tree_unflatten(tree, [_broadcast(x0, jnp.asarray(x)) for x, x0 in pairs])


def _broadcast(x0: Any, x: Any) -> Any:
    try:
        return jnp.broadcast_to(jnp.asarray(x0, x.dtype), x.shape)
    except ValueError:
        raise ValueError(
            f"baseline has shape {list(np.shape(x0))}, which does not broadcast to the argument's "
            f"{list(x.shape)}"
        ) from None


# --- Sums -------------------------------------------------------------------------------------


def _summed(term: Callable[[Any], Any], over: Any) -> Any:
    """Σ term(i), one after the other."""
    first = tree_map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), over)
    zero = tree_map(lambda g: jnp.zeros(g.shape, g.dtype), jax.eval_shape(term, first))

    def add(total, i):
        return tree_map(jnp.add, total, term(i)), None

    return lax.scan(add, zero, over)[0]


def _named_after(fun: Callable[..., Any]):
    """Decorator: the function that a transform of `fun` returns."""

    def name(transformed):
        return wraps(fun, updated=())(_jax.api_boundary(transformed))

    return name
