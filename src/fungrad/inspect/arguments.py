"""The arguments of a function that is explained: each array by its name."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten


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


def path_name(path: Any) -> str:
    """`params.w.0` for the path of a leaf in a pytree."""
    return keystr(path, simple=True, separator=".")
