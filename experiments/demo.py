"""The main job: backpropagation on real data, in one page.

    python -m experiments.demo

1. The lecture's worked example, step by step, with its numbers.
2. A convolutional network learns the handwritten digits, to at least 98 % on unseen ones.
3. fungrad's gradient of that network beside jax.grad's, parameter by parameter.
4. Gradients of the input instead: images that each logit likes best, and small changes of an
   image that make the network misread it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.common import data, figures, learning, worked_example
from experiments.common.command import command_line
from experiments.common.report import Report, bad, console, good

SMOKE_EXAMPLES = 64  # of the training and test examples in a smoke run


@dataclass(frozen=True)
class Config:
    """The lecture's example, a network on digits, its gradients checked, and two uses of them."""

    epochs: int = 20
    """How often every training digit is seen."""
    batch_size: int = 32
    """Examples per step."""
    learning_rate: float = 0.002
    """Adam's step size."""
    visualization_steps: int = 300
    """Steps of gradient ascent on an image."""
    regularizer: float = 0.25
    """Weight λ of the visualisations' penalty."""
    epsilon: float = 0.15
    """Largest change of a pixel in the adversarial examples; pixels are in [0, 1]."""
    seed: int = 0
    """Of the initial parameters, the order of the examples, and the first images of the ascents."""
    smoke: bool = False
    """A run of seconds that only shows that all parts work."""
    out: Path = Path("runs/demo")
    """The output folder."""


@dataclass(frozen=True)
class Trained:
    """The network after training: `apply(params, x[N, 8, 8, 1]) -> logits[N, 10]`."""

    apply: learning.Apply
    params: Any
    digits: data.DataSet


def run(config: Config) -> Path:
    """All four parts; returns the path of the page."""
    report = Report(
        "demo",
        "Backpropagation, from one neuron to adversarial digits",
        lead="Every gradient on this page is fungrad's: of the lecture's example, of a network's "
        "parameters, and of its input.",
        config=config,
        folder=config.out,
    )
    console.print("[bold]1 · the lecture's example[/bold]")
    worked_example.show(report)

    console.print("[bold]2 · a network on digits[/bold]")
    trained, test = train(report, config)

    console.print("[bold]3 · fungrad against jax.grad[/bold]")
    differences = compare_gradients(report, trained)

    console.print("[bold]4 · gradients of the input[/bold]")
    visualize(report, config, trained)
    robust = attack(report, config, trained)
    report.cards(
        {
            "test accuracy of the network": f"{test['accuracy']:.2%}",
            **{
                f"largest difference from jax.grad, {name}": shown(max(differences[name].values()))
                for name in ("float32", "float64")
            },
        },
        top=True,
    )
    return report.finish({"test": test, "gradient_differences": differences, "robust": robust})


# --- 2: training --------------------------------------------------------------------------------


def train(report: Report, config: Config) -> tuple[Trained, dict[str, float]]:
    digits = data.load("digits", images=True)
    epochs = config.epochs
    if config.smoke:
        digits, epochs = digits.first(SMOKE_EXAMPLES), 1
    initial_key, order_key = jax.random.split(jax.random.key(config.seed))
    apply, params = learning.build("cnn", digits, (), initial_key)
    descent = fg.descent.minimize(
        learning.cost_of(apply, digits),
        params,
        digits.train,
        optimizer=optax.adam(config.learning_rate),
        epochs=epochs,
        batch_size=config.batch_size,
        key=order_key,
        checkpoint=report.checkpoint(),
        progress=True,
    )
    trained = Trained(apply, descent.params, digits)
    measured = {
        part: learning.measures(apply, descent.params, digits, getattr(digits, part))
        for part in ("train", "test")
    }
    train_accuracy, accuracy = (measured[part]["accuracy"] for part in ("train", "test"))
    console.print(f"   test accuracy {accuracy:.2%}, training accuracy {train_accuracy:.2%}")

    report.section("A network learns digits")
    report.text(
        f"Two convolutions with ReLU and max-pooling, then a linear layer: "
        f"{learning.parameter_count(params):,} parameters, {len(digits.train.y):,} training and "
        f"{len(digits.test.y)} test images of 8 × 8 pixels (scikit-learn's `digits`). The cost is "
        f"the mean cross-entropy; its gradient is `fg.value_and_grad`'s, the step Adam's."
    )
    report.cards(
        {
            "test accuracy": f"{accuracy:.2%}",
            "training accuracy": f"{train_accuracy:.2%}",
            "parameters": f"{learning.parameter_count(params):,}",
            "steps": f"{len(descent.history):,}",
        }
    )
    figure, (loss_plot, confusion_plot) = figures.axes(2, width=11, height=4.6)
    figures.loss_curve(loss_plot, descent.history, epochs, "cross-entropy")
    predicted = learning.predictions(apply, descent.params, digits, digits.test.x)
    matrix = learning.confusion_matrix(np.asarray(digits.test.y), predicted, digits.outputs)
    figures.confusion(confusion_plot, matrix, digits.classes, title="Test digits")
    report.figure(
        "digits",
        figure,
        caption="Left, the cost of each mini-batch before its step. Right, how many test digits of "
        "each true class (row) were given each class (column).",
    )
    return trained, measured["test"]


# --- 3: the gradient, twice -----------------------------------------------------------------------


def compare_gradients(report: Report, trained: Trained) -> dict[str, dict[str, float]]:
    """max |fg.grad − jax.grad| of every parameter in float32 and float64, and with a wrong rule."""

    def wrong_relu(g: jax.Array, out: jax.Array, x: jax.Array) -> jax.Array:
        return 1.001 * jnp.where(x > 0, g, 0.0)

    wrong = fg.rules.replace({"relu": wrong_relu})
    differences = {
        "float32": gradient_differences(trained, "float32"),
        "float64": gradient_differences(trained, "float64"),
        "wrong rule": gradient_differences(trained, "float32", rules=wrong),
    }
    report.section("The same gradient as jax.grad")
    report.text(
        "The gradient of the trained network's cost on all test digits, by `fg.grad` and by "
        "`jax.grad`: the largest difference over the entries of each parameter. Zero means equal "
        "bit for bit: the same operations in the same order. The last column shows that a "
        "difference would be seen: there ReLU's rule is wrong by a factor of 1.001, "
        "`fg.grad(cost, rules=fg.rules.replace({'relu': wrong}))`."
    )
    rows = []
    for path, (largest, _) in differences["float64"].items():
        row: list[Any] = [f"`{path}`", f"{largest:.2e}"]
        for name, limit in (("float32", 1e-5), ("float64", 1e-13)):
            difference = differences[name][path][1]
            mark = good if difference <= limit * max(largest, 1e-3) else bad
            row.append(mark(shown(difference)))
        rows.append([*row, shown(differences["wrong rule"][path][1])])
    report.table(
        ["parameter", "largest entry", "float32", "float64", "wrong rule, float32"],
        rows,
        caption="Largest entry of the gradient, and largest difference between the two gradients. "
        "Both under `jax.jit`, at JAX's highest matrix precision. The last layer's gradient does "
        "not pass ReLU.",
    )
    only = {
        name: {path: difference for path, (_, difference) in each.items()}
        for name, each in differences.items()
    }
    for name, each in only.items():
        console.print(f"   largest difference, {name}: {shown(max(each.values()))}")
    return only


def shown(difference: float) -> str:
    return f"{difference:.1e}" if difference else "0"


def gradient_differences(
    trained: Trained, dtype: str, rules: fg.Rulebook | None = None
) -> dict[str, tuple[float, float]]:
    """{parameter: (largest entry, largest difference)} of the gradients in one precision."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        params, x = jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf), dtype=dtype),
            (trained.params, trained.digits.test.x),
        )
        batch = data.Examples(x, jnp.asarray(np.asarray(trained.digits.test.y)))
        cost = learning.cost_of(trained.apply, trained.digits)
        ours = jax.jit(fg.grad(cost, rules=rules))(params, batch)
        theirs = jax.jit(jax.grad(cost))(params, batch)
        pairs = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
        return {
            "params" + jax.tree_util.keystr(path): (
                float(jnp.abs(other).max()),
                float(jnp.abs(one - other).max()),
            )
            for (path, one), other in pairs
        }


# --- 4: gradients of the input --------------------------------------------------------------------


def visualize(report: Report, config: Config, trained: Trained) -> None:
    """The image that each logit likes best: argmax_x y_j(x) − λ R(x), one image per digit j."""
    classes = trained.digits.outputs
    ink = fg.inputs.penalties.total_variation + fg.inputs.penalties.l2

    def liked_best(weight: float) -> fg.inputs.Visualization:
        return fg.inputs.visualize(
            lambda x: trained.apply(trained.params, x),
            None,
            list(range(classes)),
            image=fg.inputs.Pixels(trained.digits.train.x.shape[1:]),
            penalty=weight * ink,
            steps=5 if config.smoke else config.visualization_steps,
            key=jax.random.key(config.seed),
            progress=True,
        )

    weights = (0.0, config.regularizer)
    seen = [liked_best(weight) for weight in weights]
    liked = np.concatenate([each.activation for each in seen])

    report.section("What each logit likes best")
    report.text(
        "The same gradient, of the input instead of the parameters: gradient ascent on an image, "
        "`argmax_x y_j(x) − λ R(x)`, by `fg.inputs.visualize`. R(x) = Σ |xᵢ − xⱼ| + Σ xᵢ², the "
        "first sum over neighbouring pixels, asks for few edges and little ink. After every step "
        "the pixels are put back into [0, 1]."
    )
    report.figure(
        "visualizations",
        figures.contact_sheet(
            np.concatenate([each.image for each in seen])[..., 0],
            [f"{index % classes}: {value:.0f}" for index, value in enumerate(liked)],
            columns=classes,
            rows=[f"λ = {weight:g}" for weight in weights],
        ),
        caption="One image per digit j; below it j and the logit y_j that it reaches. Without "
        "the penalty, above, most logits are higher and the images noisier.",
    )


def attack(report: Report, config: Config, trained: Trained) -> dict[str, float]:
    """Fast gradient sign: x' = x + ε sign(∂L/∂x), clipped to [0, 1]; L the cross-entropy."""
    apply, params, digits = trained.apply, trained.params, trained.digits
    x, y = digits.test

    def loss(x: jax.Array) -> jax.Array:
        return fg.losses.cross_entropy(apply(params, x), y).sum()

    sign = jnp.sign(jax.jit(fg.grad(loss))(x))

    def attacked(epsilon: float) -> jax.Array:
        return jnp.clip(x + epsilon * sign, 0.0, 1.0)

    logits = jax.jit(apply)
    epsilons = np.linspace(0.0, 0.4, 17)
    robust = [
        float(np.mean(np.asarray(logits(params, attacked(epsilon)).argmax(1) == y)))
        for epsilon in epsilons
    ]

    report.section("Small changes that mislead it")
    report.text(
        "Once more the gradient of the input, now of the loss: every pixel moves by ε in the "
        "direction that makes the loss grow, `x + ε sign(∂L/∂x)`, the fast gradient sign method."
    )
    report.figure(
        "adversarial",
        adversarial_sheet(trained, attacked(config.epsilon), logits),
        caption="The first test digit of each class that is read correctly; the change with "
        f"ε = {config.epsilon:g}, red where it adds ink, blue where it takes ink away; the changed "
        "image. Below each image the label that the network gives it, and its probability.",
    )
    figure, (plot,) = figures.axes(height=3.6)
    plot.plot(epsilons, 100 * np.asarray(robust), marker="o", markersize=4)
    plot.axvline(config.epsilon, color="#8a8a92", linewidth=1, linestyle="--")
    plot.set(xlabel="ε", ylabel="test accuracy in %", title="Accuracy under attack", ylim=(0, 102))
    report.figure(
        "robustness",
        figure,
        caption="The share of the test digits that is still read correctly when every pixel may "
        "change by ε; the dashed line marks the images above.",
    )
    return {f"{epsilon:g}": accuracy for epsilon, accuracy in zip(epsilons, robust, strict=True)}


def adversarial_sheet(
    trained: Trained, changed: jax.Array, logits: Callable[..., jax.Array]
) -> Any:
    x, y = trained.digits.test
    before = np.asarray(fg.layers.softmax(logits(trained.params, x)))
    after = np.asarray(fg.layers.softmax(logits(trained.params, changed)))
    label = np.asarray(y)
    right = before.argmax(axis=1) == label
    # Every class has such a digit unless the network has learnt nothing, as in a smoke run.
    shown = [
        np.flatnonzero(right & (label == digit))[:1] for digit in range(trained.digits.outputs)
    ]
    shown = np.concatenate(shown) if any(map(len, shown)) else np.arange(10)

    def captions(probabilities: np.ndarray) -> list[str]:
        rows = probabilities[shown]
        return [f"{row.argmax()} · {row.max():.0%}" for row in rows]

    fooled = after[shown].argmax(axis=1) != label[shown]
    red, plain = "#b3261e", "#222222"
    clean, moved = np.asarray(x)[shown, :, :, 0], np.asarray(changed)[shown, :, :, 0]
    count = len(shown)
    return figures.contact_sheet(
        np.concatenate([clean, moved - clean, moved]),
        captions(before) + [""] * count + captions(after),
        columns=count,
        colors=[plain] * 2 * count + [red if each else plain for each in fooled],
        signed=[False] * count + [True] * count + [False] * count,
        rows=["clean", "change", "attacked"],
    )


def main() -> None:
    command_line(run, Config, __doc__)


if __name__ == "__main__":
    main()
