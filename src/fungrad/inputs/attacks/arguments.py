"""Checks of what attacks are given, before any work is done."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad._arguments import describe, known, values_pass
from fungrad.inputs.attacks.criteria import Misclassified
from fungrad.inputs.attacks.method import Method, MinimumNormMethod


def checked_bounds(bounds: Any) -> tuple[float, float]:
    """(low, high), two numbers in order."""
    try:
        low, high = bounds
        pair = float(low), float(high)
    except (TypeError, ValueError):
        raise ValueError(f"bounds must be two numbers (low, high), got {bounds!r}") from None
    if not pair[0] < pair[1]:
        raise ValueError(f"bounds must be (low, high) with low < high, got {bounds!r}")
    return pair


def checked_x(x: Any, bounds: tuple[float, float]) -> jax.Array:
    """Floating-point examples [N, ...] in the bounds."""
    array = jnp.asarray(x)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"x must be floating-point, got {describe(array)}; convert it with x.astype(float) "
            "and give its range as bounds="
        )
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"x must be a batch [N, ...] of at least one example, got {describe(array)}; "
            "a single example is x[None]"
        )
    low, high = (np.asarray(bound, array.dtype) for bound in bounds)
    if known(x):
        values_pass("x", array, lambda x: np.isfinite(x.astype(np.float64)), "finite")
        within = f"inside bounds = {bounds}"
        values_pass("x", array, lambda x: (x >= low) & (x <= high), within)
    return array


def checked_criterion(criterion: Any, examples: int) -> Misclassified:
    """The criterion with int32 labels [N]."""
    if not isinstance(criterion, Misclassified):
        raise TypeError(
            "criterion must be Misclassified(labels) or Targeted(labels), "
            f"got {type(criterion).__name__}"
        )
    labels = jnp.asarray(criterion.labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels must be integers, got {describe(labels)}; "
            "of one-hot rows take labels.argmax(axis=-1)"
        )
    if labels.shape != (examples,):
        raise ValueError(
            f"labels must have shape [{examples}], one per example of x, got {describe(labels)}"
        )
    return type(criterion)(labels.astype(jnp.int32))


def check_labels(criterion: Misclassified, classes: int) -> None:
    """Refuses labels that are no classes of the model."""
    labels = criterion.labels
    values_pass("labels", labels, lambda y: (y >= 0) & (y < classes), f"in [0, {classes})")


def checked_method(method: Any) -> Method:
    """A method; its class alone is none."""
    if isinstance(method, Method):
        return method
    given = (
        f"the class {method.__name__}; write {method.__name__}()"
        if isinstance(method, type)
        else type(method).__name__
    )
    raise TypeError(f"method must be a method such as PGD(norm=2), got {given}")


def checked_epsilons(epsilons: Any, method: Method, dtype: Any) -> jax.Array | None:
    """ε [K], or None, which minimum-norm methods alone can do with."""
    if epsilons is None:
        if isinstance(method, MinimumNormMethod):
            return None
        raise ValueError(
            f"epsilons must be given to {type(method).__name__}, a size or several; "
            "only minimum-norm methods do without"
        )
    array = jnp.asarray(epsilons)
    if jnp.issubdtype(array.dtype, jnp.bool_) or not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"epsilons must be real numbers, got {describe(array)}")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"epsilons must be real numbers, got {describe(array)}")
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"epsilons must be a number or [K], got {describe(array)}")
    values_pass("epsilons", epsilons, lambda e: np.isfinite(e) & (e >= 0), "finite and at least 0")
    return jnp.atleast_1d(array).astype(dtype)


def checked_key(key: Any) -> jax.Array:
    """A random key of either kind, as one of the new kind."""
    array = key if isinstance(key, jax.Array) else jnp.asarray(key)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) and array.shape == ():
        return array
    if array.dtype == jnp.uint32 and array.shape == (2,):
        return jax.random.wrap_key_data(array)
    raise TypeError(f"key must be a random key such as jax.random.key(0), got {describe(array)}")


def checked_count(name: str, value: Any) -> int | None:
    """A positive integer or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer or None, got {value!r}")
    return int(value)


def classes_of(graph: Any, examples: int) -> int:
    """C, from the graph of the model, whose output must be logits [N, C]."""
    out = graph.out_avals
    if len(out) != 1 or not jnp.issubdtype(out[0].dtype, jnp.floating):
        raise TypeError(f"model must return one floating-point array, logits [N, C], got {out}")
    shape = out[0].shape
    if len(shape) != 2 or shape[0] != examples or shape[1] < 2:
        raise ValueError(
            f"model must return logits [N, C] of at least two classes, here [{examples}, C], "
            f"got {out[0].str_short()}"
        )
    return shape[1]


def check_logits(z: Any) -> None:
    """Refuses probabilities, whose gradients vanish where the model is sure, and NaN."""
    values = np.asarray(z, np.float64)
    if np.isnan(values).any():
        raise ValueError("model must return numbers, got NaN among the logits of x")
    sums = np.abs(values.sum(axis=1) - 1)
    if (values >= 0).all() and (values <= 1).all() and (sums < 1e-2).all():
        raise ValueError(
            "model must return logits, got rows of probabilities, which are positive and add up "
            "to 1; leave out the softmax at its end, or take jnp.log of its output"
        )


def check_model(model: Any) -> None:
    """Refuses what cannot be called."""
    if not isinstance(model, Callable):
        raise TypeError(
            f"model must be a function x[N, ...] -> logits[N, C], got {type(model).__name__}"
        )
