"""Models: `apply, params = fg.models.mlp((4, 16, 3), key=key)`, then `apply(params, x)`.

`apply` is a pure function of parameters and a batch, and `apply.config` is its configuration:
`build(**apply.config, key=key)` makes the same model with fresh parameters.
"""

from __future__ import annotations

from typing import Any

from fungrad.models.convolutional import cnn
from fungrad.models.model import Linear, Model
from fungrad.models.perceptrons import logistic, mlp
from fungrad.models.transformers import attention

__all__ = ["Linear", "Model", "architectures", "attention", "build", "cnn", "logistic", "mlp"]

architectures = {builder.__name__: builder for builder in (logistic, mlp, cnn, attention)}
"""What builds each model, by name."""


def build(name: str, *sizes: Any, key: Any, **options: Any) -> tuple[Model, Any]:
    """The model `name` with fresh parameters: `architectures[name](*sizes, key=key, **options)`.

    Args:
        name: one of `architectures`.
        sizes: what that builder takes, see there.
        key: a random key.
        options: what that builder takes, see there.

    Returns:
        (apply, params).

    Raises:
        ValueError: there is no such model; the message lists those that there are.

    >>> import jax
    >>> apply, params = build("mlp", (4, 16, 3), activation="tanh", key=jax.random.key(0))
    >>> apply.config
    {'name': 'mlp', 'sizes': (4, 16, 3), 'activation': 'tanh'}
    >>> again, fresh = build(**apply.config, key=jax.random.key(1))
    >>> again == apply
    True
    """
    if name not in architectures:
        raise ValueError(f"name must be one of {', '.join(architectures)}, got {name!r}")
    return architectures[name](*sizes, key=key, **options)
