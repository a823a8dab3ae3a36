"""Momentum: a heavy ball in a narrow valley, and on digits; it can help or hurt."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg
from experiments.common import data, figures
from experiments.common.report import Report, console
from experiments.optimizer_studies.digits import Config, descend

MOMENTA = (0.0, 0.5, 0.9, 0.99)
CURVATURES = (1.0, 25.0)


def valley(report: Report) -> dict[str, float]:
    """m ← α m + ∂J/∂θ,  θ ← θ − η m  in the valley J = ½ (θ₁² + 25 θ₂²)."""
    eta, start, steps = 0.02, jnp.array([-4.0, 1.5]), 150
    curvature = jnp.array(CURVATURES)

    def J(theta: jax.Array) -> jax.Array:
        return 0.5 * (curvature * jnp.square(theta)).sum()

    def path(alpha: float) -> np.ndarray:
        def step(state: Any, _: None) -> Any:
            theta, m = state
            m = alpha * m + fg.grad(J)(theta)
            return (theta - eta * m, m), theta

        _, thetas = jax.lax.scan(step, (start, jnp.zeros(2)), length=steps)
        return np.asarray(thetas)

    paths = {f"α = {alpha:g}": path(alpha) for alpha in MOMENTA}
    costs = {label: np.asarray(jax.vmap(J)(jnp.asarray(each))) for label, each in paths.items()}

    report.section("Momentum")
    report.text(
        "A heavy ball rolling downhill gains speed: `m ← α m + ∂J/∂θ`, `θ ← θ − η m`. Across the "
        "valley the steps cancel, along it they add up; with too much momentum the ball rolls "
        "past the minimum."
    )
    figure, (map_plot, cost_plot) = figures.axes(2, width=11, height=4)
    first, second = np.meshgrid(np.linspace(-4.5, 4.5, 200), np.linspace(-2, 2, 200))
    height = 0.5 * (CURVATURES[0] * first**2 + CURVATURES[1] * second**2)
    map_plot.contour(first, second, height, levels=np.geomspace(0.1, 60, 12), colors="#d5d8de")
    for index, (label, each) in enumerate(paths.items()):
        shown = each[:40]
        map_plot.plot(
            *shown.T, color=figures.COLORS[index], marker=".", markersize=4, lw=1, label=label
        )
    map_plot.plot(0, 0, marker="*", markersize=12, color="#222222")
    map_plot.set(xlabel="θ₁", ylabel="θ₂", title="The first 40 steps", ylim=(-2, 2))
    map_plot.legend(loc="lower right", ncols=2, fontsize=9)
    figures.curves(
        cost_plot, costs, xlabel="step", ylabel="J", title=f"Cost, η = {eta:g}", log=True
    )
    cost_plot.set_ylim(1e-7, 3e4)
    cost_plot.legend(loc="upper right", ncols=2)
    report.figure(
        "valley",
        figure,
        caption="Gradient descent with momentum α on J = ½ (θ₁² + 25 θ₂²), from θ = (−4, 1.5); the "
        "star is the minimum.",
    )
    return {label: float(cost[-1]) for label, cost in costs.items()}


def compare(report: Report, config: Config, digits: data.DataSet) -> dict[str, Any]:
    costs, rows = {}, []
    for alpha in MOMENTA[::2] if config.smoke else MOMENTA:
        console.print(f"[bold]momentum {alpha:g}[/bold]")
        optimizer = optax.sgd(config.learning_rate, momentum=alpha)
        cost, test = descend(config, digits, optimizer, min(64, len(digits.train.y)))
        costs[f"α = {alpha:g}"] = cost
        rows.append([f"{alpha:g}", float(cost[-1]), f"{test['accuracy']:.1%}"])
    figure, (plot,) = figures.axes(height=3.8)
    epochs = np.arange(1, config.epochs + 1)
    figures.curves(
        plot,
        {label: (epochs, cost) for label, cost in costs.items()},
        xlabel="epoch",
        ylabel="cost",
        title=f"Digits, batches of 64, η = {config.learning_rate:g}",
        log=True,
    )
    report.figure(
        "momentum",
        figure,
        caption="The same network with four strengths of momentum: the mean cost of the "
        "mini-batches of each epoch.",
    )
    report.table(["α", "cost in the last epoch", "test accuracy"], rows)
    return costs
