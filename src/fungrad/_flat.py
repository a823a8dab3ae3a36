"""A function of pytrees as one of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.tree_util import GetAttrKey, tree_flatten, tree_flatten_with_path, tree_unflatten


class Flat:
    """A function of the arrays among its arguments, `leaves`, that returns a list of arrays.

    What is no array, such as a function in a model's tree, stays what it is, and so do numbers of
    Python's that are attributes, such as the rate of a dropout layer. `restore` gives the outputs
    their structure, once the function has been called.
    """

    def __init__(self, fun: Callable[..., Any], args: Any, kwargs: Any):
        self.fun = fun
        found, self.tree = tree_flatten_with_path((args, kwargs))
        self.every = [leaf for _, leaf in found]
        self.places = [i for i, (path, leaf) in enumerate(found) if _is_array(leaf, path)]
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


def _is_array(leaf: Any, path: Any) -> bool:
    number = isinstance(leaf, bool | int | float | complex)
    attribute = any(isinstance(key, GetAttrKey) for key in path)
    return hasattr(leaf, "dtype") or (number and not attribute)
