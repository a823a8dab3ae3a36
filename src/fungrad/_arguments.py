"""Checks of arguments: a refusal names the argument, what was given, and what would do.

What a check reads off shapes and dtypes holds everywhere. What it reads off values it reads only
where they are known: the arguments of a function under `jax.jit` or `jax.vmap` are not, and the
check is passed over. An array must be checked as it was given, for `jnp.asarray` of a NumPy array
inside `jax.jit` is not known either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def describe(x: Any) -> str:
    """The dtype and shape of an array, as jaxprs print them: `float32[3,4]`."""
    return jax.typeof(jnp.asarray(x)).str_short()


def _of_kind(kind: Any, wanted: str, mend: str) -> Callable[[str, Any], jax.Array]:
    def check(name: str, x: Any) -> jax.Array:
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, kind):
            raise TypeError(f"{name} must be {wanted}, got {describe(x)}; {mend.format(name)}")
        return x

    return check


floating = _of_kind(jnp.floating, "floating-point", "convert it with {0}.astype(float)")
inexact = _of_kind(jnp.inexact, "floating-point or complex", "convert it with {0}.astype(float)")
integer = _of_kind(jnp.integer, "an integer array", "convert it with {0}.astype(int)")


def same_shape(name: str, x: jax.Array, other: str, y: jax.Array) -> None:
    """Refuses to let NumPy's broadcasting stretch one of the two."""
    if x.shape != y.shape:
        raise ValueError(
            f"{name} and {other} must have the same shape, got {name} {describe(x)} and "
            f"{other} {describe(y)}; reshape or broadcast one of them yourself"
        )


def has_shape(name: str, x: jax.Array, shape: tuple[int, ...], why: str) -> None:
    """Refuses any other shape; `why` says what fixes this one."""
    if x.shape != shape:
        raise ValueError(f"{name} must have shape {list(shape)} {why}, got {describe(x)}")


def known(*arrays: Any) -> bool:
    """Whether the values can be read here and now: none is traced, or lies on another machine."""
    return not any(
        isinstance(x, Tracer) or (isinstance(x, jax.Array) and not x.is_fully_addressable)
        for x in arrays
    )


def values_pass(name: str, x: Any, test: Callable[[np.ndarray], Any], wanted: str) -> None:
    """Refuses values that fail the test, where they are known."""
    if known(x) and not np.all(passed := test(np.asarray(x))):
        wrong = np.asarray(x)[~passed].flat[0]
        raise ValueError(f"{name} must be {wanted}, got {wrong} among {describe(x)}")


def widened(x: jax.Array) -> jax.Array:
    """At least float32: half precision is too coarse for sums, exponentials and variances."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)
