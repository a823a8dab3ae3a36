"""Nodes of unmodified functions: read them, differentiate with respect to them, replace them.

`where` says which nodes: a selector made by `fungrad.at`, a name given by `fungrad.name`, or `None`
for the named nodes and every operation of floats that depends on an argument. The answers are
dictionaries of the nodes' labels, those of `fungrad.trace`, in program order.

A node in a scan has one value per iteration, stacked along a leading axis (two axes in a scan in a
scan, the outer one first). So has a node in a while loop, along an axis of `max_steps`: those are
the loop's first steps, and zero where it takes less. A node in a branch of cond or switch has the
value zero and the gradient zero where another branch is taken; `taken` tells these zeros from
others. Under vmap it is batched, as all that vmap sees. Nodes in jits, checkpoints and functions
with written derivatives are reached like others.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad import _jax, editing
from fungrad._flat import Flat
from fungrad.graph import Graph, Node
from fungrad.inserting import bare, change
from fungrad.rulebook import Rulebook
from fungrad.selecting import has_gradient, selected
from fungrad.selector import Selector
from fungrad.transforms import vjp

__all__ = ["gradients", "replace", "taken", "values"]

Where = Selector | str | None


# --- Reading ----------------------------------------------------------------------------------


def values(
    fun: Callable[..., Any], where: Where = None, *, max_steps: int | None = None
) -> Callable[..., Any]:
    """The values at nodes: `values(fun, where)(*args) -> (out, {label: value})`.

    Args:
        fun: any function; it is not changed.
        where: a selector, a name, or `None`; see the head of this module.
        max_steps: how many steps of each while loop are looked at, the first ones; `None` leaves
            out the nodes in while loops.

    Returns:
        A function of the arguments of `fun`. The value of a node of several outputs, such as a
        jit or a scan, is a tuple.

    Raises:
        LookupError: when called: no node matches.
        ValueError: `max_steps` is not positive; when called: a node that matches is in a while
            loop, and `max_steps` is `None`.
        NotImplementedError: when called: a node that matches is in another operation that runs a
            graph in a way of its own, such as a kernel.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> out, values = fg.values(lambda x: jnp.sum(jnp.tanh(x) ** 2), fg.at(primitive="tanh"))(0.5)
    >>> round(float(values["tanh"]), 4)
    0.4621
    """

    def look(node, outputs, _, __):
        return outputs, {node.label: [x for x in outputs if not _jax.is_reference(x)]}

    return _reader(fun, where, max_steps, look)


def taken(
    fun: Callable[..., Any], where: Where = None, *, max_steps: int | None = None
) -> Callable[..., Any]:
    """Whether nodes were run: `taken(fun, where)(*args) -> (out, {label: mask})`.

    The mask is false where a node is in a branch or a step that was not taken. It is a boolean,
    stacked along the loops around the node. Arguments and errors are those of `values`.

    >>> import fungrad as fg
    >>> from jax import lax, numpy as jnp
    >>> fun = lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x)
    >>> out, masks = fg.nodes.taken(fun)(1.0)
    >>> {label: bool(mask) for label, mask in masks.items()}
    {'cond': True, 'cos': False, 'sin': True}
    """

    def look(node, outputs, _, __):
        return outputs, {node.label: [jnp.array(True)]}

    return _reader(fun, where, max_steps, look)


def _reader(
    fun: Callable[..., Any], where: Where, max_steps: int | None, look: Callable[..., Any]
) -> Callable[..., Any]:
    _check_callable(fun)
    visitor = editing.Visitor(look, _beside, max_steps=_checked(max_steps))

    @functools.wraps(fun, updated=())
    @_jax.api_boundary
    def read(*args, **kwargs):
        graph, flat = _read(fun, args, kwargs)
        nodes = selected(graph, where, max_steps is not None)
        outputs, seen = editing.run(graph, flat.leaves, nodes, visitor)
        return flat.restore(outputs), {node.label: bare(seen[node.label]) for node in nodes}

    return read


def _beside(call, body, inputs):
    return call(inputs), body(inputs)[1]


def _check_callable(fun: Any) -> None:
    if not callable(fun):
        raise TypeError(f"fun must be a function, got {fun!r}")


def _checked(max_steps: Any) -> int | None:
    given = max_steps
    try:
        max_steps = None if given is None else operator.index(given)
    except TypeError:
        max_steps = 0
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps must be a positive integer, or None, got {given!r}")
    return max_steps


def _read(fun: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Graph, Flat]:
    flat = Flat(fun, args, kwargs)
    flat.leaves = [_jax.argument(leaf) for leaf in flat.leaves]
    return Graph(_jax.trace_at(flat, flat.leaves, _jax.source_of(fun))), flat


# --- Gradients --------------------------------------------------------------------------------
#
# At each node h stands h' = tap(h, t), which is h, whatever t is; its gradient goes to both:
#
#     ∂h'/∂h = I        ∂h'/∂t = I
#
# as if h' were h + t at t = 0. So ∂J/∂t is ∂J/∂h, and one backward pass brings those of all nodes;
# nothing is added in the forward pass, and no t is ever read. A function whose author wrote its
# derivative is z = tap(f(x), body(x, t)): the gradient at x is its author's, and those at the nodes
# in it are what g_z makes of them in its body, where x is a constant.


@jax.custom_jvp
def _tap(h, t):
    return h


@_tap.defjvp
def _tap_jvp(primals, tangents):
    return primals[0], lax.add(*tangents)


def gradients(
    fun: Callable[..., Any],
    where: Where = None,
    *,
    cotangent: Any = None,
    rules: Rulebook | None = None,
    max_steps: int | None = None,
) -> Callable[..., Any]:
    """The gradients at nodes, ∂J/∂h: `gradients(fun, where)(*args) -> (out, {label: gradient})`.

    The gradients of all nodes come from one backward pass. Each has its node's shape and dtype;
    at a node of several outputs it is a tuple, with an entry of dtype `float0` for each integer.

    Args:
        fun: any function; it is not changed.
        where: a selector, a name, or `None`; see the head of this module. Nodes without floats
            have no gradient and are left out.
        cotangent: the gradient at the output, in its structure; `None` is 1, at a scalar.
        rules: the rulebook; `None` is `fungrad.rules`.
        max_steps: how many steps of each while loop are looked at, as for `values`.

    Returns:
        A function of the arguments of `fun`.

    Raises:
        LookupError, ValueError, NotImplementedError: as for `values`.
        TypeError: when called: the output is no real scalar and no cotangent is given, or no node
            that matches has floats.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> out, g = fg.gradients(lambda x: jnp.sum(fg.name(3 * x, "h") ** 2), "h")(jnp.arange(3.0))
    >>> g["h"].tolist()
    [0.0, 6.0, 12.0]
    """

    _check_callable(fun)
    visitor = editing.Visitor(_tap_at, _tap_beside, max_steps=_checked(max_steps))

    @functools.wraps(fun, updated=())
    @_jax.api_boundary
    def at_nodes(*args, **kwargs):
        graph, flat = _read(fun, args, kwargs)
        found = selected(graph, where, max_steps is not None)
        nodes = [node for node in found if has_gradient(node)]
        if found and not nodes:
            raise TypeError(f"{where!r} matches {found}, of which none is of floats")

        def tapped(taps):
            return flat.restore(editing.run(graph, flat.leaves, nodes, visitor, taps)[0])

        zeros = functools.cache(_jax.filler)  # one for all nodes of a type
        taps = {node.label: [*map(zeros, _gradient_types(node, max_steps))] for node in nodes}
        out, pullback = vjp(tapped, taps, rules=rules)
        (g,) = pullback(_one(out) if cotangent is None else cotangent)
        return out, {node.label: _whole(node, g[node.label], max_steps) for node in nodes}

    return at_nodes


def _tap_at(node, outputs, taps, _):
    taps = iter(taps)
    return [_tap(x, next(taps)) if _is_float(x) else x for x in outputs], {}


def _tap_beside(call, body, inputs):
    beside, seen = body([lax.stop_gradient(x) for x in inputs])
    pairs = zip(call(inputs), beside, strict=True)
    return [_tap(x, y) if _is_float(x) else x for x, y in pairs], seen


def _is_float(x: Any) -> bool:
    return _jax.is_differentiable(_jax.type_of(x))


def _gradient_types(node: Node, max_steps: int | None) -> list[Any]:
    """The types of the gradients at the float outputs of a node."""
    avals = [v.aval for v in node.equation.outvars if _jax.is_differentiable(v.aval)]
    steps = editing.steps_around(node, max_steps)
    return [editing.stacked_type(aval, steps) for aval in avals]


def _whole(node: Node, g: Sequence[Any], max_steps: int | None) -> Any:
    """The gradients at all outputs of a node, given those at its floats."""
    given = iter(g)
    steps = editing.steps_around(node, max_steps)
    return bare(
        [
            next(given)
            if _jax.is_differentiable(v.aval)
            else np.zeros((*steps, *v.aval.shape), jax.dtypes.float0)
            for v in node.equation.outvars
        ]
    )


def _one(out: Any) -> Any:
    leaves = jax.tree_util.tree_leaves(out)
    if (
        len(leaves) != 1
        or leaves[0].shape != ()
        or not jnp.issubdtype(leaves[0].dtype, jnp.floating)
    ):
        types = ", ".join(f"{x.dtype}{list(x.shape)}" for x in leaves)
        raise TypeError(
            f"gradients of an output that is no real scalar, {types or 'empty'}, need the gradient "
            "at it: give cotangent=, in the structure, shapes and dtypes of the output"
        )
    return jax.tree_util.tree_map(_jax.one, out)


# --- Replacing --------------------------------------------------------------------------------


def replace(fun: Callable[..., Any], replacements: Mapping[Any, Any]) -> Callable[..., Any]:
    """`fun` with other values at nodes: `replace(fun, {where: array_or_function})(*args)`.

    The gradient flows into inserted arrays, and through functions. A function with a written
    derivative that holds a replaced node is differentiated through its body. A node's name goes
    over to what stands there: in the result, "h" is the value that was put in place of h.

    Args:
        fun: any function; it is not changed.
        replacements: for each selector or name what shall stand at its nodes. An array has a node's
            shape; in loops it serves every iteration, or it has one more leading axis per loop
            and gives each iteration its own (in a while loop the first ones: an axis of any length
            will do, and later iterations keep their value). A function gets the value and returns
            one of the same shape; if it has a parameter named `iteration`, it gets the index of the
            iteration under that name too (a tuple of them, outermost first, unless there is one
            loop). At a node of several outputs arrays and values come in tuples. A later entry
            wins.

    Returns:
        A function with the arguments of `fun`.

    Raises:
        LookupError: when called: no node matches.
        ValueError: when called: an inserted value has another shape than its node.
        TypeError: `fun` is no function, or `replacements` no mapping; when called: a value is of
            another kind of numbers.
        NotImplementedError: as for `values`; while loops need no `max_steps` here.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> model = lambda x: jnp.sum(fg.name(jnp.sin(x), "h") ** 2)
    >>> float(fg.replace(model, {"h": jnp.array([1.0, 2.0])})(jnp.zeros(2)))
    5.0
    >>> ablated = fg.replace(model, {fg.at(primitive="sin"): lambda value: 0 * value})
    >>> float(ablated(jnp.ones(2)))
    0.0
    """
    _check_callable(fun)
    if not isinstance(replacements, Mapping):
        raise TypeError(
            f"replacements must be a dictionary {{where: array or function}}, got {replacements!r}"
        )

    @functools.wraps(fun, updated=())
    @_jax.api_boundary
    def replaced(*args, **kwargs):
        graph, flat = _read(fun, args, kwargs)
        chosen = {}
        for where, replacement in replacements.items():
            chosen.update((id(node), replacement) for node in selected(graph, where, True))
        nodes = [node for node in graph.nodes if id(node) in chosen]
        changes = {n.label: change(n, chosen[id(n)]) for n in nodes}

        def visit(node, outputs, slices, iteration):
            return changes[node.label](outputs, slices, iteration), {}

        slices = {label: change.slices for label, change in changes.items() if change.slices}
        counts = any(change.counts for change in changes.values())
        visitor = editing.Visitor(visit, lambda call, body, inputs: body(inputs), counts, True)
        return flat.restore(editing.run(graph, flat.leaves, nodes, visitor, slices)[0])

    return replaced
