"""Models and optimizers by name, the cost that is minimised, and how well a model does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.common.command import ExperimentError, choose
from experiments.common.data import LOADERS, PIXEL_SIDE, DataSet, Examples, load
from fungrad import layers

Apply = Callable[[Any, jax.Array], jax.Array]  # apply(params, x[N, ...]) -> scores[N, outputs]

# --- models -------------------------------------------------------------------------------------


def logistic(data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """One linear layer: softmax regression, or linear regression where y is real."""
    return fg.models.mlp((data.train.x.shape[1], data.outputs), key=key)


def mlp(data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """Linear layers with ReLU between them."""
    return fg.models.mlp((data.train.x.shape[1], *hidden, data.outputs), key=key)


def cnn(data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """Two convolutions, each with ReLU and max-pooling, and a linear layer."""
    return fg.models.cnn(key=key)


def attention(data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """One transformer block on a row of tokens, and a linear layer on the tokens' mean.

    Each feature is a token; of digits, each row of pixels. Token t of x[N, T, C] is x_t E_t + p_t:
    every position has its own embedding E_t [C × width] and its own place p_t.
    """
    columns = data.train.x.shape[1]
    tokens = PIXEL_SIDE if data.name == "digits" else columns
    features, width, heads = columns // tokens, 32, 4
    normal = jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2, batch_axis=())
    embed = jax.nn.initializers.he_normal(in_axis=-2, out_axis=-1, batch_axis=0)
    keys = iter(jax.random.split(key, 9))

    def linear(outputs: int, inputs: int) -> tuple[jax.Array, jax.Array]:
        return normal(next(keys), (outputs, inputs)), jnp.zeros(outputs)

    params = {
        "embedding": embed(next(keys), (tokens, features, width)),
        "place": 0.1 * jax.random.normal(next(keys), (tokens, width)),
        "norms": [(jnp.ones(width), jnp.zeros(width)) for _ in range(3)],
        "attention": [linear(width, width) for _ in ("query", "key", "value", "output")],
        "mlp": [linear(2 * width, width), linear(width, 2 * width)],
        "output": linear(data.outputs, width),
    }

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = x.reshape(-1, tokens, features)
        h = jnp.einsum("ntc,tcw->ntw", x, params["embedding"]) + params["place"]
        first, second, last = params["norms"]
        enter, leave = params["mlp"]

        h = h + layers.multi_head_attention(
            layers.layer_norm(h, *first), *params["attention"], heads=heads
        )
        z = layers.gelu(layers.linear(layers.layer_norm(h, *second), *enter))
        h = h + layers.linear(z, *leave)
        return layers.linear(layers.layer_norm(h.mean(axis=1), *last), *params["output"])

    return apply, params


MODELS = {"logistic": logistic, "mlp": mlp, "cnn": cnn, "attention": attention}
IMAGE_MODELS = ("cnn",)


def load_for(model: str, name: str) -> DataSet:
    """The data set as the model takes it: images for the models of images, else columns.

    Raises:
        ExperimentError: if a name is unknown, or if the model needs images and there are none.
    """
    images = choose("model", model, MODELS) in IMAGE_MODELS
    if images and choose("data", name, LOADERS) != "digits":
        raise ExperimentError(
            f"model: {model!r} needs images, and {name!r} has none. "
            "Use --data digits, or another model: logistic, mlp, attention."
        )
    return load(name, images=images)


def build(name: str, data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """The model `name` for `data`: (apply, params).

    Raises:
        ExperimentError: if the name is unknown (the message lists the names), or a width is not
            positive.
    """
    model = MODELS[choose("model", name, MODELS)]
    if any(width < 1 for width in hidden):
        raise ExperimentError(f"hidden: got {hidden}, expected widths of at least 1.")
    return model(data, hidden, key)


# --- optimizers ---------------------------------------------------------------------------------

RATE = ("learning_rate", "max_learning_rate")
# Learning rates that suit standardised data of this size; elsewhere DEFAULT_RATE.
RATES = {"sgd": 0.1}
DEFAULT_RATE = 0.01


def optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Every optimizer of `optax` that needs no more than a learning rate, by its name."""

    def is_optimizer(name: str, member: Any) -> bool:
        if name.startswith(("_", "scale_by_")) or not isinstance(member, FunctionType | partial):
            return False
        parameters = inspect.signature(member).parameters.values()
        needed = {each.name for each in parameters if each.default is each.empty}
        names = {each.name for each in parameters}
        return bool(names.intersection(RATE)) and needed <= {*RATE, "kwargs"}

    return {name: member for name, member in vars(optax).items() if is_optimizer(name, member)}


def optimizer(
    name: str, rate: float | None = None, momentum: float | None = None
) -> optax.GradientTransformation:
    """The optax optimizer `name` with its learning rate, and its momentum where it takes one.

    Raises:
        ExperimentError: if the name is unknown (the message lists the names), if the rate is not
            positive, or if the optimizer takes no momentum.
    """
    known = optimizers()
    make = known[choose("optimizer", name, known)]
    parameters = inspect.signature(make).parameters
    arguments: dict[str, Any] = {}

    if rate is not None and not rate > 0:
        raise ExperimentError(f"learning_rate: got {rate}, expected a positive number.")
    argument = next(each for each in RATE if each in parameters)
    if rate is not None or parameters[argument].default is inspect.Parameter.empty:
        arguments[argument] = rate if rate is not None else RATES.get(name, DEFAULT_RATE)

    if momentum is not None:
        if "momentum" not in parameters:
            takers = sorted(
                each for each in known if "momentum" in inspect.signature(known[each]).parameters
            )
            raise ExperimentError(
                f"momentum: the optimizer {name!r} takes none; {', '.join(takers)} do."
            )
        arguments["momentum"] = momentum
    return make(**arguments)


# --- cost and measures --------------------------------------------------------------------------


def cost_of(apply: Apply, data: DataSet) -> Callable[[Any, Examples], jax.Array]:
    """J(θ; x, y) = mean of L(f(x), y): cross-entropy for classes, squared error for values."""

    def cost(params: Any, batch: Examples) -> jax.Array:
        x, y = batch
        scores = apply(params, x)
        if data.regression:
            return fg.losses.squared_error(scores[:, 0], y).mean()
        return fg.losses.cross_entropy(scores, y).mean()

    return cost


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many examples of each true class (row) got each predicted class (column)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (true, predicted), 1)
    return matrix


def predictions(apply: Apply, params: Any, data: DataSet, x: jax.Array) -> np.ndarray:
    """The predicted class, or the predicted value in its own unit."""
    scores = np.asarray(jax.jit(apply)(params, x))
    if data.regression:
        return data.center + data.scale * scores[:, 0]
    return scores.argmax(axis=1)


def measures(apply: Apply, params: Any, data: DataSet, part: Examples) -> dict[str, float]:
    """Loss and accuracy; of a regression the loss, the root mean square error, and R²."""
    loss = float(jax.jit(cost_of(apply, data))(params, part))
    predicted = predictions(apply, params, data, part.x)
    if not data.regression:
        return {"loss": loss, "accuracy": float(np.mean(predicted == np.asarray(part.y)))}
    true = data.center + data.scale * np.asarray(part.y)
    error = float(np.mean((predicted - true) ** 2))
    return {"loss": loss, "rmse": error**0.5, "r2": 1 - error / float(np.var(true))}


def parameter_count(params: Any) -> int:
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
