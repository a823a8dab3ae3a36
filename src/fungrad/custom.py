"""`custom`: a function with one written VJP that serves every transform, JAX's and fungrad's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fungrad import _jax


def custom(fun: Callable[..., Any], rule: Callable[..., Any]) -> Callable[..., Any]:
    """`fun` with a written VJP.

    The rule is valid under `fungrad.grad`, `jax.grad`, `jax.jvp`, `jax.vmap`, `jax.jit` and at
    second order: forward mode is the transpose of the written VJP, which is linear in g,

        g ↦ g · J    transposed:    t ↦ J · t

    Args:
        fun: a function of arrays that returns an array, or a tuple of arrays; an argument may be
            `None`.
        rule: `(g, out, *inputs)` -> one gradient, or a tuple with one per input; `None` is zero,
            and what an integer input gets. It must be linear in g and differentiable itself if
            second derivatives are asked for. An input that the function leaves out is not shown.

    Returns:
        A function with the arguments of `fun`, whose node in a graph bears the name of `fun`.

    Raises:
        TypeError: when called: an argument is a tree. When differentiated: the rule returns the
            wrong number of gradients, or one of another shape or dtype than its input.

    >>> import fungrad as fg
    >>> import jax, jax.numpy as jnp
    >>> def softplus(x):
    ...     return jnp.logaddexp(x, 0.0)
    >>> softplus = fg.custom(softplus, lambda g, out, x: g * jax.nn.sigmoid(x))
    >>> float(fg.grad(softplus)(0.0)), float(jax.grad(softplus)(0.0))
    (0.5, 0.5)
    """
    for name, value in (("fun", fun), ("rule", rule)):
        if not callable(value):
            raise TypeError(f"{name} must be a function, got {value!r}")

    call = jax.custom_jvp(fun)

    @functools.partial(call.defjvp, symbolic_zeros=True)
    def jvp(inputs, tangents):
        out = call(*inputs)
        active = [i for i, t in enumerate(tangents) if _is_tangent(t)]

        def pull_back(g):
            answers = rule(g, out, *inputs)
            answers = answers if isinstance(answers, tuple | list) else (answers,)
            return _checked(answers, inputs, active, fun)

        types = jax.tree_util.tree_map(_gradient_struct, out)
        push_forward = jax.linear_transpose(pull_back, types)
        (tangent_out,) = push_forward([tangents[i] for i in active])
        return out, tangent_out

    @functools.wraps(fun)
    def wrapped(*args, **kwargs):
        for place, argument in (*enumerate(args), *kwargs.items()):
            _check_is_array(place, argument, fun)
        return call(*args, **kwargs)

    return wrapped


def _check_is_array(place: int | str, argument: Any, fun: Any) -> None:
    if argument is not None and not jax.tree_util.all_leaves([argument]):
        raise TypeError(
            f"argument {place!r} of {getattr(fun, '__name__', 'fun')} is a tree of type "
            f"{type(argument).__name__}; custom functions take arrays, so pass its leaves"
        )


def _checked(answers: Any, inputs: Any, active: list[int], fun: Any) -> list[Any]:
    name = getattr(fun, "__name__", "fun")
    if len(answers) != len(inputs):
        raise TypeError(
            f"the rule of {name} returned {len(answers)} gradients for {len(inputs)} inputs; "
            "return one per input, None for zero"
        )
    gradients = []
    for i in active:
        due = _jax.type_of(inputs[i])
        g = jnp.zeros(due.shape, due.dtype) if answers[i] is None else answers[i]
        if jnp.shape(g) != due.shape or jnp.result_type(g) != due.dtype:
            raise TypeError(
                f"the rule of {name} returned for input {i} a gradient "
                f"{jnp.result_type(g)}{list(jnp.shape(g))}, "
                f"but the input is {due.dtype}{list(due.shape)}"
            )
        gradients.append(g)
    return gradients


def _is_tangent(tangent: Any) -> bool:
    if tangent is None or isinstance(tangent, jax.custom_derivatives.SymbolicZero):
        return False
    return tangent.dtype != jax.dtypes.float0


def _gradient_struct(out: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(out), jnp.result_type(out))
