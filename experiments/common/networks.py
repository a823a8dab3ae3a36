"""The networks whose units are looked at: two that are trained here in minutes, or a user's own."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.common import data, learning, photos
from experiments.common.command import ExperimentError, choose
from experiments.common.report import Report, console


@dataclass(frozen=True)
class Network:
    """A model, and what one has to know to look at it.

    Attributes:
        model: x[N, H, W, C] in [0, 1] -> logits [N, classes].
        shape: [H, W, C] of the images that are made for it.
        nodes: names of its layers, from the input up; the last is where one dreams.
        classes: the names of the logits.
        about: what it is, and how good, in a sentence or two.
    """

    model: Callable[[jax.Array], Any]
    shape: tuple[int, int, int]
    nodes: tuple[str, ...]
    classes: tuple[str, ...]
    about: str


def load(name: str, report: Report, *, smoke: bool, seed: int) -> Network:
    """The network of digits or of photographs, trained now, or the user's own."""
    if ":" in name:
        return own(name)
    return TRAINED[choose("model", name, TRAINED)](report, smoke, seed)


# --- digits -------------------------------------------------------------------------------------


def digits(report: Report, smoke: bool, seed: int) -> Network:
    """The demo's network: two convolutions and a linear layer, 98 % right on unseen digits."""
    examples = data.load("digits", images=True)
    examples = examples.first(64) if smoke else examples
    start, order = jax.random.split(jax.random.key(seed))
    apply, params = learning.build("cnn", examples, (), start)
    console.print(f"a network learns {len(examples.train.y):,} digits")
    descent = fg.descent.minimize(
        learning.cost_of(apply, examples),
        params,
        examples.train,
        optimizer=optax.adam(0.002),
        epochs=1 if smoke else 20,
        batch_size=32,
        key=order,
        checkpoint=report.checkpoint(),
        progress=True,
    )
    right = learning.measures(apply, descent.params, examples, examples.test)["accuracy"]
    return Network(
        lambda x: apply(descent.params, x),
        (8, 8, 1),
        ("h1", "h2"),
        examples.classes,
        f"Two convolutions with ReLU and a linear layer, trained on the "
        f"{len(examples.train.y):,} training digits of scikit-learn (8 × 8 pixels); {right:.1%} "
        "of the test digits are read correctly.",
    )


# --- photographs --------------------------------------------------------------------------------


def photographs(report: Report, smoke: bool, seed: int) -> Network:
    """The network of `experiments.common.photos`: of which photograph is this a piece?"""
    console.print(f"a network learns pieces of {len(photos.NAMES)} photographs")
    size = {"steps": 2, "count": 20} if smoke else {"steps": 400}
    trained = photos.train(**size, seed=seed, checkpoint=report.checkpoint())
    return Network(
        lambda x: photos.logits(trained.params, x),
        (64, 64, 3),
        tuple(f"stage{number}" for number in range(1, len(photos.WIDTHS) + 1)),
        photos.NAMES,
        f"Three stages of two convolutions each ({', '.join(map(str, photos.WIDTHS))} channels) "
        f"with ReLU, a mean over positions and a linear layer. It has learnt for this page to say "
        f"of which of {len(photos.NAMES)} photographs a piece of {photos.SIDE} × {photos.SIDE} "
        f"pixels is, and is right on {trained.accuracy:.0%} of pieces of parts that it has not "
        f"seen. {len(photos.NAMES)} photographs are all that it has seen in its life: its units "
        "are of colours, edges and textures, so do not look for dogs.",
    )


def photograph(given: str) -> np.ndarray:
    """A photograph by its name in `photos.NAMES`, or by its path: [192, W, 3] in [0, 1].

    Raises:
        ExperimentError: it is neither, or no image.
    """
    if given in photos.NAMES or not Path(given).expanduser().is_file():
        return photos.photo(choose("photo", given, photos.NAMES))
    return photos.read_photo(Path(given).expanduser())


TRAINED = {"digits": digits, "photographs": photographs}


# --- a user's own -------------------------------------------------------------------------------


def own(name: str, shape: tuple[int, int, int] = (64, 64, 3)) -> Network:
    """What the function `package.module:function` returns: a model, or {"model": a model, "shape":
    (H, W, C) of its images}.

    A model is a function of a batch x[N, H, W, C] in [0, 1], such as a flax module or
    `jax.vmap` of an equinox one, or a pair (apply, params).

    Raises:
        ExperimentError: there is no such function, or what it returns is no model.
    """
    made = imported(name)
    if isinstance(made, dict):
        shape, made = tuple(made.get("shape", shape)), made.get("model")
    return described(name, as_model(name, made), shape)


def imported(name: str) -> Any:
    """What the function `package.module:function` returns.

    Raises:
        ExperimentError: there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExperimentError(
            f"model: {name!r} cannot be imported: {error}. Give package.module:function; the "
            "module must be importable from here."
        ) from error
    return make()


def as_model(name: str, made: Any) -> Callable[..., Any]:
    """A function of a batch, of which (apply, params) is one, too.

    Raises:
        ExperimentError: it is neither.
    """
    if isinstance(made, tuple) and len(made) == 2 and callable(made[0]):
        made = functools.partial(*made)
    if not callable(made):
        raise ExperimentError(
            f"model: {name} returned {type(made).__name__}; expected a function of a batch "
            'x[N, H, W, C], (apply, params), or {"model": ..., "shape": (H, W, C)}.'
        )
    return made


def described(name: str, model: Callable[..., Any], shape: tuple[int, int, int]) -> Network:
    """A user's model, with its nodes found out: the named ones, else its activations."""
    graph = fg.trace(model)(jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    named = [node.label for node in graph.nodes if node.name == node.label]
    convolutions = [n.label for n in graph.nodes if n.primitive == "conv_general_dilated"]
    nodes = tuple(named or convolutions[:8])
    outputs = graph.jaxpr.out_avals[0].shape[-1]
    return Network(model, shape, nodes, tuple(map(str, range(outputs))), f"Your model `{name}`.")
