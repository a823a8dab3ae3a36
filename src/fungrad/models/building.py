"""Models by name: with fresh parameters, or with their shapes alone."""

from __future__ import annotations

from typing import Any

import jax

from fungrad.models.clips import clip, text_tower
from fungrad.models.convolutional import cnn
from fungrad.models.model import Model
from fungrad.models.perceptrons import logistic, mlp
from fungrad.models.resnets import resnet
from fungrad.models.transformers import attention
from fungrad.models.vggs import vgg
from fungrad.models.vits import vit

architectures = {
    builder.__name__: builder
    for builder in (logistic, mlp, cnn, attention, vgg, resnet, vit, text_tower, clip)
}
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


def shapes(name: str, *sizes: Any, **options: Any) -> tuple[Model, Any]:
    """What `build` gives, with the shapes and dtypes of the parameters and nothing allocated.

    Args:
        name: one of `architectures`.
        sizes: what that builder takes, see there.
        options: what that builder takes, but no key.

    Returns:
        (apply, params) with `jax.ShapeDtypeStruct`s in the place of arrays.

    Raises:
        ValueError: those of `build`.

    >>> from fungrad.models import count
    >>> apply, params = shapes("vgg", 16)
    >>> params.head.W.shape, count(params)
    ((1000, 4096), 138357544)
    """
    models = []

    def params_of(key):
        apply, params = build(name, *sizes, key=key, **options)
        models.append(apply)
        return params

    params = jax.eval_shape(params_of, jax.random.key(0))
    return models[0], params
