"""The transforms: JAX's signatures, pytrees and errors over fungrad's passes.

Each takes two keyword arguments more than its JAX counterpart:

- `rules`: the rulebook; `None` is `fungrad.rules`.
- `save`: what the forward pass keeps for the backward pass. `None` is the cheapest choice, a
  minimum cut between bytes kept and operations repeated (saving.py); a number is a budget
  of bytes: no more temporary memory than that is planned, in more time the less it is (budget.py);
  "everything" keeps all that the rules read, "nothing" only the arguments, from which the rest is
  computed again; a policy of `jax.checkpoint` (`jax.checkpoint_policies`) decides for each
  operation. Outside `jit`, where values are known, nothing is repeated unless `save` asks for it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten, tree_leaves, tree_unflatten

from fungrad import _jax
from fungrad.pullback import VJP, pullback_of, rows_through, settings_of
from fungrad.rulebook import Rulebook

__all__ = ["grad", "hessian", "hvp", "jacobian", "jacrev", "value_and_grad", "vjp"]


# --- vjp --------------------------------------------------------------------------------------


@_jax.api_boundary
def vjp(
    fun: Callable[..., Any],
    *primals: Any,
    has_aux: bool = False,
    rules: Rulebook | None = None,
    save: Any = None,
) -> Any:
    """Evaluate `fun` and return its pullback, g ↦ g · ∂fun/∂primals.

    Args:
        fun: a function of pytrees of arrays.
        *primals: where it is evaluated.
        has_aux: `fun` returns a pair whose second entry is not differentiated.
        rules: the rulebook; `None` is `fungrad.rules`.
        save: what the forward pass may keep; see the head of this module.

    Returns:
        `(out, pullback)`, or `(out, pullback, aux)`. The pullback takes a gradient at the output,
        of the output's structure, shapes and dtypes, and returns a tuple with one gradient per
        primal, of the primal's shape; a primal of integers or booleans gets one of dtype `float0`.
        It is a pytree and may cross the borders of `jax.jit`; see `VJP` for what else it can.

    Raises:
        TypeError: `fun` is not callable, or a primal is not an array.
        ValueError: the pullback's argument has another structure, shape or dtype than the output.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> out, pullback = fg.vjp(lambda x, y: x * y, 3.0, jnp.array([1.0, 2.0]))
    >>> gx, gy = pullback(jnp.array([1.0, 10.0]))
    >>> float(gx), gy.tolist()
    (21.0, [3.0, 30.0])
    """
    _check_callable(fun)
    leaves, tree = tree_flatten(primals)
    leaves = [_jax.argument(leaf) for leaf in leaves]

    def flat(*values):
        return fun(*tree_unflatten(tree, values))

    settings = settings_of(rules, save)
    outputs, pullback, saved, aux = pullback_of(flat, leaves, fun, has_aux, settings)
    pullback = VJP.of(pullback, saved, leaves, tree, getattr(fun, "__name__", "fun"))
    return (outputs, pullback, aux) if has_aux else (outputs, pullback)


# --- grad -------------------------------------------------------------------------------------


def grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rules: Rulebook | None = None,
    save: Any = None,
) -> Callable[..., Any]:
    """The gradient of a scalar function: ∂J/∂x, in the shape of x.

    Args:
        fun: a function whose output is a scalar, or with `has_aux` a pair of a scalar and aux.
        argnums: the positional argument, or several, to differentiate with respect to.
        has_aux: return `(gradient, aux)`.
        holomorphic: inputs and output are complex and `fun` is holomorphic.
        allow_int: integer inputs get a gradient of dtype `float0` instead of an error.
        rules: the rulebook; `None` is `fungrad.rules`.
        save: what the forward pass may keep; see the head of this module.

    Returns:
        A function of the same arguments that returns the gradient, a tuple of gradients where
        `argnums` is a sequence.

    Raises:
        TypeError: when called: the output is no real scalar, or an input is no float array.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> fg.grad(lambda w, x: jnp.sum(w * x))(jnp.array([1.0, 2.0]), 3.0).tolist()
    [3.0, 3.0]
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int, rules=rules, save=save)

    @_named_after(fun)
    def gradient(*args, **kwargs):
        out, g = both(*args, **kwargs)
        return (g, out[1]) if has_aux else g

    return gradient


def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rules: Rulebook | None = None,
    save: Any = None,
) -> Callable[..., Any]:
    """The value of a scalar function and its gradient, from one forward pass; as `grad`.

    Returns:
        A function that returns `(value, gradient)`, or `((value, aux), gradient)`.

    >>> import fungrad as fg
    >>> value, g = fg.value_and_grad(lambda x: x**3)(2.0)
    >>> float(value), float(g)
    (8.0, 12.0)
    """
    _check_callable(fun)
    argnums = as_indices(argnums)
    settings = settings_of(rules, save)

    @_named_after(fun)
    def value_and_gradient(*args, **kwargs):
        flat, leaves, restore = of_chosen(fun, argnums, args, kwargs)
        for leaf in leaves:
            _jax.check_input_dtype("grad", holomorphic, allow_int, leaf)
        out, pullback, saved, aux = pullback_of(flat, leaves, fun, has_aux, settings)
        _jax.check_scalar(out)
        _jax.check_output_dtype("grad", holomorphic, out)
        gradients = restore(pullback(saved, _jax.one(out)))
        return ((out, aux) if has_aux else out), gradients

    return value_and_gradient


# --- Jacobians --------------------------------------------------------------------------------


def jacrev(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rules: Rulebook | None = None,
    save: Any = None,
) -> Callable[..., Any]:
    """The Jacobian ∂out/∂x of shape `out.shape + x.shape`: the rows of I, pulled back.

    Arguments as for `grad`. Returns a function whose result has the output's structure, and at
    each of its leaves the structure of the arguments.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> fg.jacrev(lambda x: jnp.stack([x[0] * x[1], x[0]]))(jnp.array([2.0, 3.0])).tolist()
    [[3.0, 2.0], [1.0, 0.0]]
    """
    _check_callable(fun)
    argnums = as_indices(argnums)
    settings = settings_of(rules, save)

    @_named_after(fun)
    def jacobian_rows(*args, **kwargs):
        flat, leaves, restore = of_chosen(fun, argnums, args, kwargs)
        for leaf in leaves:
            _jax.check_input_dtype("jacrev", holomorphic, allow_int, leaf)
        out, pullback, saved, aux = pullback_of(flat, leaves, fun, has_aux, settings)
        for leaf in tree_leaves(out):
            _jax.check_output_dtype("jacrev", holomorphic, leaf)
        outputs, tree = tree_flatten(out)
        blocks = rows_through(lambda g: pullback(saved, tree_unflatten(tree, g)), outputs, leaves)
        rows = tree_unflatten(tree, [restore(block) for block in blocks])
        return (rows, aux) if has_aux else rows

    return jacobian_rows


def jacobian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    rules: Rulebook | None = None,
    save: Any = None,
) -> Callable[..., Any]:
    """The explicit Jacobian of the lecture: `[m × n]`, m numbers out by n numbers in.

    Arrays are flattened row-major, pytrees leaf after leaf, so that row i belongs to entry i of
    vec(out), column j to entry j of vec(x) [seed003].

    Returns:
        A function that returns the matrix, a tuple of matrices where `argnums` is a sequence.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> W, x = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([5.0, 6.0])
    >>> fg.jacobian(lambda W, x: W @ x)(W, x).tolist()  # I ⊗ xᵀ
    [[5.0, 6.0, 0.0, 0.0], [0.0, 0.0, 5.0, 6.0]]
    """
    _check_callable(fun)
    indices = as_indices(argnums)
    several = indices if isinstance(indices, tuple) else (indices,)

    @_named_after(fun)
    def leaves_of(*args, **kwargs):
        return tree_leaves(fun(*args, **kwargs))

    rows_of = jacrev(leaves_of, several, rules=rules, save=save)

    @_named_after(fun)
    def matrix(*args, **kwargs):
        blocks = rows_of(*args, **kwargs)
        matrices = []
        for place, index in enumerate(several):
            sizes = [int(np.size(leaf)) for leaf in tree_leaves(args[index])]
            parts = [
                [x.reshape(-1, n) for x, n in zip(tree_leaves(block[place]), sizes, strict=True)]
                for block in blocks
            ]
            matrices.append(jnp.concatenate([jnp.concatenate(part, axis=1) for part in parts]))
        return tuple(matrices) if isinstance(indices, tuple) else matrices[0]

    return matrix


# --- Second order -----------------------------------------------------------------------------


def hessian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    rules: Rulebook | None = None,
    save: Any = None,
) -> Callable[..., Any]:
    """The Hessian ∂²J/∂x∂x: JAX's forward mode over fungrad's backward pass; as `jax.hessian`.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> fg.hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0])).tolist()
    [[4.0, 2.0], [2.0, 0.0]]
    """
    rows = jacrev(fun, argnums, has_aux, holomorphic, rules=rules, save=save)
    return jax.jacfwd(rows, argnums, has_aux, holomorphic)


def hvp(
    fun: Callable[..., Any],
    primals: Any,
    tangents: Any,
    *,
    rules: Rulebook | None = None,
    save: Any = None,
) -> tuple[Any, Any]:
    """The gradient of a scalar function and its Hessian times a tangent, ∂²J/∂x∂x · t.

    Forward mode over the backward pass: no Hessian is formed [pearlmutter1994].

    Args:
        fun: a function with a scalar output.
        primals, tangents: a tuple with one entry per argument, as for `jax.jvp`; for a function
            of one argument that is no tuple, the argument itself.

    Returns:
        `(gradient, Hessian · tangent)`, each of one argument's structure, or a tuple with one
        entry per argument where there are several.

    Raises:
        TypeError: `primals` and `tangents` differ in structure, shapes or dtypes.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> x, t = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])
    >>> g, Ht = fg.hvp(lambda x: x[0] ** 2 * x[1], (x,), (t,))
    >>> g.tolist(), Ht.tolist()
    ([4.0, 1.0], [4.0, 2.0])
    """
    if not isinstance(primals, tuple | list):
        primals, tangents = (primals,), (tangents,)
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jax.jvp(grad(fun, argnums, rules=rules, save=save), tuple(primals), tuple(tangents))


# --- Arguments --------------------------------------------------------------------------------


def of_chosen(fun: Callable[..., Any], argnums: int | tuple[int, ...], args: Any, kwargs: Any):
    """`fun` of the leaves of the chosen arguments, these leaves, and the way back to their tree."""
    several = argnums if isinstance(argnums, tuple) else (argnums,)
    for index in several:
        if not -len(args) <= index < len(args):
            least = index + 1 if index >= 0 else -index
            raise TypeError(
                f"differentiating with respect to argnums={argnums} requires at least {least} "
                f"positional arguments to be passed by the caller, but got only {len(args)} "
                "positional arguments."
            )
    places = [index % len(args) for index in several]
    if len(set(places)) < len(places):
        raise ValueError(f"argnums={argnums} names an argument twice")
    leaves, tree = tree_flatten(tuple(args[place] for place in places))
    # Canonical leaves are arrays; what is none is refused by name by the check of its dtype.
    leaves = [_jax.argument(leaf) for leaf in leaves]

    def flat(*values):
        whole = list(args)
        for place, argument in zip(places, tree_unflatten(tree, values), strict=True):
            whole[place] = argument
        return fun(*whole, **kwargs)

    def restore(gradients):
        chosen = tree_unflatten(tree, gradients)
        return chosen if isinstance(argnums, tuple) else chosen[0]

    return flat, leaves, restore


def as_indices(argnums: int | Sequence[int]) -> int | tuple[int, ...]:
    """`argnums` as an integer, or a tuple of them."""
    if isinstance(argnums, Sequence):
        return tuple(operator.index(index) for index in argnums)
    return operator.index(argnums)


def _check_callable(fun: Any) -> None:
    if not callable(fun):
        raise TypeError(f"Expected a callable value, got {fun}")


def _named_after(fun: Callable[..., Any]):
    """Decorator: the function that a transform of `fun` returns."""

    def name(transformed):
        return functools.wraps(fun, updated=())(_jax.api_boundary(transformed))

    return name
