"""Nodes of unmodified functions: read them, differentiate with respect to them, replace them.

`where` says which nodes: a selector made by `fungrad.at`, a name given by `fungrad.name`, or `None`
for the named nodes and every operation of floats that depends on an argument. The answers are
dictionaries of the nodes' labels, those of `fungrad.trace`, in program order.

A node in a scan has one value per iteration, stacked along a leading axis (two axes in a scan in a
scan, the outer one first). A node in a branch of cond or switch has the value zero and the gradient
zero where another branch is taken; `taken` tells these zeros from others. Under vmap it is batched,
as all that vmap sees. Nodes in jits, checkpoints and functions with written derivatives are reached
like others; those in a while_loop are not.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad import _jax, editing
from fungrad._flat import Flat
from fungrad.graph import Graph, Node, Selector
from fungrad.rulebook import Rulebook
from fungrad.selecting import has_gradient, selected
from fungrad.transforms import vjp

__all__ = ["gradients", "replace", "taken", "values"]

Where = Selector | str | None


# --- Reading ----------------------------------------------------------------------------------


def values(fun: Callable[..., Any], where: Where = None) -> Callable[..., Any]:
    """The values at nodes: `values(fun, where)(*args) -> (out, {label: value})`.

    Args:
        fun: any function; it is not changed.
        where: a selector, a name, or `None`; see the head of this module.

    Returns:
        A function of the arguments of `fun`. The value of a node of several outputs, such as a
        jit or a scan, is a tuple.

    Raises:
        LookupError: when called: no node matches.
        NotImplementedError: when called: a node that matches is inside a while_loop, or inside
            another operation that runs a graph in a way of its own.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> out, values = fg.values(lambda x: jnp.sum(jnp.tanh(x) ** 2), fg.at(primitive="tanh"))(0.5)
    >>> round(float(values["tanh"]), 4)
    0.4621
    """

    def look(node, outputs, _, __):
        return outputs, {node.label: [x for x in outputs if not _jax.is_reference(x)]}

    return _reader(fun, where, look)


def taken(fun: Callable[..., Any], where: Where = None) -> Callable[..., Any]:
    """Whether nodes were run: `taken(fun, where)(*args) -> (out, {label: mask})`.

    The mask is false where a node is in a branch that was not taken. It is a boolean, stacked along
    the scans around the node. Arguments and errors are those of `values`.

    >>> import fungrad as fg
    >>> from jax import lax, numpy as jnp
    >>> fun = lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x)
    >>> out, masks = fg.nodes.taken(fun)(1.0)
    >>> {label: bool(mask) for label, mask in masks.items()}
    {'cond': True, 'cos': False, 'sin': True}
    """

    def look(node, outputs, _, __):
        return outputs, {node.label: [jnp.array(True)]}

    return _reader(fun, where, look)


def _reader(fun: Callable[..., Any], where: Where, look: Callable[..., Any]):
    def rejoin(call, body, inputs):
        return call(inputs), body(inputs)[1]

    @functools.wraps(fun, updated=())
    @_jax.api_boundary
    def read(*args, **kwargs):
        graph, flat = _read(fun, args, kwargs)
        nodes = selected(graph, where)
        outputs, seen = editing.run(graph, flat.leaves, nodes, editing.Visitor(look, rejoin))
        return flat.restore(outputs), {node.label: _bare(seen[node.label]) for node in nodes}

    return read


def _read(fun: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Graph, Flat]:
    flat = Flat(fun, args, kwargs)
    flat.leaves = [_jax.argument(leaf) for leaf in flat.leaves]
    return Graph(_jax.trace_at(flat, flat.leaves, _jax.source_of(fun))), flat


def _bare(outputs: Sequence[Any]) -> Any:
    """One output comes bare, several as a tuple."""
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


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

    Returns:
        A function of the arguments of `fun`.

    Raises:
        LookupError: when called: no node matches.
        TypeError: when called: the output is no real scalar and no cotangent is given, or no node
            that matches has floats.
        NotImplementedError: as for `values`.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> out, g = fg.gradients(lambda x: jnp.sum(fg.name(3 * x, "h") ** 2), "h")(jnp.arange(3.0))
    >>> g["h"].tolist()
    [0.0, 6.0, 12.0]
    """

    @functools.wraps(fun, updated=())
    @_jax.api_boundary
    def at_nodes(*args, **kwargs):
        graph, flat = _read(fun, args, kwargs)
        found = selected(graph, where)
        nodes = [node for node in found if has_gradient(node)]
        if found and not nodes:
            raise TypeError(f"{where!r} matches {found}, of which none is of floats")
        visitor = editing.Visitor(_tap_at, _tap_beside)

        def tapped(taps):
            return flat.restore(editing.run(graph, flat.leaves, nodes, visitor, taps)[0])

        taps = {node.label: [*map(_jax.filler, _gradient_types(node))] for node in nodes}
        out, pullback = vjp(tapped, taps, rules=rules)
        (g,) = pullback(_one(out) if cotangent is None else cotangent)
        return out, {node.label: _whole(node, g[node.label]) for node in nodes}

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


def _gradient_types(node: Node) -> list[Any]:
    """The types of the gradients at the float outputs of a node."""
    avals = [v.aval for v in node.equation.outvars if _jax.is_differentiable(v.aval)]
    return [editing.stacked_type(node, aval) for aval in avals]


def _whole(node: Node, g: Sequence[Any]) -> Any:
    """The gradients at all outputs of a node, given those at its floats."""
    given = iter(g)
    steps = editing.steps_around(node)
    return _bare(
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
    derivative that holds a replaced node is differentiated through its body.

    Args:
        fun: any function; it is not changed.
        replacements: for each selector or name what shall stand at its nodes. An array has a node's
            shape; in scans it serves every iteration, or it has one more leading axis per scan
            and gives each iteration its own. A function gets the value and returns one of the same
            shape; if it has a parameter named `iteration`, it gets the index of the iteration
            under that name too (a tuple of them, outermost first, unless there is one scan). At a
            node of several outputs arrays and values come in tuples. A later entry wins.

    Returns:
        A function with the arguments of `fun`.

    Raises:
        LookupError: when called: no node matches.
        ValueError: when called: an inserted value has another shape than its node.
        TypeError: `replacements` is no mapping; when called: a value is of another kind of numbers.
        NotImplementedError: as for `values`.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> model = lambda x: jnp.sum(fg.name(jnp.sin(x), "h") ** 2)
    >>> float(fg.replace(model, {"h": jnp.array([1.0, 2.0])})(jnp.zeros(2)))
    5.0
    >>> ablated = fg.replace(model, {fg.at(primitive="sin"): lambda value: 0 * value})
    >>> float(ablated(jnp.ones(2)))
    0.0
    """
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
            chosen.update((id(node), replacement) for node in selected(graph, where))
        nodes = [node for node in graph.nodes if id(node) in chosen]
        changes = {n.label: _change(n, chosen[id(n)]) for n in nodes}

        def visit(node, outputs, slices, iteration):
            return changes[node.label](outputs, slices, iteration), {}

        slices = {label: change.slices for label, change in changes.items() if change.slices}
        counts = any(change.counts for change in changes.values())
        visitor = editing.Visitor(visit, lambda call, body, inputs: body(inputs), counts)
        return flat.restore(editing.run(graph, flat.leaves, nodes, visitor, slices)[0])

    return replaced


def _change(node: Node, replacement: Any) -> Any:
    return (_Computed if callable(replacement) else _Inserted)(node, replacement)


class _Inserted:
    """Arrays that stand at a node: `slices` if each iteration has its own, else `fixed`."""

    counts = False

    def __init__(self, node: Node, replacement: Any):
        steps = editing.steps_around(node)
        given = _outputs(node, replacement)
        stacked = [steps != () and np.shape(x) == (*steps, *t.shape) for x, t in given]
        fitted = [
            _fitted(node, x, editing.stacked_type(node, t) if s else t, steps)
            for (x, t), s in zip(given, stacked, strict=True)
        ]
        self.stacked = stacked
        self.slices = [x for x, s in zip(fitted, stacked, strict=True) if s]
        self.fixed = [x for x, s in zip(fitted, stacked, strict=True) if not s]

    def __call__(self, outputs, slices, iteration):
        slices, fixed = iter(slices), iter(self.fixed)
        return [next(slices) if s else next(fixed) for s in self.stacked]


class _Computed:
    """A function of the value at a node."""

    slices = ()

    def __init__(self, node: Node, function: Callable[..., Any]):
        self.node, self.function = node, function
        self.counts = "iteration" in _parameters(function)

    def __call__(self, outputs, slices, iteration):
        if self.counts:
            answer = self.function(_bare(outputs), iteration=_bare(iteration))
        else:
            answer = self.function(_bare(outputs))
        return [_fitted(self.node, x, t, ()) for x, t in _outputs(self.node, answer)]


def _parameters(function: Callable[..., Any]) -> Any:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # a ufunc, or another function that is not written in Python
        return ()


def _outputs(node: Node, given: Any) -> list[tuple[Any, Any]]:
    """What is given for each output of a node, with the output's type."""
    types = [v.aval for v in node.equation.outvars]
    entries = [given] if len(types) == 1 else given
    if not isinstance(entries, list | tuple) or len(entries) != len(types):
        raise ValueError(
            f"node {node.label!r} has {len(types)} outputs; give a tuple of as many, got {given!r}"
        )
    return list(zip(entries, types, strict=True))


def _fitted(node: Node, x: Any, aval: Any, steps: tuple[int, ...]) -> Any:
    """`x` as an array of a node's type, if it has its shape and is of its kind of numbers."""
    if np.shape(x) != aval.shape:
        due = f"{list(aval.shape)}"
        if steps:
            due += f", or {[*steps, *aval.shape]} for one per iteration"
        raise ValueError(
            f"the value for node {node.label!r} has shape {list(np.shape(x))}; expected {due}"
        )
    x = _jax.as_array(_jax.argument(x))
    if x.dtype != aval.dtype and not jnp.can_cast(x.dtype, aval.dtype, "same_kind"):
        raise TypeError(f"the value for node {node.label!r} is of {x.dtype}; expected {aval.dtype}")
    return x if x.dtype == aval.dtype else lax.convert_element_type(x, aval.dtype)
