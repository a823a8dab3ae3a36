"""The arguments of a descent, checked: what is minimised, over which data, how long."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fungrad._arguments import describe, known
from fungrad.descent import batches
from fungrad.descent.methods import Method
from fungrad.descent.objective import Objective
from fungrad.rulebook import Rulebook

# At most this many steps run without a look at the clock, and at most this many row numbers
# are drawn ahead of them.
LONGEST = 256
ROWS_AHEAD = 2**22


@dataclass(frozen=True)
class Problem:
    """What stays the same during a descent; no arrays in it.

    Attributes:
        examples: the number of examples; 0 without data.
        batch_size: the number of examples of a step; None: all, in their order.
        total: the number of steps.
        window: the cost is compared between windows of this many steps.
        takes_key: whether the cost has a parameter named `key` that gets a fresh one.
    """

    cost: Callable[..., Any]
    method: Method
    rules: Rulebook | None
    promotion: str
    examples: int
    batch_size: int | None
    total: int
    window: int
    tolerance: float | None
    takes_key: bool

    @property
    def per_epoch(self) -> int:
        return self.examples // self.batch_size if self.batch_size else 1

    @property
    def length(self) -> int:
        """How many steps one compiled scan makes at most; the same for every total."""
        return max(1, min(LONGEST, ROWS_AHEAD // (self.batch_size or 1)))

    def rows(self, keys: Keys, start: int) -> jax.Array | None:
        """Which examples the next `length` steps see, [length, batch_size]; None: all."""
        if self.batch_size is None:
            return None
        return batches.rows(keys.shuffle, start, self.length, self.examples, self.batch_size)

    def objective(self, data: Any, rows: Any, keys: Keys, step: jax.Array | int) -> Objective:
        """J(θ) at a step."""
        return Objective(
            cost=self.cost,
            batch=() if data is None else (batches.take(data, rows),),
            options={"key": jax.random.fold_in(keys.cost, step)} if self.takes_key else {},
            rules=self.rules,
            promotion=self.promotion,
            fixed=self.batch_size is None and not self.takes_key,
        )


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["shuffle", "cost", "method"], meta_fields=[]
)
@dataclass(frozen=True)
class Keys:
    """One key per use; the key of a step is this one folded with the step's number."""

    shuffle: Any = None
    cost: Any = None
    method: Any = None

    @classmethod
    def of(cls, key: jax.Array | None) -> Keys:
        return cls() if key is None else cls(*jax.random.split(key, 3))


# --- checks ---------------------------------------------------------------------------------------


def checked_params(params: Any) -> Any:
    """A copy of the parameters as arrays of their own dtype; the caller's are never given away."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    if not leaves:
        raise ValueError("params has no arrays, so there is nothing to minimise over")
    return jax.tree.unflatten(structure, [_checked_param(path, leaf) for path, leaf in leaves])


def _checked_param(path: Any, leaf: Any) -> jax.Array:
    name = "params" + jax.tree_util.keystr(path)
    if not known(leaf):
        raise TypeError(
            f"{name} is traced; minimize looks at costs to decide when to stop, so call it outside "
            "of jax.jit, jax.vmap and jax.grad"
        )
    try:
        array = jnp.array(leaf, copy=True)
    except TypeError:
        raise TypeError(
            f"{name} must be a floating-point array, got {type(leaf).__name__}; "
            "give the arrays alone and close the cost over the rest"
        ) from None
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise TypeError(
            f"{name} must be floating-point or complex, got {describe(array)}; "
            f"convert it with .astype(float), or close the cost over it if it is not to change"
        )
    return jax.lax.convert_element_type(array, array.dtype)  # no longer weakly typed


def checked_data(data: Any) -> tuple[Any, int]:
    """The data on the device, and the number of examples (0 without data)."""
    if data is None:
        return None, 0
    leaves, structure = jax.tree_util.tree_flatten_with_path(data)
    if not leaves:
        raise ValueError("data has no arrays; leave it out if the cost takes none")
    arrays = [jnp.asarray(leaf) for _, leaf in leaves]
    names = ["data" + jax.tree_util.keystr(path) for path, _ in leaves]
    for name, array in zip(names, arrays, strict=True):
        if array.ndim == 0:
            raise ValueError(
                f"{name} must have a leading axis of examples, got the scalar {describe(array)}; "
                "close the cost over it"
            )
        if len(array) != len(arrays[0]):
            raise ValueError(
                "all data must have the same leading axis, one entry per example, got "
                f"{names[0]} {describe(arrays[0])} and {name} {describe(array)}"
            )
    if len(arrays[0]) == 0:
        raise ValueError(
            f"data must hold at least one example, got {names[0]} {describe(arrays[0])}"
        )
    return jax.tree.unflatten(structure, arrays), len(arrays[0])


def checked_batch_size(batch_size: Any, examples: int) -> int | None:
    """The batch size, or None where a batch is all of the data."""
    if batch_size is None:
        return None
    if not examples:
        raise ValueError(f"batch_size = {batch_size} needs data; without data leave it out")
    size = _whole("batch_size", batch_size, least=1)
    if size > examples:
        raise ValueError(
            f"batch_size must be at most the number of examples, got {size} of {examples}"
        )
    return None if size == examples else size


def checked_total(epochs: Any, steps: Any, examples: int, per_epoch: int) -> int:
    """The number of steps."""
    if (epochs is None) == (steps is None):
        raise ValueError(
            f"give either epochs or steps, got epochs={epochs} and steps={steps}: "
            "an epoch is one pass over the data, a step one update"
        )
    if steps is not None:
        return _whole("steps", steps, least=0)
    if not examples:
        raise ValueError(f"epochs = {epochs} needs data; without data give steps")
    return _whole("epochs", epochs, least=0) * per_epoch


def checked_key(key: Any, needed_by: str | None) -> jax.Array | None:
    """A typed key; None where none is given and nothing needs one."""
    if key is None:
        if needed_by is None:
            return None
        raise ValueError(f"key is missing: {needed_by} needs one, such as jax.random.key(0)")
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == ():
            return key
    elif getattr(key, "dtype", None) == jnp.uint32 and getattr(key, "ndim", 0) == 1:
        return jax.random.wrap_key_data(jnp.asarray(key))
    given = describe(key) if hasattr(key, "dtype") else repr(key)
    raise TypeError(f"key must be one key, such as jax.random.key(0), got {given}")


def checked_tolerance(tolerance: Any) -> float | None:
    """A tolerance for the change of the cost; None: the cost is not compared."""
    if tolerance is None:
        return None
    if not math.isfinite(tolerance) or tolerance < 0:
        raise ValueError(
            f"tolerance must be a finite number of at least 0, such as 1e-6, got {tolerance}; "
            "None never stops early"
        )
    return float(tolerance)


def checked_window(window: Any, per_epoch: int) -> int:
    """The number of steps in a window: an epoch's, unless it is given."""
    return per_epoch if window is None else _whole("window", window, least=1)


def key_parameter(cost: Callable[..., Any]) -> inspect.Parameter | None:
    """The cost's parameter named `key`, if it has one."""
    if not callable(cost):
        raise TypeError(f"cost must be a function of the parameters, got {type(cost).__name__}")
    try:
        return inspect.signature(cost).parameters.get("key")
    except ValueError:  # a builtin without a signature
        return None


def _whole(name: str, value: Any, *, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number
