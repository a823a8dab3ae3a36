"""A function of pytrees as one of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.tree_util import tree_flatten, tree_unflatten


class Flat:
    """A function of the arrays among its arguments, `leaves`, that returns a list of arrays.

    What is no array, such as a function in a model's tree, stays what it is. `restore` gives the
    outputs their structure, once the function has been called.
    """

    def __init__(self, fun: Callable[..., Any], args: Any, kwargs: Any):
        self.fun = fun
        self.every, self.tree = tree_flatten((args, kwargs))
        self.places = [i for i, x in enumerate(self.every) if _is_array(x)]
        self.leaves = [self.every[i] for i in self.places]
        self.out_tree: Any = None

    def __call__(self, *leaves: Any) -> list[Any]:
        every = list(self.every)
        for place, leaf in zip(self.places, leaves, strict=True):
            every[place] = leaf
        args, kwargs = tree_unflatten(self.tree, every)
        outputs, self.out_tree = tree_flatten(self.fun(*args, **kwargs))
        return outputs

    def restore(self, outputs: Any) -> Any:
        """The outputs in the structure in which the function returned them."""
        return tree_unflatten(self.out_tree, outputs)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") or isinstance(leaf, bool | int | float | complex)
