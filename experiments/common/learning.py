"""Models and optimizers by name, the cost that is minimised, and how well a model does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.common.command import ExperimentError, choose
from experiments.common.data import DataSet, Examples

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


MODELS = {"logistic": logistic, "mlp": mlp, "cnn": cnn}
IMAGE_MODELS = ("cnn",)


def build(name: str, data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """The model `name` for `data`: (apply, params).

    Raises:
        ExperimentError: if the name is unknown (the message lists the names) or the model does
            not fit the data.
    """
    name = choose("model", name, MODELS)
    if any(width < 1 for width in hidden):
        raise ExperimentError(f"hidden: got {hidden}, expected widths of at least 1.")
    if (name in IMAGE_MODELS) != (data.train.x.ndim == 4):
        raise ExperimentError(
            f"model: {name!r} needs images [N, H, W, C], and {data.name!r} has columns. "
            f"Use --data digits, or --model mlp."
        )
    return MODELS[name](data, hidden, key)


# --- optimizers ---------------------------------------------------------------------------------

RATE = ("learning_rate", "max_learning_rate")
# Learning rates that suit standardised data of this size; elsewhere DEFAULT_RATE.
RATES = {"sgd": 0.1}
DEFAULT_RATE = 0.01


def optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Every optimizer of `optax` that needs no more than a learning rate, by its name."""

    def is_optimizer(name: str, member: Any) -> bool:
        if name.startswith(("_", "scale_by_")) or not callable(member) or inspect.isclass(member):
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
