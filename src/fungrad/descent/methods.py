"""How a step is made: an optimizer of optax, or a method of this package, behind one face."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fungrad.descent.objective import Objective

# The states of optax's line searches.
SEARCHES = (optax.ScaleByZoomLinesearchState, optax.ScaleByBacktrackingLinesearchState)


@dataclass(frozen=True)
class Method:
    """A way to make steps; `minimize(optimizer=...)` takes one where it takes an optax optimizer.

    Attributes:
        name: for messages.
        init: `(params, key) -> state`, a pytree of arrays.
        step: `(objective, params, state, key) -> (cost before the step, params, state)`, traced
            once. `objective(params)` is the cost of this step's batch, and
            `objective.value_and_grad`, `objective.hessian` its derivatives.
        random: whether `init` and `step` need the key; without this it may be None.
    """

    name: str
    init: Callable[[Any, Any], Any]
    step: Callable[[Objective, Any, Any, Any], tuple[Any, Any, Any]]
    random: bool = False


def as_method(optimizer: Any) -> Method:
    """The method that `optimizer` stands for."""
    if isinstance(optimizer, Method):
        return optimizer
    if callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None)):
        return first_order(optimizer)
    given = repr(optimizer) if isinstance(optimizer, str) else type(optimizer).__name__
    raise TypeError(
        "optimizer must be an optax optimizer, such as optax.adam(1e-2), or a method of "
        f"fungrad.descent, got {given}; fungrad.descent.optimizer makes one from its name"
    )


# --- first order ----------------------------------------------------------------------------------


def first_order(optimizer: optax.GradientTransformation) -> Method:
    """Backpropagation and an optax optimizer: θ ← θ + u(∂J/∂θ), e.g. u = −η ∂J/∂θ.

    Complex parameters descend along the conjugate of plain g · J, the direction of steepest
    ascent of a real function of a complex variable.
    """
    extended = optax.with_extra_args_support(optimizer)

    def init(params, key):
        with jax.numpy_dtype_promotion("standard"):
            return extended.init(params)

    def step(objective, params, state, key):
        search = _last(state)
        if objective.fixed and isinstance(search, SEARCHES) and search.grad is not None:
            # The search has ended where this step begins, and knows the cost and gradient there.
            known = optax.value_and_grad_from_state(objective.as_function())
            value, gradient = known(params, state=search)
        else:
            value, gradient = objective.value_and_grad(params)
        return value, *update(extended, objective, params, state, value, gradient)

    return Method("first_order", init, step)


def update(optimizer, objective: Objective, params, state, value, gradient) -> tuple[Any, Any]:
    """One step of an optax optimizer from a gradient, however that was found.

    optax mixes dtypes freely, so it runs under JAX's standard promotion; the objective that its
    line searches evaluate runs under the caller's.
    """
    function = objective.as_function()
    known = {"value": value, "grad": gradient, "value_fn": function}
    if not _searches_line(state):  # a line search hands what it does not know to `value_fn`
        known |= {
            "obj_fn": function,
            "grad_fn": lambda theta, *_: _ascent(jax.grad(function)(theta)),
        }
    accepted = inspect.signature(optimizer.update).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in accepted.values()):
        known = {name: known[name] for name in known.keys() & accepted.keys()}
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(_ascent(gradient), state, params, **known)
        return optax.apply_updates(params, updates), state


def _ascent(gradient: Any) -> Any:
    """The direction of steepest ascent: the gradient's conjugate."""
    return jax.tree.map(lambda g: g.conj() if jnp.iscomplexobj(g) else g, gradient)


def _searches_line(state: Any) -> bool:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, SEARCHES))
    return any(isinstance(node, SEARCHES) for node in nodes)


def _last(state: Any) -> Any:
    """The state of the last link of a chain of transformations."""
    while type(state) is tuple and state:
        state = state[-1]
    return state


def require_real(name: str, params: Any) -> None:
    """For the methods that treat the parameters as one real vector."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if jnp.iscomplexobj(leaf):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} is {jax.typeof(leaf).str_short()}, and "
                f"{name} minimises over real parameters; give real and imaginary parts"
            )
