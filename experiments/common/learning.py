"""Models and optimizers by name, the cost that is minimised, and how well a model does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import fungrad as fg
from experiments.common.command import ExperimentError, choose
from experiments.common.data import LOADERS, PIXEL_SIDE, DataSet, Examples, load

Apply = Callable[[Any, jax.Array], jax.Array]  # apply(params, x[N, ...]) -> scores[N, outputs]

# --- models -------------------------------------------------------------------------------------


def logistic(data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """One linear layer: softmax regression, or linear regression where y is real."""
    return fg.models.logistic(data.train.x.shape[1], data.outputs, key=key)


def mlp(data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """Linear layers with ReLU between them."""
    return fg.models.mlp((data.train.x.shape[1], *hidden, data.outputs), key=key)


def cnn(data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """Two convolutions, each with ReLU and max-pooling, and a linear layer."""
    return fg.models.cnn(data.train.x.shape[1:], outputs=data.outputs, key=key)


def attention(data: DataSet, hidden: tuple[int, ...], key: jax.Array) -> tuple[Apply, Any]:
    """One transformer block; each feature is a token, or of digits each row of pixels."""
    tokens = PIXEL_SIDE if data.name == "digits" else None
    return fg.models.attention(data.train.x.shape[1], data.outputs, tokens=tokens, key=key)


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

# Learning rates that suit standardised data of this size, for the optimizers that need one.
RATES = {
    "sgd": 0.1,
    "adam": 0.002,
    "adamw": 0.002,
    "adagrad": 0.1,
    "rprop": 0.1,
    "lion": 0.001,
    "sign_sgd": 0.001,
}
DEFAULT_RATE = 0.01


def optimizer(name: str, rate: float | None = None, momentum: float | None = None) -> Any:
    """The optimizer `name` with its learning rate, and its momentum where it takes one.

    Raises:
        ExperimentError: if the name is unknown (the message lists the names), if the rate is not
            positive, or if the optimizer takes no such argument.
    """
    known = fg.descent.optimizers()
    parameters = inspect.signature(known[choose("optimizer", name, known)]).parameters
    if rate is not None and not rate > 0:
        raise ExperimentError(f"learning_rate: got {rate}, expected a positive number.")
    needed = parameters.get("learning_rate") or parameters.get("max_learning_rate")
    if rate is None and needed is not None and needed.default is inspect.Parameter.empty:
        rate = RATES.get(name, DEFAULT_RATE)
    if momentum is not None and "momentum" not in parameters:
        takers = [each for each in known if "momentum" in inspect.signature(known[each]).parameters]
        raise ExperimentError(
            f"momentum: the optimizer {name!r} takes none; {', '.join(sorted(takers))} do."
        )
    options: dict[str, Any] = {} if momentum is None else {"momentum": momentum}
    if "key" in parameters:  # noisy_sgd
        options["key"] = jax.random.key(0)
    try:
        return fg.descent.optimizer(name, rate, **options)
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"optimizer: {error}") from error


# --- cost and measures --------------------------------------------------------------------------


ATTACK = fg.inputs.PGD(steps=7, step_size=0.5)


def cost_of(
    apply: Apply, data: DataSet, *, adversarial: float = 0.0
) -> Callable[[Any, Examples], jax.Array]:
    """J(θ; x, y) = mean of L(f(x), y): cross-entropy for classes, squared error for values.

    With `adversarial` ε > 0 it is max over x' of L(f(x'), y), ‖x' − x‖_∞ ≤ ε in the range of the
    training examples, as far as PGD finds it [madry2018].
    """

    def cost(params: Any, batch: Examples) -> jax.Array:
        x, y = batch
        if adversarial:
            x = attacked(apply, params, data, batch, adversarial).x[0]
        scores = apply(params, x)
        if data.regression:
            return fg.losses.squared_error(scores[:, 0], y).mean()
        return fg.losses.cross_entropy(scores, y).mean()

    return cost


def attacked(
    apply: Apply, params: Any, data: DataSet, part: Examples, epsilon: float
) -> fg.inputs.Attack:
    """The part, changed by PGD; the parameters are constants to whoever differentiates."""
    fixed = jax.lax.stop_gradient(params)
    known = np.asarray(data.train.x)
    return fg.inputs.attack(
        lambda x: apply(fixed, x),
        part.x,
        fg.inputs.Misclassified(part.y),
        ATTACK,
        epsilon,
        bounds=(float(known.min()), float(known.max())),
        key=jax.random.key(0),
    )


def robust_accuracy(
    apply: Apply, params: Any, data: DataSet, part: Examples, epsilon: float
) -> float:
    """The share of the part that is classified correctly under attack."""
    inside = part._replace(x=part.x.clip(data.train.x.min(), data.train.x.max()))
    return float(attacked(apply, params, data, inside, epsilon).robust_accuracy[0])


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
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))
