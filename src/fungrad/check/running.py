"""Functions compiled for a single run: of small ones compiling takes longer than running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

QUICK = {"xla_backend_optimization_level": 0}
_FEW = 4096  # entries of arguments up to which compiling takes longer than running


def run_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """The outputs of a function, as NumPy arrays; it is compiled for this call only."""
    options = QUICK if are_few(arguments) else None
    return jax.device_get(jax.jit(function, compiler_options=options)(*arguments))


def are_few(arguments: Any) -> bool:
    """Whether a tree of arrays has so few entries that compiling takes longest."""
    return sum(x.size for x in jax.tree.leaves(arguments)) < _FEW
