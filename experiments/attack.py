"""How little must an input change for a model to err, and do attacks find out?

    python -m experiments.attack                           # logistic regression, against the truth
    python -m experiments.attack --model mlp --norms inf
    python -m experiments.attack --model my.module:function

The models are trained here on scikit-learn's digits, as images in [0, 1]. Of logistic regression
the smallest change is known exactly, and every attack is judged by it. With
`--model package.module:function` the model is one of yours: the function returns a dictionary with
"model" (a function of a batch x[N, ...] such as a flax module, or (apply, params)), "x", "labels",
and "bounds" unless x lies in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fungrad as fg
from experiments.common import data, figures, learning, networks
from experiments.common.command import ExperimentError, choose, command_line
from experiments.common.report import Report, console
from fungrad.inputs import (
    DDN,
    FGSM,
    FMN,
    LBFGS,
    PGD,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    Exact,
    Misclassified,
)

NORMS = {"1": 1, "2": 2, "inf": float("inf")}
SIGNS = {"1": "L₁", "2": "L₂", "inf": "L∞"}
TRAINED = ("logistic", "mlp", "cnn")
TEST_SHARE = 397 / 1797  # 1400 digits to learn from, 397 to attack


@dataclass(frozen=True)
class Config:
    """Robust accuracy against the size of the change, and the smallest changes."""

    model: str = "logistic"
    """logistic, mlp, cnn, or package.module:function."""
    norms: tuple[str, ...] = ("inf", "2", "1")
    """Of inf, 2 and 1."""
    examples: int = 397
    """How many test examples are attacked."""
    sizes: int = 9
    """How many sizes ε each curve has."""
    steps: int = 40
    """Steps of each of PGD's five ascents."""
    autoattack: bool = True
    """AutoAttack takes most of the time; --no-autoattack leaves it out."""
    seed: int = 0
    """Of the model's training and of the attacks."""
    smoke: bool = False
    """A run of seconds that only shows that all parts work."""
    out: Path = Path("runs/attack")
    """The output folder."""


@dataclass(frozen=True)
class Victim:
    """A model and the examples with which it is attacked."""

    name: str
    model: Callable[[jax.Array], jax.Array]
    x: jax.Array
    labels: jax.Array
    bounds: tuple[float, float]
    about: str
    linear: bool = False


def run(config: Config) -> Path:
    """Train or fetch the model, attack it; returns the path of the page.

    Raises:
        ExperimentError: for an unknown model or norm, numbers out of range, or an output folder
            that cannot be written.
    """
    for norm in config.norms:
        choose("norms", norm, NORMS)
    for name in ("examples", "sizes", "steps"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"{name}: got {getattr(config, name)}, expected at least 1.")
    if ":" not in config.model:
        choose("model", config.model, TRAINED)
    if config.smoke:
        config = replace(
            config, examples=24, sizes=3, steps=5, norms=config.norms[:1], autoattack=False
        )
    report = Report(
        "attack",
        f"How little must change for a model to err? · {config.model}",
        lead="Adversarial attacks, `fg.inputs.attack`: the same gradients as in training, with "
        "respect to the input, in one compiled program over all examples.",
        config=config,
        folder=config.out,
    )
    victim = own(config) if ":" in config.model else trained(config)
    report.section("The model")
    report.text(victim.about)
    truths = {norm: truth(victim, norm) for norm in config.norms} if victim.linear else {}
    metrics: dict[str, Any] = {"robust_accuracy": robust(report, config, victim, truths)}
    metrics["distances"] = distances(report, config, victim, truths)
    sheet(report, config, victim)
    return report.finish(metrics)


# --- models -------------------------------------------------------------------------------------


def trained(config: Config) -> Victim:
    """One of the models that are trained here on digits."""
    digits = data.load("digits", images=True, test_fraction=TEST_SHARE)
    flat = config.model != "cnn"
    if flat:
        parts = (
            data.Examples(part.x.reshape(len(part.x), -1), part.y)
            for part in (digits.train, digits.test)
        )
        digits = replace(digits, **dict(zip(("train", "test"), parts, strict=True)))
    start, order = jax.random.split(jax.random.key(config.seed))
    apply, params = learning.build(config.model, digits, (64,), start)
    console.print(f"a {config.model} model learns {len(digits.train.y):,} digits")
    descent = fg.descent.minimize(
        learning.cost_of(apply, digits),
        params,
        digits.train,
        optimizer=learning.optimizer("adam", 0.01 if flat else 0.002),
        epochs=2 if config.smoke else 40,
        batch_size=64,
        key=order,
        progress=True,
    )
    right = learning.measures(apply, descent.params, digits, digits.test)["accuracy"]
    test = digits.first(config.examples).test
    return Victim(
        config.model,
        lambda x: apply(descent.params, x),
        test.x,
        test.y,
        (0.0, 1.0),
        f"`{config.model}`, trained on {len(digits.train.y):,} digits of 8 × 8 pixels in [0, 1]; "
        f"{right:.1%} of the {len(digits.test.y)} test digits are read correctly.",
        linear=config.model == "logistic",
    )


def own(config: Config) -> Victim:
    """The user's model and examples.

    Raises:
        ExperimentError: the function is missing, or does not return them.
    """
    made = networks.imported(config.model)
    if not isinstance(made, dict) or not {"model", "x", "labels"} <= set(made):
        raise ExperimentError(
            f"model: {config.model} must return a dictionary with 'model', 'x' and 'labels', "
            f"got {type(made).__name__}."
        )
    model = networks.as_model(config.model, made["model"])
    x, labels = (jnp.asarray(made[name])[: config.examples] for name in ("x", "labels"))
    bounds = tuple(made.get("bounds", (0.0, 1.0)))
    about = f"Your model `{config.model}`, attacked at {len(x)} examples."
    return Victim(config.model, model, x, labels, bounds, about)


def attack(config: Config, victim: Victim, method: Any, epsilons: Any = None) -> fg.inputs.Attack:
    """The attack on the victim's own labels."""
    console.print(f"{type(method).__name__}, norm {method.norm:g}")
    return fg.inputs.attack(
        victim.model,
        victim.x,
        Misclassified(victim.labels),
        method,
        epsilons,
        bounds=victim.bounds,
        key=jax.random.key(config.seed),
    )


def truth(victim: Victim, norm: str) -> Exact:
    """The exact distances of a linear model."""
    return fg.inputs.exact(
        victim.model, victim.x, Misclassified(victim.labels), NORMS[norm], bounds=victim.bounds
    )


# --- robust accuracy ------------------------------------------------------------------------------


def robust(
    report: Report, config: Config, victim: Victim, truths: dict[str, Exact]
) -> dict[str, Any]:
    """Curves of robust accuracy; for a linear model with the true one, and a table at quartiles."""
    report.section("Robust accuracy")
    figure, plots = figures.axes(len(config.norms), width=1 + 3.6 * len(config.norms), height=3.8)
    metrics, rows = {}, []
    for plot, norm in zip(plots, config.norms, strict=True):
        nearest = attack(config, victim, DeepFool(norm=NORMS[norm]))
        moved = np.asarray(nearest.distance[0], np.float64)
        moved = np.where(np.asarray(nearest.success[0]), moved, np.inf)
        if norm in truths:
            moved = truths[norm].distance
        ends = np.quantile(moved, [0.25, 0.5, 0.75, 0.98], method="inverted_cdf")
        ends = np.where(np.isfinite(ends), ends, 1.0)
        grid = np.linspace(0, 1.05 * ends[3], config.sizes)
        sizes = np.concatenate([grid, ends[:3]])
        methods = [FGSM(norm=NORMS[norm])]
        methods += [PGD(norm=NORMS[norm], steps=config.steps, restarts=5)]
        methods += [AutoAttack(norm=NORMS[norm])] if config.autoattack else []
        if norm in truths:
            dense = np.linspace(0, grid[-1], 400)
            plot.plot(
                dense, truths[norm].robust_accuracy(dense), color=figures.COLORS[0], label="exact"
            )
        for method, mark, color in zip(methods, "^ox", figures.COLORS[1:], strict=False):
            found = np.asarray(attack(config, victim, method, sizes).robust_accuracy)
            name = type(method).__name__
            style = {"linestyle": "none", "marker": mark, "fillstyle": "none", "color": color}
            plot.plot(grid, found[: config.sizes], label=name, **style)
            metrics[f"{name}, {norm}"] = found[config.sizes :]
            row = [SIGNS[norm], name, *(f"{each:.3f}" for each in found[config.sizes :])]
            rows.append(row)
        if norm in truths:
            true = truths[norm].robust_accuracy(ends[:3])
            rows.append([SIGNS[norm], "exact", *(f"{each:.3f}" for each in true)])
        plot.set(xlabel=f"ε, {SIGNS[norm]}", ylabel="robust accuracy", title=SIGNS[norm])
        plot.legend()
        plot.set_ylim(-0.03, 1.03)
    told = "Blue: the truth. " if truths else ""
    report.figure(
        "curves",
        figure,
        caption=f"{told}The share of {len(victim.x)} examples that an attack leaves right, against "
        "the size ε of the change that it may make, inside the bounds. The lower a mark, the "
        "better the attack; none can be below the truth.",
    )
    report.table(
        ["norm", "attack", "ε₁", "ε₂", "ε₃"],
        rows,
        caption="Robust accuracy at three sizes, which are quartiles of the distances to the "
        + ("boundary: exact ones." if truths else "boundary that DeepFool finds."),
    )
    return metrics


def distances(
    report: Report, config: Config, victim: Victim, truths: dict[str, Exact]
) -> dict[str, Any]:
    """How long the changes of the minimum-norm methods are, against the exact ones if known."""
    methods = [DeepFool(), DDN(), CarliniWagner(), LBFGS(), FMN(), FMN(norm=1)]
    methods = [each for each in methods if f"{each.norm:g}" in config.norms]
    if config.smoke:
        methods = [FMN(norm=NORMS[config.norms[0]], steps=5)]
    if not methods:
        return {}
    rows, metrics = [], {}
    for method in methods:
        found = attack(config, victim, method)
        success, norm = np.asarray(found.success[0]), f"{method.norm:g}"
        moved = np.asarray(found.distance[0], np.float64)
        name = f"{type(method).__name__}, {SIGNS[norm]}"
        row = [name, f"{success.mean():.1%}", f"{np.median(moved[success]):.4g}"]
        metrics[name] = {"success": success.mean(), "median": np.median(moved[success])}
        if norm in truths:
            exact = truths[norm].distance
            ratio = (moved / np.where(exact > 0, exact, 1))[success & (exact > 0)]
            row += [f"{np.median(ratio):.6f}", f"{ratio.max():.4f}"]
            metrics[name] |= {"ratio": np.median(ratio), "largest_ratio": ratio.max()}
        rows.append(row)
    report.section("The smallest changes")
    known = ["over exact, median", "over exact, largest"] if truths else []
    report.table(
        ["method", "success", "median distance", *known],
        rows,
        caption="Minimum-norm methods: how far the change goes that each finds.",
    )
    return metrics


def sheet(report: Report, config: Config, victim: Victim) -> None:
    """Images, their smallest changes in each norm, and what the model sees then."""
    images = np.asarray(victim.x).reshape(len(victim.x), -1)
    side = round(images.shape[1] ** 0.5)
    if side * side != images.shape[1]:
        return  # colour, or no image at all
    right = np.asarray(victim.model(victim.x)).argmax(axis=1) == np.asarray(victim.labels)
    shown = np.flatnonzero(right)[:8]
    if not len(shown):
        return
    low, high = victim.bounds
    pictures, captions, colors, signed, rows = [], [], [], [], ["clean"]
    pictures += list((images[shown] - low) / (high - low))
    captions += [str(victim.labels[index]) for index in shown]
    colors += ["#222222"] * len(shown)
    signed += [False] * len(shown)
    chosen = replace(victim, x=victim.x[shown], labels=victim.labels[shown])
    for norm in config.norms:
        method = FMN(norm=NORMS[norm], steps=5 if config.smoke else 200)
        found = attack(config, chosen, method)
        moved = np.asarray(found.x[0]).reshape(len(shown), -1)
        classes = np.asarray(victim.model(found.x[0])).argmax(axis=1)
        pictures += list(moved - images[shown]) + list((moved - low) / (high - low))
        captions += [f"{length:.2g}" for length in found.distance[0]]
        captions += [str(each) for each in classes]
        colors += ["#222222"] * len(shown) + ["#b3261e"] * len(shown)
        signed += [True] * len(shown) + [False] * len(shown)
        rows += [f"{SIGNS[norm]} change", f"{SIGNS[norm]} attacked"]
    report.section("What it looks like")
    report.figure(
        "images",
        figures.contact_sheet(
            np.array(pictures).reshape(-1, side, side),
            captions,
            columns=len(shown),
            colors=colors,
            signed=signed,
            rows=rows,
        ),
        caption="The smallest changes that FMN finds, with their lengths (red adds ink, blue takes "
        "it away, each in its own scale), and the class that the model then sees. L∞ changes "
        "all pixels by the same little, L₁ few pixels by much.",
    )


def main() -> None:
    command_line(run, Config, __doc__)


if __name__ == "__main__":
    main()
