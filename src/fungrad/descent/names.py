"""Optimizers by name: optax's, and those of this package."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import optax
import optax.contrib

from fungrad.descent.methods import Method
from fungrad.descent.newton import newton_cg
from fungrad.descent.zeroth import evolution, spsa

_RATES = ("learning_rate", "max_learning_rate")


def optimizers() -> dict[str, Callable[..., Any]]:
    """Every optimizer that needs no more than a learning rate, by its name.

    >>> import fungrad as fg
    >>> {"sgd", "adam", "nadamw", "lbfgs", "newton_cg"} <= set(fg.descent.optimizers())
    True
    """
    known = {
        name: member
        for module in (optax.contrib, optax)
        for name, member in vars(module).items()
        if isinstance(member, FunctionType | partial) and _is_optimizer(name, member)
    }
    return known | {"newton_cg": newton_cg, "evolution": evolution, "spsa": _spsa}


def optimizer(name: str, learning_rate: Any = None, **options: Any) -> Any:
    """The optimizer called `name`: an optax one, "newton_cg", "spsa" or "evolution".

    Args:
        name: a name in optax or optax.contrib, or of a method of this package.
        learning_rate: η, a number or an optax schedule; None takes the optimizer's own default.
        **options: the optimizer's other arguments, such as `momentum=0.9`.

    Raises:
        ValueError: if the name is unknown (the message lists the names), or if a learning rate
            is missing, or given where there is none.

    >>> import fungrad as fg
    >>> momentum = fg.descent.optimizer("sgd", 0.1, momentum=0.9)
    """
    known = optimizers()
    if name not in known:
        raise ValueError(f"unknown optimizer {name!r}; the names are {', '.join(sorted(known))}")
    parameters = inspect.signature(known[name]).parameters
    rate = next((each for each in _RATES if each in parameters), None)
    if learning_rate is not None:
        if rate is None:
            raise ValueError(f"learning_rate: the optimizer {name!r} takes none; leave it out")
        options[rate] = learning_rate
    elif rate is not None and parameters[rate].default is inspect.Parameter.empty:
        raise ValueError(f"learning_rate: the optimizer {name!r} needs one, such as 0.01")
    return known[name](**options)


def _is_optimizer(name: str, function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    names = {each.name for each in parameters}
    needed = {
        each.name
        for each in parameters
        if each.default is each.empty and each.kind < each.VAR_KEYWORD
    }
    public = not name.startswith(("_", "scale_by_", "normalize_by_"))
    return public and not names.isdisjoint(_RATES) and needed <= set(_RATES)


def _spsa(learning_rate: float, **options: Any) -> Method:
    """SPSA with steps along the estimate, η_k = η / (k + 1)^0.602 as Spall advises."""
    return spsa(optax.sgd(lambda step: learning_rate / (step + 1.0) ** 0.602), **options)
