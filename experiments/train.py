"""Which model learns which data set, with which optimizer?

    python -m experiments.train                                      # seed 004: iris, 4-16-3, SGD
    python -m experiments.train --data digits --model cnn            # over 98 % on unseen digits
    python -m experiments.train --data wine --model attention --optimizer adamw
    python -m experiments.train --data digits --model cnn --adversarial 0.1

Data sets: iris, digits, wine, breast_cancer, diabetes. Models: logistic (on diabetes: linear
regression), mlp, cnn (digits), attention (features, or rows of pixels, as tokens). Optimizers:
every optimizer of optax by its name. A run that was killed goes on with `--resume`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

import fungrad as fg
from experiments.common import data, figures, learning
from experiments.common.command import ExperimentError, command_line
from experiments.common.report import Report, console, plain

# What a resumed run may not change: the steps that were taken depend on it.
FIXED = (
    "data",
    "model",
    "optimizer",
    "learning_rate",
    "momentum",
    "batch_size",
    "hidden",
    "adversarial",
    "seed",
)

HEADS = {"r2": "R²", "rmse": "root mean square error", "robust": "accuracy under attack"}
EPOCHS = {"iris": 400, "digits": 30}
OPTIMIZERS = {"cnn": "adam", "attention": "adam"}


@dataclass(frozen=True)
class Config:
    """Train one model on one data set."""

    data: str = "iris"
    """iris, digits, wine, breast_cancer or diabetes."""
    model: str = "mlp"
    """logistic, mlp, cnn or attention."""
    optimizer: str | None = None
    """Any optimizer of optax, by its name; unless given, sgd, for cnn and attention adam."""
    learning_rate: float | None = None
    """Step size; unless given, one that suits the optimizer."""
    momentum: float | None = None
    """Momentum, for the optimizers that take it (sgd, rmsprop, lars, ...)."""
    epochs: int | None = None
    """How often every training example is seen; unless given, enough for the data set."""
    batch_size: int = 16
    """Examples per step."""
    hidden: tuple[int, ...] = (16,)
    """Widths of the mlp's hidden layers; the cnn's channels, the attention's width are its own."""
    adversarial: float = 0.0
    """ε: learn from examples that PGD has changed by at most that much in each column (L∞)."""
    seed: int = 0
    """Of the initial parameters and the order of the examples; the split never changes."""
    resume: bool = False
    """Go on from the checkpoint in the output folder."""
    smoke: bool = False
    """A run of seconds that only shows that all parts work."""
    out: Path = Path("runs/train")
    """The output folder."""


def run(config: Config) -> Path:
    """Train, measure, draw; returns the path of the page.

    Raises:
        ExperimentError: for an unknown name, a model that does not fit the data, numbers out of
            range, an output folder that cannot be written, or a checkpoint of another run.
    """
    enough = 2 if config.smoke else EPOCHS.get(config.data, 60)
    config = replace(
        config,
        epochs=enough if config.epochs is None else config.epochs,
        optimizer=config.optimizer or OPTIMIZERS.get(config.model, "sgd"),
    )
    for name in ("epochs", "batch_size"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"{name}: got {getattr(config, name)}, expected at least 1.")
    if not 0 <= config.adversarial < float("inf"):
        raise ExperimentError(f"adversarial: got {config.adversarial}, expected at least 0.")
    optimizer = learning.optimizer(config.optimizer, config.learning_rate, config.momentum)
    examples = learning.load_for(config.model, config.data)
    if config.adversarial and examples.regression:
        raise ExperimentError(f"adversarial: {config.data!r} has no classes to be mistaken for.")
    initial_key, order_key = jax.random.split(jax.random.key(config.seed))
    apply, params = learning.build(config.model, examples, config.hidden, initial_key)
    if config.resume:
        check_resumable(config)

    report = Report(
        "train",
        f"{config.data} · {config.model} · {config.optimizer}",
        lead=lead(config, examples),
        config=config,
        folder=config.out,
    )
    try:
        result = fg.descent.minimize(
            learning.cost_of(apply, examples, adversarial=config.adversarial),
            params,
            examples.train,
            optimizer=optimizer,
            epochs=config.epochs,
            batch_size=min(config.batch_size, len(examples.train.y)),
            key=order_key,
            checkpoint=report.checkpoint(resume=config.resume),
            progress=True,
        )
    except ValueError as error:  # the checkpoint is of another run, or has gone further
        raise ExperimentError(f"resume: {error}") if config.resume else error from error
    train = learning.measures(apply, result.params, examples, examples.train)
    test = learning.measures(apply, result.params, examples, examples.test)
    if config.adversarial:
        for measured, part in ((train, examples.train), (test, examples.test)):
            measured["robust"] = learning.robust_accuracy(
                apply, result.params, examples, part, config.adversarial
            )

    if result.failure is not None:
        console.print("warning:", result.stopped_because, style="yellow", markup=False)
    overview(report, learning.parameter_count(params), result, train, test)
    loss_curve(report, config, examples, result.history)
    outcome = regression_page if examples.regression else classification_page
    outcome(report, apply, result.params, examples)
    return report.finish(
        {
            "train": train,
            "test": test,
            "parameters": learning.parameter_count(params),
            "steps": len(result.history),
            "stopped_because": result.stopped_because,
        }
    )


def check_resumable(config: Config) -> None:
    """The checkpoint exists, and the run that left it had this configuration."""
    written = config.out / "config.json"
    if not (config.out / "checkpoint").exists() or not written.exists():
        raise ExperimentError(
            f"resume: there is no checkpoint in {str(config.out)!r}. Start without --resume."
        )
    before, now = json.loads(written.read_text()), plain(config)
    for name in FIXED:
        if before.get(name) != now[name]:
            raise ExperimentError(
                f"resume: the checkpoint in {str(config.out)!r} was made with "
                f"{name} = {before.get(name)!r}, and {now[name]!r} was given. "
                f"Give the same, or start without --resume."
            )


# --- the page -----------------------------------------------------------------------------------


def lead(config: Config, examples: data.DataSet) -> str:
    size = f"{len(examples.train.y)} training and {len(examples.test.y)} test examples"
    if examples.regression:
        task = "a value to predict"
        if config.model == "logistic":
            task += "; without classes, `logistic` is linear regression"
    else:
        task = f"{len(examples.classes)} classes"
    return f"{size}, {task}. The gradients are fungrad's, the steps optax's."


def overview(report: Report, parameters: int, result, train, test) -> None:
    shown = {
        "accuracy": "{:.1%}",
        "robust": "{:.1%}",
        "r2": "{:.3f}",
        "rmse": "{:.1f}",
        "loss": "{:.4f}",
    }
    chief = "accuracy" if "accuracy" in test else "r2"
    label = {"accuracy": "accuracy", "r2": "R²"}[chief]
    if result.failure is not None:
        report.text("The descent failed; what follows is measured with the last good parameters.")
    report.cards(
        {
            f"test {label}": shown[chief].format(test[chief]),
            f"training {label}": shown[chief].format(train[chief]),
            "parameters": f"{parameters:,}",
            "steps": f"{len(result.history):,}",
        }
    )
    report.table(
        ["", *(HEADS.get(name, name) for name in train)],
        [
            [part, *(shown[name].format(value) for name, value in measured.items())]
            for part, measured in (("training", train), ("test", test))
        ],
        caption=f"The descent ended because {result.stopped_because}.",
    )


def loss_curve(report: Report, config: Config, examples: data.DataSet, history) -> None:
    figure, (plot,) = figures.axes()
    name = "squared error" if examples.regression else "cross-entropy"
    figures.loss_curve(plot, history, config.epochs, name, f"Loss, {config.optimizer}")
    report.section("Loss")
    report.figure(
        "loss",
        figure,
        caption=f"The {name} of each mini-batch ({config.batch_size} examples) before its step.",
    )


def classification_page(report: Report, apply, params, examples: data.DataSet) -> None:
    figure, plots = figures.axes(2, width=11, height=5)
    for plot, part in zip(plots, ("train", "test"), strict=True):
        true, predicted = outcomes(apply, params, examples, part)
        matrix = learning.confusion_matrix(true, predicted, examples.outputs)
        figures.confusion(plot, matrix, examples.classes, title=part)
    report.section("Confusions")
    report.figure(
        "confusion",
        figure,
        caption="How many examples of each true class (row) were given each class (column); "
        "the colour is the share of the row.",
    )
    if examples.name == "digits":
        mistakes_sheet(report, *outcomes(apply, params, examples, "test"))


def mistakes_sheet(report: Report, true: np.ndarray, predicted: np.ndarray) -> None:
    (wrong,) = np.nonzero(true != predicted)
    if not len(wrong):
        return
    shown = wrong[:20]
    images = data.load("digits", images=True).test.x[shown, :, :, 0]
    report.section("Mistakes")
    report.figure(
        "mistakes",
        figures.contact_sheet(
            images,
            [f"{true[index]} read as {predicted[index]}" for index in shown],
            columns=min(10, len(shown)),
        ),
        caption=f"The first {len(shown)} of {len(wrong)} test digits that the model misreads.",
    )


def outcomes(apply, params, examples: data.DataSet, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The true and the predicted classes or values of the training or test examples."""
    x, y = getattr(examples, part)
    true = np.asarray(y)
    if examples.regression:
        true = examples.center + examples.scale * true
    return true, learning.predictions(apply, params, examples, x)


def regression_page(report: Report, apply, params, examples: data.DataSet) -> None:
    figure, plots = figures.axes(2, width=10)
    for plot, part in zip(plots, ("train", "test"), strict=True):
        true, predicted = outcomes(apply, params, examples, part)
        figures.agreement(plot, true, predicted, unit="progression", title=part)
    report.section("Predictions")
    report.figure(
        "predictions",
        figure,
        caption="Disease progression one year later, predicted against true; on the dashed line "
        "they would be equal.",
    )


def main() -> None:
    command_line(run, Config, __doc__)


if __name__ == "__main__":
    main()
