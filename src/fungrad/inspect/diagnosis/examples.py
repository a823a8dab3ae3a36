"""Which example of a `jax.vmap` an entry belongs to.

A graph says of an equation that it is under vmap, but not along which axis the examples lie. What
leaves the vmap has them in front. So their number is known there, and in the equation they lie
along the axis of that length. If there are several such axes, the entry is followed to where it
leaves the vmap: of each equation on the way, at random numbers, those entries of the outputs change
that depend on those of the inputs that changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import jax.numpy as jnp
import numpy as np

from fungrad import _jax
from fungrad.graph import Node
from fungrad.inspect.diagnosis.levels import Level
from fungrad.inspect.diagnosis.values import Entry, literal

Masks = dict[Any, np.ndarray]


def depth_of(node: Node) -> int:
    """How many vmaps there are around a node."""
    return sum(_depth(each.equation) for each in (*node.path, node))


def _depth(equation: Any) -> int:
    """How many vmaps are around an equation in its own graph, but for those inside a library, where
    no line is the user's."""
    is_users = _jax.line_of(equation)[1] > 0
    return _jax.scope_of(equation).count("vmap(") if is_users else 0


def example_of(whole: Level, node: Node, variable: Any, entry: Entry):
    """The index of the example, a tuple where vmaps are nested, `None` where there is no telling.

    Args:
        whole: the function.
        node: the operation.
        variable: an input or output of it.
        entry: an entry of the variable.
    """
    levels = [whole]
    for call in node.path:
        inner = next((i for i in _inside(levels[-1], call) if _holds(i, node)), None)
        if inner is None:  # what an author wrote as a derivative is in no graph of the function
            break
        levels.append(inner)
    nodes = (*node.path, node)[: len(levels)]
    found: list[int] = []
    taken: list[int] = []
    for i, (level, each) in enumerate(zip(levels, nodes, strict=True)):
        for deep in range(_depth(each.equation)):
            index = _along(level, deep, variable, entry, taken)
            if index is None:
                masks = _mask_of(variable, entry)
                index = _where_it_leaves(levels[i:], nodes[i:], masks, deep)
            if index is None:
                return None
            found.append(index)
    return tuple(found) if len(found) > 1 else found[0] if found else None


def _inside(level: Level, call: Node) -> Sequence[Level]:
    same = (i for i, own in enumerate(level.nodes) if own is call)
    return level.inside[i] if (i := next(same, None)) is not None else ()


def _holds(level: Level, node: Node) -> bool:
    below = chain.from_iterable(level.inside)
    return any(own is node for own in level.nodes) or any(_holds(inner, node) for inner in below)


def _along(level: Level, deep: int, variable: Any, entry: Entry, taken: list[int]) -> int | None:
    """The entry's index along the one axis that is as long as there are examples."""
    sizes = Counter(v.aval.shape[deep] for v in _leaving(level, deep) if v.aval.ndim > deep)
    if not sizes:
        return None
    ((size, _),) = sizes.most_common(1)
    axes = [a for a, n in enumerate(variable.aval.shape) if n == size and a not in taken]
    if len(axes) != 1:
        return None
    taken.append(axes[0])
    return entry[axes[0]]


def _leaving(level: Level, deep: int) -> Iterator[Any]:
    """The variables that leave a vmap."""
    jaxpr = level.graph.jaxpr
    is_in = [_depth(e) > deep for e in jaxpr.eqns]
    pairs = list(zip(jaxpr.eqns, is_in, strict=True))
    made = {v for e, inside in pairs if inside for v in e.outvars}
    read = (v for e, inside in pairs if not inside for v in e.invars)
    return (v for v in (*read, *jaxpr.outvars) if not isinstance(v, _jax.Literal) and v in made)


# --- By following the entry -------------------------------------------------------------------


def _mask_of(variable: Any, entry: Entry) -> Masks:
    mask = np.zeros(variable.aval.shape, bool)
    mask[entry] = True
    return {variable: mask}


def _where_it_leaves(
    levels: Sequence[Level], nodes: Sequence[Node], masks: Masks, deep: int
) -> int | None:
    """The index of the example that entries are found in when they leave the vmap."""
    for level, call in zip(levels[:0:-1], nodes[-2::-1], strict=True):
        _spread(level, masks)
        outs, inner = call.equation.outvars, level.graph.jaxpr.outvars
        if [v.aval.shape for v in outs] != [v.aval.shape for v in inner]:  # a loop stacks them
            return None
        found = zip(outs, inner, strict=True)
        masks = {v: masks[w] for v, w in found if not isinstance(w, _jax.Literal) and w in masks}
    _spread(levels[0], masks)
    for variable in _leaving(levels[0], deep):
        if variable in masks and variable.aval.ndim > deep:
            places = set(np.argwhere(masks[variable])[:, deep].tolist())
            if len(places) == 1:
                return places.pop()
    return None


def _spread(level: Level, masks: Masks) -> None:
    """Add the entries of all variables that depend on those that are marked."""
    for equation in level.graph.jaxpr.eqns:
        if any(not isinstance(v, _jax.Literal) and v in masks for v in equation.invars):
            for variable, mask in zip(equation.outvars, _changed(equation, masks), strict=True):
                if mask.any():
                    masks[variable] = mask


def _changed(equation: Any, masks: Masks) -> list[np.ndarray]:
    """Which entries of the outputs change with the marked ones of the inputs."""
    total = [np.zeros(v.aval.shape, bool) for v in equation.outvars]
    for truth in (True, False):  # a where takes either branch
        before, after = [], []
        for variable in equation.invars:
            x = _sample(variable, truth)
            before.append(x)
            is_marked = not isinstance(variable, _jax.Literal) and variable in masks
            moved = is_marked and jnp.issubdtype(x.dtype, np.inexact)
            after.append(jnp.where(masks[variable], x * 3, x) if moved else x)
        pairs = zip(_jax.bind(equation, before), _jax.bind(equation, after), strict=True)
        total = [t | np.asarray(x != y) for t, (x, y) in zip(total, pairs, strict=True)]
    return total


def _sample(variable: Any, truth: bool) -> Any:
    """Numbers that keep functions awake: positive, and all different."""
    if isinstance(variable, _jax.Literal):
        return literal(variable)
    aval = variable.aval
    if aval.dtype == np.bool_:
        return jnp.full(aval.shape, truth)
    if not jnp.issubdtype(aval.dtype, np.inexact):
        return jnp.zeros(aval.shape, aval.dtype)
    numbers = np.random.default_rng(0).uniform(0.3, 0.6, aval.shape)
    return jnp.asarray(numbers, aval.dtype)
