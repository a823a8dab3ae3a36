"""J(θ) at one step, and what may be asked about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from fungrad import transforms
from fungrad.rulebook import Rulebook


@dataclass(frozen=True)
class Objective:
    """J(θ): the cost, with the batch and the key of one step filled in.

    Attributes:
        cost: the user's function, `cost(params)` or `cost(params, batch)`.
        batch: `()` or `(batch,)`.
        options: `{}` or `{"key": key}`.
        rules: the rulebook of the gradients; None is the default one.
        promotion: JAX's dtype promotion under which the cost runs, the caller's own.
        fixed: whether every step has this same J, so that what was computed at the end of one
            step holds at the start of the next.
    """

    cost: Callable[..., Any]
    batch: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    rules: Rulebook | None = None
    promotion: str = "standard"
    fixed: bool = False

    def __call__(self, params: Any) -> jax.Array:
        """J(θ), a scalar."""
        with jax.numpy_dtype_promotion(self.promotion):
            return _scalar(self.cost(params, *self.batch, **self.options))

    def value_and_grad(self, params: Any) -> tuple[jax.Array, Any]:
        """J(θ) and ∂J/∂θ, as plain g · J (no conjugate)."""
        with jax.numpy_dtype_promotion(self.promotion):
            return transforms.value_and_grad(self, rules=self.rules)(params)

    def hessian(self, params: Any) -> Callable[[Any], Any]:
        """v -> H v with H = ∂²J/∂θ². What does not depend on v is computed once."""

        def product(v: Any) -> Any:
            return transforms.hvp(self, (params,), (v,), rules=self.rules)[1]

        with jax.numpy_dtype_promotion(self.promotion):
            return jax.linearize(product, jax.tree.map(jnp.zeros_like, params))[1]

    def as_function(self) -> Callable[[Any], jax.Array]:
        """J as a function that `jax.grad` differentiates by `self.rules`: for line searches."""
        function = jax.custom_vjp(lambda params: self(params))
        function.defvjp(self.value_and_grad, _scaled)
        return function


def _scaled(gradient: Any, g: Any) -> tuple[Any]:
    """g · ∂J/∂θ, for the one argument."""
    return (jax.tree.map(lambda leaf: jnp.asarray(g, leaf.dtype) * leaf, gradient),)


def _scalar(value: Any) -> jax.Array:
    """Refuses what is not a real scalar."""
    if not isinstance(value, jax.Array | float) and not hasattr(value, "dtype"):
        raise TypeError(
            f"cost must return one real scalar, got {type(value).__name__}; "
            "return the cost alone, without auxiliary values"
        )
    value = jnp.asarray(value)
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"cost must return one real scalar, got {jax.typeof(value).str_short()}; "
            "reduce the losses of the examples with .mean() or .sum()"
        )
    return value
