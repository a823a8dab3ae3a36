"""The arguments of a function that is explained: each array by its name."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten

from fungrad import _jax
from fungrad.graph import Graph, trace


def named_leaves(
    fun: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[list[str], list[Any], Callable[[Sequence[Any]], tuple[Any, Any]]]:
    """The names and values of the leaves of the arguments, and the way back to args and kwargs.

    >>> names, values, rebuild = named_leaves(lambda x, y: x, ({"w": 1, "b": 2},), {"y": [3]})
    >>> names, values
    (['x.b', 'x.w', 'y.0'], [2, 1, 3])
    >>> rebuild([5, 4, 6])
    (({'b': 5, 'w': 4}, [6]), {})
    """
    try:
        signature = inspect.signature(fun)
    except ValueError:  # some builtin functions have none
        signature = inspect.signature(lambda *x, **options: None)
    bound = signature.bind(*args, **kwargs)
    leaves, tree = tree_flatten_with_path(OrderedDict(bound.arguments))

    def rebuild(values):
        given = inspect.BoundArguments(signature, tree_unflatten(tree, values))
        return given.args, given.kwargs

    return [path_name(path) for path, _ in leaves], [leaf for _, leaf in leaves], rebuild


def named_graph(
    fun: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[Graph, list[Any], dict[Any, str], Any]:
    """The graph, its inputs, the names of its edges, and the structure of the function's output.

    Arrays are inputs of the graph, and so are Python floats; Python's integers and booleans stay
    what they are, so that Python code may branch on them.
    """
    names, values, rebuild = named_leaves(fun, args, kwargs)
    places = [i for i, leaf in enumerate(values) if not isinstance(leaf, int)]
    outputs: Any = None

    def of_arrays(*arrays):
        nonlocal outputs
        whole = list(values)
        for place, array in zip(places, arrays, strict=True):
            whole[place] = array
        args, kwargs = rebuild(whole)
        out = fun(*args, **kwargs)
        outputs = tree_flatten_with_path(out)
        return out

    arrays = [_jax.canonical(values[i]) for i in places]
    graph = trace(of_arrays)(*arrays)
    jaxpr = graph.jaxpr.jaxpr
    edges = {v: names[i] for i, v in zip(places, jaxpr.invars, strict=True)}
    name = getattr(fun, "__name__", "out").replace("<lambda>", "out")
    for variable, (path, _) in zip(jaxpr.outvars, outputs[0], strict=True):
        if not isinstance(variable, _jax.Literal):
            edges.setdefault(variable, ".".join(filter(None, (name, path_name(path)))))
    return graph, arrays, edges, outputs[1]


def path_name(path: Any) -> str:
    """`params.w.0` for the path of a leaf in a pytree."""
    return keystr(path, simple=True, separator=".")
